"""Two runs put side by side: which requests are whose, from when each counts, and what they have in common.

Arms that ran at the same time keep their common clock. Runs made one after the other are each counted from their first
request; what the machine did in between is then part of the difference. Either way only the time that both have counts:
of the longer run the rest is left out, and how much of it failed is kept. Levels of load (perf_analyzer's experiments)
are stages, compared one by one.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from harness.recording.imported import Imported, ImportedArm
from harness.recording.importers.run import Run
from harness.recording.schema import SAMPLES
from harness.types import ArmName, StagePlan, StageRecord

# Side by side are runs whose shorter one lies this far within the other.
TOGETHER = 0.9
_TIMES = ("due_ns", "sent_ns", "first_ns", "done_ns")
_ARMS: tuple[ArmName, ArmName] = ("baseline", "candidate")
_BETWEEN_NS = 1_000_000_000

Ints = npt.NDArray[np.int64]
Source = tuple[Path, Run]


class _Part(NamedTuple):
    """One arm in one stage; `at_ns`: what puts a request in its place, due, else sent, else done."""

    samples: pa.Table
    at_ns: Ints

    @property
    def failed(self) -> Any:
        return pc.invert(pc.is_in(self.samples["status"], value_set=pa.array(["ok", "cancelled"]))).to_numpy()


def align(baseline: Source, candidate: Source) -> tuple[pa.Table, dict[str, Any]]:
    """Samples of both arms on one clock, and the meta of such a recording: `imported`, `stages`, `finished`."""
    sources = dict(zip(_ARMS, (baseline, candidate), strict=True))
    mine = {arm: _mine(run.samples, arm) for arm, (_, run) in sources.items()}
    one_clock = baseline[0] == candidate[0] or all(run.epoch for _, run in sources.values())
    known = {arm: _arm(path, run, arm) for arm, (path, run) in sources.items()}
    together, tables, records, begin = True, [], [], 0
    indices = np.unique(np.concatenate([table["stage"].to_numpy() for table in mine.values()])).tolist()
    for index in indices:
        parts = {arm: _part(table, index) for arm, table in mine.items()}
        origins, length, side_by_side = _common(parts, one_clock)
        together &= side_by_side
        placed = []
        for arm, part in parts.items():
            kept = (part.at_ns >= origins[arm]) & (part.at_ns <= origins[arm] + length)
            placed.append(_moved(part.samples.filter(pa.array(kept)), arm, max(index, 0), begin - origins[arm]))
            left, failed = int((~kept).sum()), int((part.failed & ~kept).sum())
            of = known[arm]
            known[arm] = replace(of, left_out=of.left_out + left, left_out_failed=of.left_out_failed + failed)
        tables += placed
        records.append(_record(max(index, 0), begin, len(indices), placed))
        begin = (records[-1].end_ns or begin) + _BETWEEN_NS
    meta = {
        "imported": Imported(known, together).meta(),
        "stages": [asdict(record) for record in records],
        "finished": True,
    }
    return pa.concat_tables(tables).combine_chunks(), meta


def names_both(samples: pa.Table) -> bool:
    return set(pc.unique(samples["arm"]).to_pylist()) >= set(_ARMS)


def _mine(samples: pa.Table, arm: ArmName) -> pa.Table:
    """The rows of `arm` in a file that names both; all of any other."""
    return samples.filter(pc.equal(samples["arm"], arm)) if names_both(samples) else samples


def _arm(path: Path, run: Run, arm: ArmName) -> ImportedArm:
    notes = run.notes
    if arm == _ARMS[0] and names_both(run.samples):
        others = int(pc.sum(pc.invert(pc.is_in(run.samples["arm"], value_set=pa.array(_ARMS)))).as_py())
        notes += (f"{others} of its requests name neither arm and are left out",) if others else ()
    return ImportedArm(path.name, run.tool, run.loads, run.tokens, notes, run.step_ns, run.loses)


def _part(samples: pa.Table, stage: int) -> _Part:
    part = samples.filter(pc.equal(samples["stage"], stage))
    due, sent, done = (part[name].to_numpy() for name in ("due_ns", "sent_ns", "done_ns"))
    return _Part(part, np.where(due >= 0, due, np.where(sent >= 0, sent, done)))


def _common(parts: dict[ArmName, _Part], one_clock: bool) -> tuple[dict[ArmName, int], int, bool]:
    """From when each arm counts, for how long (ns), and whether both ran at the same time."""
    spans = {arm: (int(part.at_ns.min()), int(part.at_ns.max())) for arm, part in parts.items() if len(part.at_ns)}
    if len(spans) < 2:
        begin, end = next(iter(spans.values()))
        return dict.fromkeys(parts, begin), end - begin, one_clock
    begin, end = max(first for first, _ in spans.values()), min(last for _, last in spans.values())
    shorter = min(last - first for first, last in spans.values())
    if one_clock and end - begin >= TOGETHER * shorter:
        return dict.fromkeys(parts, begin), end - begin, True
    return {arm: first for arm, (first, _) in spans.items()}, shorter, False


def _moved(samples: pa.Table, arm: ArmName, stage: int, by_ns: int) -> pa.Table:
    """Times that are known moved by `by_ns`, arm and stage set."""
    columns = {name: samples[name] for name in SAMPLES.names}
    for name in _TIMES:
        time = samples[name].to_numpy()
        columns[name] = pa.array(np.where(time >= 0, np.maximum(time + by_ns, 0), -1))
    rows = samples.num_rows
    columns |= {"arm": pa.repeat(arm, rows), "stage": pa.array(np.full(rows, stage, np.int32))}
    return pa.table(columns, schema=SAMPLES)


def _record(index: int, begin: int, stages: int, arms: list[pa.Table]) -> StageRecord:
    """A stage of equal load in which neither rate nor slots are known, so nothing is held against a plan."""
    first, second = (arm.num_rows for arm in arms)
    end = max((int(pc.max(arm["done_ns"]).as_py()) for arm in arms if arm.num_rows), default=begin)
    plan = StagePlan(
        index, "interleaved", "closed", max((end - begin) / 1e9, 1e-9), second / max(first + second, 1), series=stages
    )
    return StageRecord(plan, begin, end_ns=end)
