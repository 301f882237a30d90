"""What a running recording says so far: the rows that are on disk, never what is only in memory.

The judge looks at exactly what `judge DIR` would see later, so that a decision made live can be made again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from harness.judge import Evidence
from harness.recording import PartsTail, Recording
from harness.run.folder import RunFolder
from harness.types import ArmName, ArmStatus

RECENT_NS = 15_000_000_000
# What the judge and this module read of a sample; the rest of it would be most of the memory that a long run takes.
_COLUMNS = (
    "arm",
    "stage",
    "pair_id",
    "assignment",
    "due_ns",
    "sent_ns",
    "first_ns",
    "done_ns",
    "status",
    "error",
    "version",
    "osl",
    "worker",
)


class Watch:
    """Follows samples, outputs and readings of a run that is under way, from all who write them."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._samples = PartsTail(folder.path, "samples", _COLUMNS)
        self._outputs = PartsTail(folder.path, "outputs")
        self._readings = PartsTail(folder.path, "readings")
        self.poll()

    def poll(self) -> None:
        """Take in what was flushed since the last call."""
        # Outputs after samples: an acknowledged sample has its output on disk.
        for tail in (self._samples, self._outputs, self._readings):
            tail.poll()
        self.samples: pa.Table = self._samples.table
        self.outputs: pa.Table = self._outputs.table
        self.readings: pa.Table = self._readings.table

    def close(self) -> None:
        for tail in (self._samples, self._outputs, self._readings):
            tail.close()

    @property
    def seen_ns(self) -> int:
        """The end of the last request that is on disk; 0 before the first."""
        return int(pc.max(self.samples["done_ns"]).as_py() or 0)

    def evidence(self) -> Evidence:
        """The same evidence that `Recording.open` gives once the run is over."""
        return Evidence.of(Recording(self._folder.path, self._folder.meta, self.samples, self.outputs, self.readings))

    def served(self, arm: ArmName, since_ns: int) -> int:
        """Requests of an arm that were sent after `since_ns` and answered well."""
        mask = pc.and_(
            pc.and_(pc.equal(self.samples["arm"], arm), pc.greater(self.samples["sent_ns"], since_ns)),
            pc.equal(self.samples["status"], "ok"),
        )
        return int(pc.sum(mask).as_py() or 0)

    def arm_status(self, arm: ArmName, stage: int, now_ns: int) -> ArmStatus:
        """Counts of the stage so far; rate and latencies of the last 15 s."""
        rows = self._columns(arm, stage)
        if not len(rows["done_ns"]):
            return ArmStatus()
        since_ns = max(now_ns - RECENT_NS, int(rows["due_ns"].min()))
        recent = rows["done_ns"] >= since_ns
        ok = recent & (rows["status"] == "ok")
        ttft = (rows["first_ns"] - rows["sent_ns"])[ok & (rows["first_ns"] >= 0)]
        many = ok & (rows["osl"] > 1) & (rows["first_ns"] >= 0)
        tpot = (rows["done_ns"] - rows["first_ns"])[many] / (rows["osl"][many] - 1)
        response = (rows["done_ns"] - rows["due_ns"])[ok]
        return ArmStatus(
            sent=len(recent),
            failed=int((rows["status"] != "ok").sum()),
            rate=float(recent.sum() / max((now_ns - since_ns) / 1e9, 1e-9)),
            ttft_p50=_quantile_s(ttft, 0.5) if many.any() else None,
            tpot_p50=_quantile_s(tpot, 0.5),
            response_p50=_quantile_s(response, 0.5),
            response_p90=_quantile_s(response, 0.9),
        )

    def _columns(self, arm: ArmName, stage: int) -> dict[str, np.ndarray[Any, Any]]:
        mask = pc.and_(
            pc.and_(pc.equal(self.samples["arm"], arm), pc.equal(self.samples["stage"], stage)),
            pc.not_equal(self.samples["assignment"], "score"),
        )
        names = ("due_ns", "sent_ns", "first_ns", "done_ns", "status", "osl")
        rows = self.samples.select(names).filter(mask)
        return {name: rows[name].to_numpy() for name in names}


def _quantile_s(values_ns: np.ndarray[Any, Any], q: float) -> float | None:
    return float(np.quantile(values_ns, q)) / 1e9 if len(values_ns) else None
