"""The evidence of a run over time: what the judge would have said at moments of each stage, for those who ask why.

It decides nothing: the verdict is there already, and the last look of every stage is the one in it. A look sees what
was done by its moment and no more, as one that is made while the run goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from harness.judge.evidence import Evidence
from harness.judge.looks import end_of
from harness.judge.sketched.view import CountedEvidence
from harness.judge.stage import judge_stage
from harness.types import Look, StageRecord, StageVerdict, Verdict

MOST = 12
_SHORTEST_NS = 50_000_000
"""Between two looks; a failure may be plain within a second."""
_MOST_STAGES = 4
"""More of them than so many share the looks of so many."""
_MOST_ROWS = 300_000
"""So many samples are looked at in all looks of a stage together: of a large stage there are few looks, or none."""


def evidence_over_time(evidence: Evidence, verdict: Verdict, most: int = MOST) -> tuple[Look, ...]:
    """Looks at up to `most` moments of every stage of the scenario, evenly apart, in order of time; the last of a stage
    is its verdict. Stages in which the candidate is brought, warm-ups and the like have none.

    () of evidence that is counts: they tell nothing of a moment within a stage. The work is bounded, whatever was
    recorded.
    """
    if isinstance(evidence, CountedEvidence):
        return ()
    final = {stage.stage: stage for stage in verdict.stages}
    records = [r for r in evidence.stages if r.plan.purpose == "compare" and r.plan.index in final]
    records.sort(key=lambda record: record.plan.index)
    most = min(most, most * _MOST_STAGES // max(len(records), 1))
    evidence = replace(evidence, settled_ns=None)  # when a rollback was through is not known before it is
    found: list[Look] = []
    for record in records:
        found += _stage(evidence, record, final[record.plan.index], most)
    return tuple(found)


def _stage(evidence: Evidence, record: StageRecord, verdict: StageVerdict, most: int) -> Iterator[Look]:
    planned_s, begin_s = record.plan.duration_s, record.begin_ns / 1e9
    horizon = record.begin_ns + round(planned_s * 1e9)
    decided = record.decided_ns
    live = decided is not None and decided < horizon
    end = decided if live and decided is not None else end_of(evidence, record)
    for at_ns in _moments(evidence, record, end, most):
        look = judge_stage(evidence, record.plan.index, now_ns=at_ns)
        yield Look((at_ns - record.begin_ns) / 1e9, planned_s, look, begin_s=begin_s)
    yield Look(
        (end - record.begin_ns) / 1e9, planned_s, verdict, decides=live, live=live, end=not live, begin_s=begin_s
    )


def _moments(evidence: Evidence, record: StageRecord, end: int, most: int) -> Sequence[int]:
    """Those before the end; as many as the samples of the stage and of those before it allow."""
    mine = int((evidence.samples.stage == record.plan.index).sum())
    before = int((evidence.samples.stage < record.plan.index).sum())
    count = min(most, (end - record.begin_ns) // _SHORTEST_NS, _MOST_ROWS // max(before + mine // 2, 1))
    if count < 2:
        return ()
    return [int(at) for at in np.linspace(record.begin_ns, end, int(count) + 1)[1:-1]]
