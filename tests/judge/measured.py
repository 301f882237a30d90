"""Open and closed loops with a known measurement: when requests left, who sent them, what was read meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from harness.judge import Evidence
from harness.judge.evidence import LoadWorker
from harness.recording.schema import READINGS
from harness.types import Finding, Gate, StagePlan, StageRecord, StageVerdict
from tests.judge.worlds import VERSIONS, S, bulk, table

Floats = np.ndarray


@dataclass
class Stage:
    """One finished stage of `seconds` at `rate` pairs (or requests) a second; arrays have one entry a pair.

    `lag`: seconds by which each left late. `times`: what baseline and candidate took from then. Change the arrays
    before `evidence()`.
    """

    seed: int = 0
    rate: float = 50.0
    seconds: float = 60.0
    took: float = 0.05
    ratio: float = 1.0
    workers: int = 1
    mode: str = "paired"
    arrival: str = "poisson"
    in_flight: int | None = None
    gates: tuple[Gate, ...] = (Gate("errors"), Gate("response_time.p50", margin=0.10))
    more: Mapping[str, object] = field(default_factory=dict)
    readings: list[tuple[object, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        n = round(self.rate * self.seconds)
        self.due = np.sort(self.rng.uniform(0, self.seconds, n))
        self.lag = np.abs(self.rng.normal(0, 5e-5, n))
        shared = self.rng.normal(0, 0.05, n)
        self.times = [self.took * ratio * np.exp(shared + self.rng.normal(0, 0.1, n)) for ratio in (1.0, self.ratio)]
        self.status = [np.full(n, "ok", object), np.full(n, "ok", object)]
        self.kept = np.ones(n, bool)
        self.worker = np.arange(n) % self.workers

    @property
    def n(self) -> int:
        return len(self.due)

    @property
    def plan(self) -> StagePlan:
        known: dict[str, object] = {"rate": self.rate} if self.in_flight is None else {"in_flight": self.in_flight}
        known |= self.more
        arrival = self.arrival if self.in_flight is None else "closed"
        return StagePlan(0, self.mode, arrival, self.seconds, 0.5, **known)  # type: ignore[arg-type]

    def read(self, source: str, device: str, metric: str, values: float | Sequence[float], unit: str = "1") -> None:
        """A reading a second, from the first second on; one value for all, or one each."""
        each = [values] * round(self.seconds) if isinstance(values, int | float) else values
        self.readings += [(round((i + 1) * S), source, device, metric, float(v), unit) for i, v in enumerate(each)]

    def table(self) -> pa.Table:
        arms = []
        for number, arm in enumerate(("baseline", "candidate")):
            mine = self.kept.copy()
            if self.mode != "paired":
                mine &= np.arange(self.n) % 2 == number
            sent = (self.due + self.lag)[mine]
            rows = bulk(arm, self.due[mine], np.zeros(int(mine.sum())), np.flatnonzero(mine))
            columns = {
                "sent_ns": np.round(sent * S).astype(np.int64),
                "done_ns": np.round((sent + self.times[number][mine]) * S).astype(np.int64),
                "worker": self.worker[mine],
                "status": self.status[number][mine].tolist(),
            }
            for name, values in columns.items():
                index = rows.schema.get_field_index(name)
                rows = rows.set_column(index, name, pa.array(values, rows.schema.field(name).type))
            arms.append(rows)
        return pa.concat_tables(arms)

    def evidence(self, *, workers: Sequence[LoadWorker] = (), devices: Mapping[str, str] | None = None) -> Evidence:
        whole = self.table()
        end = max(round(self.seconds * S), int(np.max(whole["done_ns"].to_numpy())) if whole.num_rows else 0)
        return Evidence.from_tables(
            whole,
            stages=[StageRecord(self.plan, 0, end_ns=end)],
            gates=self.gates,
            versions=VERSIONS,
            planned=1,
            readings=table(self.readings, READINGS),
            workers=workers,
            devices=devices or {"baseline": "m/1", "candidate": "m/2"},
        )


def faults(verdict: StageVerdict) -> dict[str, Finding]:
    """The checks of the measurement that say something, by name without `validity.`."""
    return {f.metric.removeprefix("validity."): f for f in verdict.findings if f.kind == "validity"}
