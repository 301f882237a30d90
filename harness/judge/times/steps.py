"""What each step of an ensemble took, for information: where the steps differ between the arms, what that explains.

Triton counts by model and version, whoever asks: a step that both ensembles share has one mean for both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from harness.judge import words
from harness.judge.view import StageView
from harness.recording.steps import StepTimes, step_times
from harness.types import Finding

CONFIDENCE, Z = "95 %", 1.96
# A difference between the ensembles that is smaller is not worth explaining.
WORTH = 0.02


def information(view: StageView) -> Iterator[Finding]:
    """`steps.<model>` for each step: version against version where the arms differ, else what it takes of the whole."""
    until = view.until_ns if view.until_ns is not None else view.record.end_ns
    times = step_times(view.evidence.readings, view.evidence.pipelines, view.record.begin_ns, until)
    wholes = {step.arms[0]: step for step in times if step.device in _wholes(view)}
    steps = [step for step in times if step.device not in _wholes(view)]
    for model in dict.fromkeys(step.model for step in steps):
        versions = [step for step in steps if step.model == model]
        one = next((step for step in versions if step.arms == ("baseline",)), None)
        two = next((step for step in versions if step.arms == ("candidate",)), None)
        if one is None or two is None:
            yield from (_alone(view, step) for step in versions)
        else:
            yield _compared(view, one, two, wholes.get("baseline"), wholes.get("candidate"))


def _wholes(view: StageView) -> Sequence[str]:
    return [pipeline.device for pipeline in view.evidence.pipelines.values()]


def _compared(
    view: StageView, one: StepTimes, two: StepTimes, whole_one: StepTimes | None, whole_two: StepTimes | None
) -> Finding:
    ratio = two.total_s / one.total_s
    interval = _interval(one, two, ratio)
    text = (
        f"{one.model} takes {words.time(two.total_s)} a request in version {two.version}, "
        f"{words.time(one.total_s)} in version {one.version}"
    )
    if interval is not None:
        text += f" ({CONFIDENCE}: {interval[0]:.3g} to {interval[1]:.3g} times as long)"
    if whole_one is not None and whole_two is not None:
        text += f"; {_explained(two.total_s - one.total_s, whole_two.total_s - whole_one.total_s, whole_one.total_s)}"
    return Finding(
        metric=f"steps.{one.model}",
        outcome="pass",
        reason=f"for information: {text}",
        kind=view.role,
        stage=view.index,
        unit="ratio",
        effect=ratio,
        interval=interval,
        baseline=one.total_s,
        candidate=two.total_s,
        n_baseline=one.answers,
        n_candidate=two.answers,
    )


def _interval(one: StepTimes, two: StepTimes, ratio: float) -> tuple[float, float] | None:
    """Of the ratio, on its logarithm."""
    spread = math.hypot(one.error_s / one.total_s, two.error_s / two.total_s)
    return (ratio * math.exp(-Z * spread), ratio * math.exp(Z * spread)) if math.isfinite(spread) else None


def _explained(step_s: float, whole_s: float, before_s: float) -> str:
    """What the step's difference is to the whole's."""
    if abs(whole_s) < WORTH * before_s:
        return f"end to end the ensembles differ by less than {words.margin(WORTH)}"
    more = "longer" if whole_s > 0 else "less"
    of = f"the {words.time(abs(whole_s))} that the candidate's ensemble takes {more}"
    if step_s * whole_s <= 0:
        return f"that is none of {of}"
    return f"that is {'all' if abs(step_s) >= abs(whole_s) else words.time(abs(step_s))} of {of}"


def _alone(view: StageView, step: StepTimes) -> Finding:
    whose = "both arms" if len(step.arms) > 1 else f"the {step.arms[0]} alone"
    text = f"{step.model} takes {words.time(step.total_s)} a request, {words.percent(step.share)} of the whole"
    if step.queue_s > WORTH * step.total_s:
        text += f", of it {words.time(step.queue_s)} in the queue"
    text += f"; version {step.version} serves {whose}"
    if len(step.arms) > 1:
        text += ", and Triton's counters do not tell them apart"
    return Finding(
        metric=f"steps.{step.model}",
        outcome="pass",
        reason=f"for information: {text}",
        kind=view.role,
        stage=view.index,
        unit="s",
        effect=step.total_s,
    )
