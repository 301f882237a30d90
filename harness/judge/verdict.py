"""The whole run: every stage's verdict, and what they come to."""

from __future__ import annotations

from collections.abc import Sequence

from harness.judge import words
from harness.judge.evidence import Evidence
from harness.judge.stage import judge_stage
from harness.types import Decision, StageVerdict, Verdict


def judge(evidence: Evidence) -> Verdict:
    """Rollback if any stage says so. Promote only if the run came to its end, every planned stage said
    promote, and at least one compared both arms at equal load. Everything else is inconclusive.
    """
    records = sorted(evidence.stages, key=lambda record: record.plan.index)
    return conclude(evidence, [judge_stage(evidence, record.plan.index) for record in records])


def conclude(evidence: Evidence, stages: Sequence[StageVerdict]) -> Verdict:
    """What the verdicts of the stages come to."""
    decision, reason = _decide(evidence, stages)
    needs = _needs(evidence, stages, reason) if decision == "inconclusive" else ""
    return Verdict(verdict=decision, reason=reason, stages=tuple(stages), needs=needs)


def _decide(evidence: Evidence, stages: Sequence[StageVerdict]) -> tuple[Decision, str]:
    if evidence.does_not_load:
        return "rollback", words.sentence(evidence.does_not_load)
    for stage in stages:
        if stage.verdict == "rollback":
            return "rollback", stage.reason
    if not stages:
        return "inconclusive", "No stage was run"
    for stage in stages:
        if stage.verdict == "inconclusive" and evidence.finished:
            return "inconclusive", stage.reason
    if not evidence.finished:
        return "inconclusive", f"The run did not come to its end: {_ran(evidence, stages)}"
    if _own(evidence) < evidence.planned:
        return "inconclusive", f"Only {_own(evidence)} of {evidence.planned} planned stages were run"
    compared = [f for stage in stages for f in stage.findings if f.kind == "comparison" and f.margin is not None]
    if not compared:
        return "inconclusive", "No stage compared both arms at equal load, so nothing was proven"
    return "promote", _held(evidence, stages)


def _own(evidence: Evidence) -> int:
    """Stages of the scenario that were run; the planner's own, around them, are not counted."""
    return sum(record.plan.purpose == "compare" for record in evidence.stages)


def _ran(evidence: Evidence, stages: Sequence[StageVerdict]) -> str:
    done = sum(stage.verdict == "promote" for stage in stages)
    planned = max(evidence.planned, len(stages))
    return f"{done} of {words.count(planned, 'stage')} had been passed"


def _held(evidence: Evidence, stages: Sequence[StageVerdict]) -> str:
    gates = ", ".join(gate.metric for gate in evidence.rules)
    held = f"all {words.count(len(stages), 'stage')} held: {gates}" if len(stages) > 1 else f"every gate held: {gates}"
    deployed = [f"{f.reason}; " for stage in stages for f in stage.findings if f.metric == "deploy.errors"]
    return words.sentence("".join(deployed) + held)


def _needs(evidence: Evidence, stages: Sequence[StageVerdict], reason: str) -> str:
    """What more it would take, in a sentence."""
    waiting = [
        finding
        for stage in stages
        if stage.verdict == "inconclusive"
        for finding in stage.findings
        if finding.outcome in ("inconclusive", "no data") and finding.needs_s is not None
    ]
    if waiting:
        longest = max(waiting, key=lambda finding: finding.needs_s or 0.0)
        seconds = longest.needs_s or 0.0
        most = f"({longest.metric} needs it most)"
        return f"about {words.duration(seconds)} more of stage {longest.stage + 1}'s load {most}"
    if not evidence.finished:
        return "a run that comes to its end"
    faults = [f for stage in stages for f in stage.findings if f.kind == "validity" and f.outcome != "pass"]
    if faults:
        known = reason.lower() == faults[0].reason.lower()  # then it need not be said twice
        return f"a measurement without this fault{'' if known else f': {faults[0].reason}'}"
    missing = [f for stage in stages for f in stage.findings if f.outcome == "no data"]
    if missing:
        return f"data for {', '.join(dict.fromkeys(f.metric for f in missing))}"
    if not stages or _own(evidence) < evidence.planned:
        return "the stages that were not run"
    return f"more than time: {reason[:1].lower()}{reason[1:]}"
