"""What the planner says, in words: before a run for `check`, and during it as findings for information."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.judge import words
from harness.judge.metrics import normalise
from harness.judge.planning.planner import UNITS, Noise, Outlook, assumed, detectable_rate, noise_of, outlook
from harness.judge.statistics.counts import requests_for
from harness.judge.statistics.intervals import ALPHA_FAIL
from harness.judge.view import WARM_UP, StageView
from harness.types import Finding, Gate, StagePlan

PLAN = "plan."
REPLAN_AT = 1 / 3
"""From this part of a comparison on, what it needs is said by its own noise."""


def noises(findings: Sequence[Finding], seconds: float) -> dict[str, Noise]:
    """By metric, of the findings of one stage after so many seconds of its load."""
    found = {finding.metric: noise_of(finding, seconds) for finding in findings if finding.kind == "comparison"}
    return {metric: noise for metric, noise in found.items() if noise is not None}


def prospect(
    gate: Gate, stage: StagePlan, requests: float | None, gates: int, noise: Noise | None
) -> tuple[str, Outlook | None]:
    """What `gate`, one of `gates`, can say after that stage, in a clause; "" where only the run will tell.

    `requests`: expected ones of the smaller arm, None unknown. `noise`: of earlier load, None to assume a typical one.
    """
    (gate,) = normalise([gate])
    alpha = ALPHA_FAIL / max(gates, 1) / stage.series
    if gate.metric == "errors":
        return counted(gate, requests, alpha), None
    noise = noise or (assumed(gate.metric) if gate.limit is None else None)
    if noise is None:
        return "", None
    rate = requests / stage.duration_s if requests else None
    seen = outlook(gate, noise, stage.duration_s, rate=rate, alpha=alpha, open_ended=stage.until_decided)
    return f"{can_show(seen)}; {borders(seen)}", seen


def counted(gate: Gate, requests: float | None, alpha: float) -> str:
    """Of errors: what is exact, and what is found after so many requests an arm."""
    allowed = gate.limit if gate.limit is not None else gate.margin or 0.0
    passes = f"{requests_for(allowed)} requests without a failure pass" if allowed else "the first failure breaks it"
    if requests is None:
        return passes
    rate = detectable_rate(gate, requests, alpha)
    if rate is None:
        return f"{passes}; in {requests:.0f} not even a build that always fails is surely rolled back"
    return f"{passes}; in {requests:.0f} a build that fails {words.percent(rate)} is rolled back"


def can_show(seen: Outlook) -> str:
    """`a difference of 4.1 % can be told in 300 s; a margin of 10 % needs 52 s`."""
    tells = f"a difference of {_size(seen, seen.tells)} can be told in {_span(seen.seconds)}"
    return f"{tells}; {_limit(seen)} needs {words.duration(seen.needs_s)}" if math.isfinite(seen.needs_s) else tells


def borders(seen: Outlook) -> str:
    """`promotes up to 5.7 % worse, rolls back from 15.2 % on`, as far as either is possible."""
    last = f"rolls back from {_size(seen, seen.rolls_back)} on"
    if seen.promotes < 0:
        return f"even an equal build may stay open, {last}"
    return f"promotes up to {_size(seen, seen.promotes)} worse, {last}"


def replanned(view: StageView, gates: Sequence[Gate], findings: Sequence[Finding]) -> list[Finding]:
    """`plan.<metric>`, for information: by the noise so far, how long the margin of each gate on a difference takes.

    `findings`: of those gates, at this moment of the view; of a warm-up, as if it were judged. Nothing is said of a
    gate that has failed, nor before a third of a comparison has passed. `needs_s`: further seconds of the stage that is
    to answer.
    """
    warm_up = view.plan.purpose == WARM_UP
    at_once = view.plan.mode != "sequential"  # whose noise is that of periods, not of seconds
    if view.role != "comparison" or not at_once or not (warm_up or view.fraction >= REPLAN_AT):
        return []
    stage = _answers(view) if warm_up else view.plan
    seconds, level = view.elapsed_s, view.pass_level(UNITS)
    by_metric = {finding.metric: finding for finding in findings}
    told = []
    for gate in gates:
        finding = by_metric.get(gate.metric)
        if finding is None or finding.outcome == "fail":
            continue
        noise = noise_of(finding, seconds, level)
        if noise is None:
            continue
        length_s = stage.duration_s if stage is not None else seconds
        seen = outlook(
            gate, noise, length_s, alpha=view.alpha / len(gates),
            open_ended=stage is not None and stage.until_decided,
        )  # fmt: skip
        told.append(_told(view, finding, seen, stage))
    return told


def _answers(view: StageView) -> StagePlan | None:
    """The comparison that a warm-up is for: the next one of the plan, None where the recording does not say."""
    later = [plan for plan in view.evidence.plans if plan.index > view.index and plan.purpose == "compare"]
    return min(later, key=lambda plan: plan.index, default=None)


def _told(view: StageView, finding: Finding, seen: Outlook, stage: StagePlan | None) -> Finding:
    warm_up = view.plan.purpose == WARM_UP
    spent = words.duration(view.elapsed_s)
    source = f"the warm-up ({spent})" if warm_up else "this stage" if view.final else f"the first {spent}"
    text = f"with the noise of {source}, {_limit(seen)} on {seen.metric.replace('.', ' ')} "
    known = math.isfinite(seen.needs_s)
    text += f"needs about {words.duration(seen.needs_s)}" if known else "is never reached"
    if stage is not None:
        planned = _span(stage.duration_s)
        text += f"; planned are {planned}, which tell a difference of {_size(seen, seen.tells)}"
    return Finding(
        metric=f"{PLAN}{seen.metric}",
        outcome="pass",
        reason=f"for information: {text}",
        kind=view.role,
        stage=view.index,
        unit=finding.unit,
        n_baseline=finding.n_baseline,
        n_candidate=finding.n_candidate,
        needs_s=max(0.0, seen.needs_s - (0.0 if warm_up else view.elapsed_s)) if known else None,
    )


def _limit(seen: Outlook) -> str:
    return f"a margin of {words.margin(seen.margin)}" if seen.relative else f"a limit of {words.number(seen.margin)}"


def _span(seconds: float) -> str:
    """A planned length, as it is: 90 s, 5 min."""
    return f"{seconds:.3g} s" if seconds < 600 or seconds % 60 else words.duration(seconds)


def _size(seen: Outlook, difference: float) -> str:
    if not seen.relative:
        return words.number(difference)
    return words.percent(difference) if difference < 10 else "over 1000 %"
