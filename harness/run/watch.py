"""What a running recording says so far: the rows that are on disk, never what is only in memory.

The judge looks at exactly what `judge DIR` would see later, so that a decision made live can be made again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from harness.judge import Evidence
from harness.recording import SCHEMAS, Recording, Tail, stream_path
from harness.run.folder import RunFolder
from harness.types import ArmName, ArmStatus

RECENT_NS = 15_000_000_000


class Watch:
    """Follows samples, outputs and readings of a run that is under way."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        names = ("samples", "outputs", "readings")
        self._tails = {name: Tail(stream_path(folder.path, name), SCHEMAS[name]) for name in names}
        self.samples: pa.Table = SCHEMAS["samples"].empty_table()
        self.outputs: pa.Table = SCHEMAS["outputs"].empty_table()
        self.readings: pa.Table = SCHEMAS["readings"].empty_table()

    def poll(self) -> None:
        """Take in what was flushed since the last call."""
        self.samples = pa.concat_tables([self.samples, self._tails["samples"].poll()])
        self.outputs = pa.concat_tables([self.outputs, self._tails["outputs"].poll()])
        self.readings = pa.concat_tables([self.readings, self._tails["readings"].poll()])

    def close(self) -> None:
        for tail in self._tails.values():
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
