"""One stage: all its findings in order, and what they decide together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from harness.errors import UsageError
from harness.judge import validity, words
from harness.judge.amounts import gate as amounts
from harness.judge.amounts import throughput
from harness.judge.errors import classes, failures, recovery, traffic
from harness.judge.evidence import Evidence
from harness.judge.metrics import ERRORS, RESOURCES, THROUGHPUT, is_latency, is_quality, of_equal_load
from harness.judge.planning import calibrated, foresight
from harness.judge.quality import gate as quality
from harness.judge.quality.scored import Scores, gather
from harness.judge.rule import Rule, family
from harness.judge.sketched import rules as counted_rules
from harness.judge.sketched import validity as counted_validity
from harness.judge.sketched.view import CountedEvidence, CountedView
from harness.judge.times import coupling, latency, longer, objective, sequential, steps
from harness.judge.times.sequential import Turns, turns
from harness.judge.validity.fault import Fault
from harness.judge.view import ALONE, APART, WARM_UP, StageView
from harness.types import Decision, Finding, Gate, StageVerdict


def judge_stage(evidence: Evidence, index: int, *, now_ns: int | None = None) -> StageVerdict:
    """The verdict of stage `index`; its "promote" means: go on to the next stage.

    `now_ns`: a look in mid-stage at what was done by then. A stage that lasts until it is decided may promote at one;
    of any other, only rollback or inconclusive can come of it. Record that moment as the stage's `decided_ns` where it
    decides, and judging the recording later repeats the look exactly. Without `now_ns` a stage that has ended is judged
    as a whole; one that was cut short, as a look. Raises UsageError for an index that the evidence does not have.
    """
    view = _seen(evidence, index, now_ns)
    examined = counted_validity.examine(view) if isinstance(view, CountedView) else validity.examine(view)
    strays = traffic.strays(view)
    judged, information = _judged(view)
    if strays is not None:
        judged = (*judged, strays)
    came_back = tuple(recovery.judge(view)) if now_ns is None else ()
    critical = (*judged, *(finding for finding in came_back if finding.outcome != "pass"))
    information = (*information, *(finding for finding in came_back if finding.outcome == "pass"))
    faults = examined.faults if view.plan.purpose != WARM_UP else ()
    reaching, harmless = _reach(faults, critical)
    findings = sorted((*(fault.finding for fault in reaching), *critical, *information, *harmless), key=_place)
    decision, reason = _decide(view, reaching, critical)
    return StageVerdict(stage=index, verdict=decision, reason=reason, findings=tuple(findings), audit=examined.audit)


def _seen(evidence: Evidence, index: int, now_ns: int | None) -> StageView:
    if not isinstance(evidence, CountedEvidence):
        return StageView.of(evidence, index, now_ns)
    if now_ns is not None:
        raise UsageError("a recording of which only counts are known tells nothing of a moment within a stage")
    return CountedView.at_end(evidence, index)


Findings = tuple[Finding, ...]


def _judged(view: StageView) -> tuple[Findings, Findings]:
    """What decides, and what informs."""
    if view.plan.purpose == WARM_UP:
        return (), _foreseen(view)
    if view.plan.purpose in APART:
        return (), ()
    if view.plan.period and not isinstance(view, CountedView):
        return _gated(turns(view))
    return _deployed(view) if view.plan.purpose == "deploy" else _gated(view)


def _reach(faults: Sequence[Fault], critical: Findings) -> tuple[tuple[Fault, ...], Findings]:
    """The faults that have a consequence here, and the others as findings that inform."""
    failed = [finding for finding in critical if finding.outcome == "fail"]
    reaching, harmless = [], []
    for fault in faults:
        if fault.stops or any(fault.voids(finding) for finding in failed):
            reaching.append(fault)
        else:
            harmless.append(replace(fault.finding, outcome="pass", reason=f"for information: {fault.finding.reason}"))
    return tuple(reaching), tuple(harmless)


def _deployed(view: StageView) -> tuple[Findings, Findings]:
    """What decides, and what informs, in a stage in which the candidate is brought."""
    return (traffic.deployed(view),), tuple(throughput.information(view, drift=False))


def _gated(view: StageView) -> tuple[Findings, Findings]:
    """The same in a stage in which the candidate gets requests."""
    evidence = view.evidence
    gates = [g for g in _ordered(_so_far(evidence, view)) if view.role == "comparison" or not of_equal_load(g)]
    if isinstance(view, Turns):  # quality is compared in paired stages only: there both arms score the same text
        gates = [gate for gate in gates if not is_quality(gate.metric)]
    scores = gather(view)
    rules = [_rule(view, gate, scores) for gate in gates]
    margin = next((gate.margin for gate in gates if gate.metric == "errors"), None)
    extra = quality.broken(view, scores, margin)
    if extra is not None:
        rules.append(extra)
    critical = tuple(finding for finding, _ in family(rules, view.alpha))
    if isinstance(view, Turns):
        return (critical if view.over else tuple(f for f in critical if f.outcome == "fail")), ()
    return critical, (*_information(view, gates, scores), *foresight.replanned(view, gates, critical))


def _foreseen(view: StageView) -> Findings:
    """Of a warm-up: what its noise says of the stage that it is for."""
    gates = _ordered(_so_far(view.evidence, view))
    times = [gate for gate in gates if is_latency(gate.metric) and gate.limit is None]
    if view.role != "comparison" or not times:
        return ()
    return tuple(foresight.replanned(view, gates, [latency.compare(view, gate).finding(None) for gate in times]))


def _so_far(evidence: Evidence, view: StageView) -> tuple[Gate, ...]:
    """The gates as they were at that moment: the default ones depend on what had been seen."""
    if evidence.gates:
        return evidence.rules
    if isinstance(view, CountedView) and isinstance(evidence, CountedEvidence):
        return evidence.rules_of(view.stages(so_far=True))
    return Evidence(samples=view.so_far).rules


def _rule(view: StageView, gate: Gate, scores: Scores) -> Rule:
    if gate.metric in ERRORS:
        return failures.compare(view, gate)
    if isinstance(view, CountedView) and not is_quality(gate.metric):
        return counted_rules.rule(view, gate)
    if isinstance(view, Turns) and (gate.limit is None or not view.over):
        return sequential.compare(view, gate)
    if is_quality(gate.metric):
        return quality.judge(view, gate, scores)
    if gate.metric in (*THROUGHPUT, *RESOURCES):
        return amounts.judge(view, gate)
    if gate.limit is not None:
        return objective.limit(view, gate)
    if view.role == "comparison":
        return coupling.rested(view, gate, longer.told(view, gate, latency.compare(view, gate)))
    return objective.watch(view, gate)


def _ordered(gates: Sequence[Gate]) -> list[Gate]:
    return sorted(gates, key=lambda gate: (_group(gate.metric), gates.index(gate)))


def _group(metric: str) -> int:
    """Validity, errors, quality, latency, the rest."""
    if metric.startswith("validity."):
        return 0
    if metric.startswith("errors") or metric in ("deploy.errors", "traffic.strays", *recovery.METRICS):
        return 1
    if metric.startswith("quality."):
        return 2
    return 3 if is_latency(metric) else 4


def _place(finding: Finding) -> tuple[int, bool]:
    return _group(finding.metric), finding.reason.startswith("for information")


def _information(view: StageView, gates: Sequence[Gate], scores: Scores) -> Iterable[Finding]:
    """What is shown and decides nothing."""
    if view.role == "comparison":
        for metric in quality.ungated(view, gates):
            finding = quality.information(view, metric, scores)
            if finding is not None:
                yield finding
    split = traffic.share(view)
    if split is not None:
        yield split
    if not isinstance(view, CountedView) and (back := traffic.rollback(view)):
        yield back
    known = calibrated.told(view)
    if known is not None:
        yield known
    yield from classes.information(view)
    if not isinstance(view, CountedView):
        yield from coupling.information(view, gates)
    yield from steps.information(view)
    gated = [gate.metric for gate in gates]
    yield from throughput.information(view, drift="osl" not in gated, gated=gated)


def _decide(view: StageView, faults: Sequence[Fault], judged: Sequence[Finding]) -> tuple[Decision, str]:
    """Wrong versions void everything that samples say. Most other faults of the measurement void all but failing
    requests: whatever is wrong with the split, a candidate that fails its requests must not keep its traffic. Strays
    are counted by the server, so no fault of ours voids them, and they come first: all else may be their doing.
    """
    failed = [f for f in judged if f.outcome == "fail" and not any(fault.voids(f) for fault in faults)]
    failed.sort(key=lambda f: f.metric != "traffic.strays")
    if failed:
        others = f" (and {words.count(len(failed) - 1, 'more gate')} failed)" if len(failed) > 1 else ""
        return "rollback", words.sentence(failed[0].reason) + others
    if faults:
        return "inconclusive", words.sentence(faults[0].finding.reason)
    open_ = [finding for finding in judged if finding.outcome != "pass"]
    if open_:
        return "inconclusive", words.sentence(open_[0].reason)
    if view.final and view.plan.period < view.plan.periods:
        return "promote", f"Period {view.plan.period} of {view.plan.periods}: judged when the last one is over"
    if view.plan.purpose == WARM_UP and view.final:
        return "promote", "A warm-up: nothing of it is judged"
    if view.plan.purpose == ALONE and view.final:
        return "promote", f"{view.names[0]} alone: what comes next is compared with it"
    if not judged:
        return "inconclusive", "No gate was judged"
    if not view.may_pass:
        return "inconclusive", "Nothing speaks against it so far, but the stage is not over"
    if view.plan.purpose == "deploy":
        return "promote", words.sentence(judged[0].reason)
    what = "nothing speaks against it" if view.role == "watch" else "every gate holds"
    return "promote", f"{words.sentence(what)}: {', '.join(finding.metric for finding in judged)}"
