"""What is judged at the end: samples where there are any and not too many of them, else counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

import pyarrow.compute as pc

from harness.judge.columns import BASELINE, CANDIDATE
from harness.judge.evidence import Evidence, bare_plan
from harness.judge.metrics import RESOURCES, is_latency, normalise
from harness.judge.sketched.counts import StageCounts
from harness.judge.sketched.passing import counted
from harness.judge.sketched.reading import COLUMNS
from harness.judge.sketched.tables import HUNDREDTHS, stage_counts
from harness.judge.sketched.view import CountedEvidence
from harness.judge.view import ALONE, WARM_UP, role_of
from harness.recording import Recording
from harness.recording.schema import BLOCK_NS
from harness.types import Gate, StagePlan, StageRecord

MOST_SAMPLES = 2_000_000
"""More of them are counted in bins, in one pass, where every gate can be judged so."""


def evidence_of(recording: Recording, gates: Sequence[Gate] | None = None) -> Evidence:
    """Of a run that is over. `gates`: in place of the run's own. Raises UsageError for a wrong gate."""
    if recording.sketches is not None and recording.sums is not None:
        return _of_sketches(recording, gates)
    if recording.rows > MOST_SAMPLES:
        known = _with(Evidence.of(replace(recording, samples=recording.samples.slice(0, 0), large=None)), gates)
        if countable(known):
            return _of_many(recording, known)
    return _with(Evidence.of(recording.whole()), gates)


def _with(evidence: Evidence, gates: Sequence[Gate] | None) -> Evidence:
    return evidence if gates is None else replace(evidence, gates=normalise(gates))


def countable(evidence: Evidence) -> bool:
    """Whether counts tell all that samples tell: of stages that compare, and gates on what is compared there; not of
    another tool's recording, whose gaps are judged of its requests.
    """
    if evidence.imported is not None:
        return False
    records = sorted(evidence.stages, key=lambda record: record.plan.index)
    for record in records:
        compares = record.plan.mode != "sequential" and role_of(records, record)[0] == "comparison"
        if record.plan.purpose == ALONE or not (compares or record.plan.purpose in ("deploy", WARM_UP)):
            return False
    return all(
        gate.metric in ("errors", "errors.objective", "osl", *RESOURCES[:1])
        or (is_latency(gate.metric) and not gate.metric.startswith("icl.") and gate.limit is None)
        for gate in evidence.gates
    )


def _of_many(recording: Recording, known: Evidence) -> Evidence:
    passed = counted(recording.batches(COLUMNS), known.stages, known.gates)
    text = f"{passed.rows} samples are more than {MOST_SAMPLES}: they were counted in {passed.bins}"
    stages = known.stages or tuple(_bare(index, stage.counts, stage.begin_ns) for index, stage in passed.stages.items())
    return _counted(known, stages, {index: stage.counts for index, stage in passed.stages.items()}, text)


def _of_sketches(recording: Recording, gates: Sequence[Gate] | None) -> Evidence:
    assert recording.sketches is not None
    assert recording.sums is not None
    known = _with(Evidence.of(recording), gates)
    sketches, sums, stages = recording.sketches, recording.sums, list(known.stages)
    found = {r.plan.index: stage_counts(sketches, sums, r) for r in stages}
    if not stages:
        for index in sorted(pc.unique(sums["stage"]).to_pylist()):
            begin = int(pc.min(sums.filter(pc.equal(sums["stage"], index))["block"]).as_py())
            unplanned = StageRecord(StagePlan(index, "split", "poisson", 0.0, 0.5), begin * BLOCK_NS)
            found[index] = stage_counts(sketches, sums, unplanned, begin=begin)
            stages.append(_bare(index, found[index], begin * BLOCK_NS))
    text = (
        f"there are no samples: judged from sketches, which count times in {HUNDREDTHS.name} and cells of "
        f"{BLOCK_NS / 1e9:g} s"
    )
    return _counted(known, tuple(stages), found, text)


def _counted(
    known: Evidence, stages: tuple[StageRecord, ...], counts: Mapping[int, StageCounts], text: str
) -> CountedEvidence:
    values = {field.name: getattr(known, field.name) for field in fields(Evidence)}
    return CountedEvidence(**{**values, "stages": stages}, counts=dict(counts), told=text)


def _bare(index: int, counts: StageCounts, begin_ns: int) -> StageRecord:
    """As of samples without a plan."""
    n1, n2 = counts.requests(BASELINE), counts.requests(CANDIDATE)
    plan = bare_plan(index, (n1, n2), counts.pairs[1], max((counts.last_ns - begin_ns) / 1e9, 1e-9))
    return StageRecord(plan, begin_ns, end_ns=counts.last_ns)
