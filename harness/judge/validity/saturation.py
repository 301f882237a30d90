"""Over-saturation: requests come faster than a server gets through them, so what they take grows without end.

Then a time says how long the stage was, not how fast the server is. In an open loop only: a closed one waits. Judged on
what was sent, not on what was due: a generator that falls behind is no fault of the server.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.judge import words
from harness.judge.columns import Columns
from harness.judge.times.derived import seconds
from harness.judge.validity.fault import Fault, fault, informs, nothing, ratios
from harness.judge.validity.trend import kendall, medians
from harness.judge.view import StageView

ALPHA = 0.001
GROWN = 2.0
BEHIND = 0.98
GROUPS, FEW = 20, 50
MIN_BACKLOG = 5


@dataclass(frozen=True, slots=True)
class Load:
    """Of one arm, in the second half of the stage: requests sent and got through, both 1/s. `begin_s`, `end_s`: median
    request latency in the first and the last quarter; `waiting`: in flight when the last request was sent.
    """

    arm: int
    offered: float
    served: float
    begin_s: float
    end_s: float
    waiting: int
    overloaded: bool


def measure(view: StageView) -> tuple[Load, ...]:
    """One an arm that has enough requests; () in a closed loop."""
    if view.plan.rate is None:
        return ()
    found = (_load(number, arm) for number, arm in enumerate(view.arms))
    return tuple(one for one in found if one is not None)


def _load(number: int, arm: Columns) -> Load | None:
    values = seconds(arm, "request_latency")
    known = np.isfinite(values)
    if int(known.sum()) < FEW:
        return None
    order = np.argsort(arm.sent_ns[known], kind="stable")
    groups = min(GROUPS, len(order) // 5)
    middle = medians(values[known][order], groups)
    quarter = max(groups // 4, 1)
    begin, end = float(np.median(middle[:quarter])), float(np.median(middle[-quarter:]))
    left = arm.sent_ns >= 0  # the others found no free connection: nobody served them
    sent, done = np.sort(arm.sent_ns[left]), np.sort(arm.done_ns[left])
    first, last = int(sent[0]), int(sent[-1])
    half = first + (last - first) // 2
    span_s = max((last - half) / 1e9, 1e-9)
    sent_by, done_by = (np.searchsorted(times, [half, last], side="right") for times in (sent, done))
    came, went = int(np.diff(sent_by)[0]), int(np.diff(done_by)[0])
    waiting = int(sent_by[1] - done_by[1])
    tau, p = kendall(middle)
    grows = tau > 0 and p < ALPHA and end >= GROWN * begin
    behind = went < BEHIND * came and came - went >= MIN_BACKLOG
    return Load(number, came / span_s, went / span_s, begin, end, waiting, grows and behind)


def judge(view: StageView, seen: tuple[Load, ...]) -> Fault | None:
    """Both arms: their times cannot be compared, an absolute limit that broke is broken all the same. The candidate
    alone, under equal load: a difference between builds. The baseline alone: nothing against the candidate.
    """
    over = [load for load in seen if load.overloaded]
    if not over or view.plan.purpose == "deploy":
        return None
    said = "; ".join(_said(view, load) for load in over)
    arms = {load.arm for load in over}
    if arms == {0} and len(seen) > 1:
        return informs(view, "saturation", said)
    if arms == {1} and len(seen) > 1:
        return fault(view, "saturation", said, voids=nothing)
    return fault(view, "saturation", f"{said}: the load is beyond what is compared", voids=ratios)


def _said(view: StageView, load: Load) -> str:
    return (
        f"{view.names[load.arm]} did not keep up with {words.number(load.offered)}/s: it served "
        f"{words.number(load.served)}/s, a request took {words.time(load.begin_s)} at first and "
        f"{words.time(load.end_s)} at the end, {load.waiting} were waiting"
    )
