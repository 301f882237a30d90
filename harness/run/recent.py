"""The figures of the live view. What they cost depends on the last seconds of a run, and not on how long it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from harness.types import ArmName, ArmStatus

RECENT_NS = 15_000_000_000
_NAMES = ("due_ns", "sent_ns", "first_ns", "done_ns", "status", "osl")


@dataclass(slots=True)
class _Counts:
    """Of one arm in one stage, from its first request on."""

    sent: int = 0
    failed: int = 0
    first_due_ns: int = np.iinfo(np.int64).max


class Recent:
    """`seen_ns`: the end of the last request so far; 0 before the first."""

    def __init__(self) -> None:
        self.seen_ns = 0
        self._counts: dict[tuple[str, int], _Counts] = {}
        self._rows: pa.Table | None = None

    def add(self, rows: pa.Table) -> None:
        """More samples. Those that score given tokens count for `seen_ns` only."""
        if not rows.num_rows:
            return
        self.seen_ns = max(self.seen_ns, pc.max(rows["done_ns"]).as_py())
        rows = rows.filter(pc.not_equal(rows["assignment"], "score")).select(("arm", "stage", *_NAMES))
        failed = pc.cast(pc.not_equal(rows["status"], "ok"), pa.int64())
        groups = rows.select(("arm", "stage", "due_ns")).append_column("failed", failed).group_by(("arm", "stage"))
        for one in groups.aggregate([("due_ns", "min"), ("due_ns", "count"), ("failed", "sum")]).to_pylist():
            counts = self._counts.setdefault((one["arm"], one["stage"]), _Counts())
            counts.sent += one["due_ns_count"]
            counts.failed += one["failed_sum"]
            counts.first_due_ns = min(counts.first_due_ns, one["due_ns_min"])
        together = rows if self._rows is None else pa.concat_tables([self._rows, rows])
        # A filter copies, so nothing of what was read before is held on to.
        self._rows = together.filter(pc.greater_equal(together["done_ns"], self.seen_ns - RECENT_NS))

    def failed(self, arm: ArmName, stage: int) -> int:
        """Of the stage so far."""
        counts = self._counts.get((arm, stage))
        return counts.failed if counts else 0

    def status(self, arm: ArmName, stage: int, now_ns: int) -> ArmStatus:
        """Counts of the stage so far; rate and latencies of the last 15 s."""
        counts = self._counts.get((arm, stage))
        if counts is None or self._rows is None:
            return ArmStatus()
        since_ns = max(now_ns - RECENT_NS, counts.first_due_ns)
        rows = self._columns(arm, stage, since_ns)
        ok = rows["status"] == "ok"
        tokens = ok & (rows["first_ns"] >= 0)
        many = tokens & (rows["osl"] > 1)
        tpot = (rows["done_ns"] - rows["first_ns"])[many] / (rows["osl"][many] - 1)
        response = (rows["done_ns"] - rows["due_ns"])[ok]
        return ArmStatus(
            sent=counts.sent,
            failed=counts.failed,
            rate=len(ok) / max((now_ns - since_ns) / 1e9, 1e-9),
            ttft_p50=_quantile_s((rows["first_ns"] - rows["sent_ns"])[tokens], 0.5) if many.any() else None,
            tpot_p50=_quantile_s(tpot, 0.5),
            response_p50=_quantile_s(response, 0.5),
            response_p90=_quantile_s(response, 0.9),
        )

    def _columns(self, arm: ArmName, stage: int, since_ns: int) -> dict[str, np.ndarray[Any, Any]]:
        assert self._rows is not None
        mask = pc.and_(
            pc.and_(pc.equal(self._rows["arm"], arm), pc.equal(self._rows["stage"], stage)),
            pc.greater_equal(self._rows["done_ns"], since_ns),
        )
        rows = self._rows.select(_NAMES).filter(mask)
        return {name: rows[name].to_numpy() for name in _NAMES}


def _quantile_s(values_ns: np.ndarray[Any, Any], q: float) -> float | None:
    return float(np.quantile(values_ns, q)) / 1e9 if len(values_ns) else None
