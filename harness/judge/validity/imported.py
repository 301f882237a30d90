"""Recordings of other tools: what they lack, and whether what was put side by side may be compared at all.

Two runs count as equal load if the tool was asked for the same. Where it does not say what it was asked for, either as
many requests came a second (an open loop) or as many were in flight (a closed one). Two loops that are always full, of
different size, are not equal, though a full server answers both at the same rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.judge import words
from harness.judge.columns import Columns
from harness.judge.metrics import DEFAULT_ERROR_MARGIN, is_latency
from harness.judge.statistics.counts import p_more
from harness.judge.times.derived import seconds
from harness.judge.validity.fault import Fault, fault, informs, nothing, times
from harness.judge.validity.tokens import compared, of_tokens
from harness.judge.view import StageView
from harness.recording.imported import Imported, ImportedArm
from harness.types import Finding

SAME = 0.10
FULL = 0.95
# Two rounded times differ by up to a step from what they were: that much may hide within half of a margin.
STEP_SHARE = 0.5
LEFT_ALPHA = 0.01


def judge(view: StageView) -> list[Fault]:
    """`imported` informs. `load`, `steps`, `tokens`, `loses` and `left-out` stop a promote."""
    known = view.evidence.imported
    if known is None:
        return []
    found = [_load(view, known), _steps(view, known), _tokens(view, known), _loses(view, known), _left_out(view, known)]
    found.append(_told(view, known))
    return [one for one in found if one is not None]


def _arms(known: Imported) -> tuple[ImportedArm, ImportedArm]:
    return known.arms["baseline"], known.arms["candidate"]


def _told(view: StageView, known: Imported) -> Fault:
    arms = _arms(known)
    said = [_source(known)]
    undated = [name for name, arm in zip(view.names, view.arms, strict=True) if len(arm) and not arm.due_known.any()]
    if undated:
        of = f" of {undated[0]}" if len(undated) == 1 else ""
        said.append(
            f"there are no due times{of}, so no response_time, and a closed loop hides the time that requests would "
            "have waited"
        )
    if arms[0].tokens and arms[0].tokens == arms[1].tokens:
        said.append(f"tokens were counted by {arms[0].tokens}")
    for note in dict.fromkeys((*arms[0].notes, *arms[1].notes)):
        of_arms = [name for name, arm in zip(view.names, arms, strict=True) if note in arm.notes]
        one_file = arms[0].file == arms[1].file
        said.append(note if len(of_arms) == 2 or one_file else f"{of_arms[0]}: {note}")
    for name, arm in zip(view.names, arms, strict=True):
        if arm.left_out:
            left = f"{words.count(arm.left_out, 'request')} of {name} outside the time of both"
            said.append(f"{left} {'is' if arm.left_out == 1 else 'are'} left out")
    return informs(view, "imported", "; ".join(said))


def _source(known: Imported) -> str:
    first, second = _arms(known)
    if first.file == second.file and first.tool == second.tool:
        source = f"recorded by {first.tool} ({first.file})"
    elif first.tool == second.tool:
        source = f"recorded by {first.tool} ({first.file}, {second.file})"
    else:
        source = f"recorded by {first.tool} ({first.file}) and {second.tool} ({second.file})"
    if known.together:
        return f"{source}, both arms at the same time"
    return (
        f"low trust: {source}, one run after the other, each counted from its first request: what the machine did in "
        "between is part of every difference"
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    """Requests a second, mean and most of them in flight; 0 where the file has no times."""

    rate: float
    mean: float
    most: int

    @property
    def full(self) -> bool:
        return self.mean >= FULL * self.most > 0

    def text(self) -> str:
        return f"{words.number(self.rate)}/s with {words.number(self.mean)} in flight"


def _seen(arm: Columns) -> _Seen:
    span_s = max((int(arm.done_ns.max()) - int(arm.due_ns.min())) / 1e9, 1e-9)
    sent, done = np.sort(arm.sent_ns[arm.sent_ns >= 0]), np.sort(arm.done_ns[arm.sent_ns >= 0])
    flying = np.arange(1, len(sent) + 1) - np.searchsorted(done, sent, side="right")
    return _Seen(len(arm) / span_s, float((done - sent).sum()) / 1e9 / span_s, int(flying.max(initial=0)))


def _load(view: StageView, known: Imported) -> Fault | None:
    if view.role != "comparison" or not all(len(arm) for arm in view.arms):
        return None
    asked = [arm.loads[view.index] if view.index < len(arm.loads) else "" for arm in _arms(known)]
    one, two = (_seen(arm) for arm in view.arms)
    if all(asked):
        same, texts = asked[0] == asked[1], asked
    else:
        full = one.full and two.full
        same = one.most == two.most if full else _near(one.rate, two.rate) or _near(one.mean, two.mean)
        texts = [f"{one.most} in flight", f"{two.most} in flight"] if full else [one.text(), two.text()]
    if same:
        return None
    v1, v2 = view.names
    reason = f"the load was not the same, {texts[0]} on {v1} and {texts[1]} on {v2}: times would compare the loads"
    return fault(view, "load", reason, voids=_relative)


def _near(one: float, two: float) -> bool:
    return min(one, two) > 0 and max(one, two) <= (1 + SAME) * min(one, two)


def _relative(failed: Finding) -> bool:
    return times(failed) and failed.unit == "ratio"


def _steps(view: StageView, known: Imported) -> Fault | None:
    """Times in whole milliseconds cannot show ten percent of five milliseconds."""
    step_ns = max(arm.step_ns for arm in _arms(known))
    step_s = step_ns / 1e9
    margins = [gate.margin for gate in view.evidence.rules if is_latency(gate.metric) and gate.margin is not None]
    values = [seconds(arm, "request_latency") for arm in view.arms]
    medians = [float(np.median(value)) for value in (v[np.isfinite(v)] for v in values) if len(value)]
    if step_ns <= 1 or not margins or not medians or step_s <= STEP_SHARE * min(margins) * min(medians):
        return None
    reason = (
        f"times are recorded in steps of {words.time(step_s)} and a request takes {words.time(min(medians))}: that is "
        f"too coarse for a margin of {words.margin(min(margins))}"
    )
    return fault(view, "steps", reason, voids=_relative)


def _tokens(view: StageView, known: Imported) -> Fault | None:
    first, second = (arm.tokens for arm in _arms(known))
    if not first or not second or first == second:
        return None
    gated = any(of_tokens(gate.metric) for gate in view.evidence.rules)
    v1, v2 = view.names
    reason = f"tokens of {v1} were counted by {first}, those of {v2} by {second}: tpot and osl are not compared"
    return fault(view, "tokens", reason, voids=compared, stops=gated and view.role == "comparison")


def _loses(view: StageView, known: Imported) -> Fault | None:
    """A baseline without its failures only looks better than it is."""
    loses = known.arms["candidate"].loses
    return fault(view, "loses", f"{view.names[1]}: {loses}", voids=nothing) if loses else None


def _left_out(view: StageView, known: Imported) -> Fault | None:
    """A candidate that failed once the baseline's run was over has failed where nothing is compared with it."""
    arm = known.arms["candidate"]
    failed = view.candidate.failed
    usual = max(float(failed.mean()) if len(failed) else 0.0, DEFAULT_ERROR_MARGIN)
    if p_more(arm.left_out_failed, arm.left_out, usual) >= LEFT_ALPHA:
        return None
    reason = (
        f"{arm.left_out_failed} of {words.count(arm.left_out, 'request')} of {view.names[1]} outside the time of both "
        "runs failed, and nothing is there to compare them with: give both runs the same time"
    )
    return fault(view, "left-out", reason, voids=nothing)
