"""Whether what was measured held still: a beginning unlike the rest, and differences that grow or shrink.

What both arms do together cancels in blocks. What one arm does by itself does not: a candidate that is still warming up
looks slower than it is, one that slowly gets worse looks better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.judge import words
from harness.judge.columns import Columns, Floats
from harness.judge.metrics import is_latency, quantile_of
from harness.judge.statistics.blocks import block_logs, log_of
from harness.judge.times.derived import seconds
from harness.judge.times.latency import matched
from harness.judge.validity.fault import Fault, fault, informs, nothing
from harness.judge.validity.trend import kendall, medians, theil_sen, transient
from harness.judge.view import StageView
from harness.types import Gate

ALPHA = 0.001
DIFFERENT = 0.10
FEW = 50
GROUPS, LEAST_PARTS, UNLIKE = 20, 9, 3.0


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Of one arm: `seconds` of the stage until it was steady (None: it never was), and the medians before and after, of
    response times, or of request latencies where no due times are known.
    """

    arm: int
    seconds: float | None
    before_s: float = 0.0
    after_s: float = 0.0
    time: str = "response_time"


def measure(view: StageView) -> tuple[WarmUp, ...]:
    """One an arm that has enough answers; () for a ramp, in which nothing is meant to be steady."""
    plan = view.plan
    if plan.rate_to is not None or plan.in_flight_to is not None:
        return ()
    found = (_warm_up(view, number, arm) for number, arm in enumerate(view.arms))
    return tuple(one for one in found if one is not None)


def _warm_up(view: StageView, number: int, arm: Columns) -> WarmUp | None:
    time = "response_time" if arm.due_known.all() else "request_latency"
    values = seconds(arm, time)
    known = np.isfinite(values)
    order = np.argsort(arm.due_ns[known], kind="stable")
    values, due = values[known][order], arm.due_ns[known][order]
    if len(values) < FEW:
        return None
    cut = transient(values)
    if cut is None:
        first, rest = (float(np.median(half)) for half in np.array_split(values, 2))
        moves = abs(first - rest) > DIFFERENT * rest and kendall(medians(values, GROUPS))[1] < ALPHA
        return WarmUp(number, None, first, rest, time) if moves else WarmUp(number, 0.0)
    if cut == 0 or not _unlike(values[:cut], values[cut:]):
        return WarmUp(number, 0.0)
    passed_s = (int(due[cut]) - view.record.begin_ns) / 1e9
    return WarmUp(number, passed_s, float(np.median(values[:cut])), float(np.median(values[cut:])), time)


def _unlike(before: Floats, after: Floats) -> bool:
    """MSER always cuts where the error is least. It was a warm-up only if it is unlike later parts of its length, by
    over three times what their logarithms scatter: queues come and go, so single requests would differ too easily.
    """
    first, rest = float(np.median(before)), float(np.median(after))
    later = log_of(medians(after, max(len(after) // len(before), LEAST_PARTS)))
    away = abs(math.log(max(first, 1e-9)) - float(later.mean()))
    return abs(first - rest) > DIFFERENT * rest and away > UNLIKE * float(later.std(ddof=1))


def judge(view: StageView, seen: tuple[WarmUp, ...]) -> list[Fault]:
    """`warm-up` informs; `steady`, of each gate on a difference, stops a promote. A difference that shrinks voids the
    gate's failure, too; one that grows does not.
    """
    if view.plan.purpose == "deploy":
        return []
    found = [_told(view, one) for one in seen if one.seconds is None or one.seconds > 0]
    if view.role == "comparison" and view.plan.purpose == "compare":
        drifts = (_drift(view, gate) for gate in view.evidence.rules if is_latency(gate.metric) and gate.limit is None)
        found += [one for one in drifts if one is not None]
    return found


def _told(view: StageView, seen: WarmUp) -> Fault:
    name = view.names[seen.arm]
    what = seen.time.replace("_", " ")
    medians = f"(median {what} {words.time(seen.before_s)}, afterwards {words.time(seen.after_s)})"
    if seen.seconds is None:
        text = f"{name} did not come to rest within the stage: its second half is unlike its first {medians}"
    else:
        text = f"the first {words.time(seen.seconds)} of {name} are unlike the rest {medians}"
    return informs(view, "warm-up", text)


def _drift(view: StageView, gate: Gate) -> Fault | None:
    """A difference with a trend of more than the margin through the stage."""
    blocks = matched(view, gate.metric).blocks
    if blocks is None:
        return None
    one, two = block_logs(blocks, quantile_of(gate.metric))
    gap, bar = two - one, math.log1p(gate.margin or 0.0)
    change = theil_sen(gap) * (len(gap) - 1)
    if abs(change) <= max(bar, math.log1p(DIFFERENT)) or kendall(gap)[1] >= ALPHA:
        return None
    third = max(len(gap) // 3, 1)
    begin, end = float(np.median(gap[:third])), float(np.median(gap[-third:]))
    v1, v2 = view.names
    name = gate.metric.replace(".", " ")
    ran = f"{name} was {words.change(math.exp(begin))} on {v2} than on {v1} in the first third of the stage"
    ended = f"{words.change(math.exp(end))} in the last"
    if change > 0 and end > bar:
        return fault(view, "steady", f"{ran}, {ended}: it grows, and where it ends is not known", voids=nothing)
    if change < 0 and end <= bar < begin:
        text = f"{ran}, {ended}: it warms up, and a warm-up before the stage would leave it out"
        return fault(view, "steady", text, voids=lambda failed: failed.metric == gate.metric)
    return None
