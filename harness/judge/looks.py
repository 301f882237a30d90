"""The looks of a run, made again on its recording: when would the judge have decided?

At each multiple of a step after a stage's begin the judge sees what was done by then and no more. The first look that
decides ends its stage, and a rollback the run. What a stage recorded after its decision is hidden from the stages that
follow, as if it had never been sent. A recording whose run decided live keeps that decision.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from harness.judge.evidence import Evidence
from harness.judge.stage import judge_stage
from harness.judge.verdict import conclude
from harness.types import Look, StageRecord, Verdict


@dataclass(frozen=True, slots=True)
class Replay:
    """`looks`: every one that was made, in order. `evidence`: what they saw, each stage ended where it was decided, and
    none after a rollback.
    """

    verdict: Verdict
    looks: tuple[Look, ...]
    evidence: Evidence


def replay(evidence: Evidence, step_ns: int) -> Replay:
    """Looks every `step_ns` in every stage. The verdict says when it was reached, where that was before the end."""
    looks: list[Look] = []
    ended: list[StageRecord] = []
    for record in sorted(evidence.stages, key=lambda record: record.plan.index):
        for at_ns, look in _stage(evidence, record, step_ns):
            looks.append(look)
            if look.decides and at_ns is not None:
                evidence = _hidden(evidence, record.plan.index, at_ns)
                record = replace(record, end_ns=at_ns, decided_ns=at_ns)
        ended.append(record)
        if looks[-1].verdict.verdict == "rollback":
            break
    evidence = replace(evidence, stages=tuple(ended))
    final = [look for look in looks if look.decides or look.end]
    verdict = conclude(evidence, [look.verdict for look in final])
    when = _when([look for look in final if look.decides], many=len(final) > 1)
    return Replay(replace(verdict, reason=verdict.reason + when), tuple(looks), evidence)


def _stage(evidence: Evidence, record: StageRecord, step_ns: int) -> Iterator[tuple[int | None, Look]]:
    """Looks up to the first that decides, each with its moment; the last one has None: all that there is."""
    index, planned_s = record.plan.index, record.plan.duration_s
    horizon = record.begin_ns + round(planned_s * 1e9)
    decided = record.decided_ns
    if decided is not None and decided < horizon:
        at_s = (decided - record.begin_ns) / 1e9
        yield None, Look(at_s, planned_s, judge_stage(evidence, index), decides=True, live=True)
        return
    end = end_of(evidence, record)
    # One that is due at the very end is the one at the end.
    for at_ns in range(record.begin_ns + step_ns, min(end, horizon) - step_ns // 10, step_ns):
        verdict = judge_stage(evidence, index, now_ns=at_ns)
        decides = verdict.verdict != "inconclusive"
        yield at_ns, Look((at_ns - record.begin_ns) / 1e9, planned_s, verdict, decides)
        if decides:
            return
    yield None, Look((end - record.begin_ns) / 1e9, planned_s, judge_stage(evidence, index), end=True)


def end_of(evidence: Evidence, record: StageRecord) -> int:
    """When the stage ended; of one that was cut short, when the last of its requests was done."""
    if record.end_ns is not None:
        return record.end_ns
    done = evidence.samples.done_ns[evidence.samples.stage == record.plan.index]
    return max(int(done.max()), record.begin_ns) if len(done) else record.begin_ns


def _hidden(evidence: Evidence, index: int, at_ns: int) -> Evidence:
    samples = evidence.samples
    return replace(evidence, samples=samples.take((samples.stage != index) | (samples.done_ns <= at_ns)))


def _when(decided: list[Look], *, many: bool) -> str:
    """`; decided after 70 s of 300 s`; of several stages with their number."""
    if not decided:
        return ""
    parts = []
    for look in decided:
        whose = f"stage {look.verdict.stage + 1}'s " if many else ""
        parts.append(f"after {_s(look.after_s)} of {whose}{_s(look.planned_s)}")
    return f"; decided {', '.join(parts)}"


def _s(seconds: float) -> str:
    return f"{round(seconds, 1 if seconds < 100 else None):g} s"
