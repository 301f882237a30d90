"""Whether as many requests were sent as were due: by their numbers, and in a closed loop by slots in use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.judge import words
from harness.judge.columns import ARMS, Columns, Ints
from harness.judge.statistics.distributions import gamma_isf
from harness.judge.validity.fault import Fault, fault, nothing
from harness.judge.validity.generator import Machine, cause
from harness.judge.validity.lag import our_own
from harness.judge.validity.signals import span
from harness.judge.view import StageView
from harness.types import StagePlan

MAX_SHORT, FEW = 0.02, 3
GAP_ALPHA = 1e-4
MIN_HELD = 0.5
FAILED_TOO_OFTEN = 0.10


@dataclass(frozen=True, slots=True)
class Delivery:
    """Requests (in paired mode pairs). `planned`: as many as were due by the plan's numbers, so no chance is in it
    though arrivals are random; None in a closed loop and where nothing has such numbers. `in_flight`: means.
    """

    sent: int
    planned: int | None = None
    in_flight: float | None = None
    in_flight_planned: float | None = None


def measure(view: StageView) -> Delivery:
    plan = view.plan
    begin, end = span(view)
    passed_s = max((end - begin) / 1e9, 1e-9)
    asked = view.samples.take(~view.samples.score)
    sent = max(len(arm) for arm in view.arms) if plan.mode == "paired" else len(asked)
    if plan.rate is None:
        last = plan.in_flight_to if plan.in_flight_to is not None else plan.in_flight
        slots = None if plan.in_flight is None or last is None else (plan.in_flight + last) / 2
        return Delivery(sent, None, _held(view.samples, passed_s), slots)
    numbers = _numbers(asked.pair_id, view.index, of_a_plan=view.evidence.planned > 0)
    if numbers is None:
        return Delivery(sent, None, _company(view.samples, passed_s))
    due, seen = numbers
    due += tail(plan, (int(asked.due_ns.max()) - begin) / 1e9, min(passed_s, plan.duration_s))
    return Delivery(seen, due, _company(view.samples, passed_s))


def judge(view: StageView, seen: Delivery, machine: Machine) -> Fault | None:
    """Over 2 % of what was due was never sent."""
    if not view.final or view.plan.purpose == "deploy":
        return None
    if view.plan.rate is None:
        return _slots(view, seen)
    short = (seen.planned or 0) - seen.sent
    if seen.planned is None or short < FEW or short <= MAX_SHORT * seen.planned:
        return None
    unit = "pairs" if view.plan.mode == "paired" else "requests"
    sent, due = (words.number(count / view.plan.duration_s) for count in (seen.sent, seen.planned))
    reason = (
        f"{short} of the {seen.planned} {unit} that were due ({words.percent(short / seen.planned)}) were never sent: "
        f"{sent}/s in place of {due}/s; {_lost(view) or cause(machine, None)}"
    )
    return fault(view, "rate", reason, voids=our_own(view))


def _lost(view: StageView) -> str:
    """The workers whose share of the load nobody sends."""
    _, end = span(view)
    gone = [f"load worker {w.worker}" for w in view.evidence.workers if w.lost_ns is not None and w.lost_ns <= end]
    return f"{' and '.join(gone)} had been lost" if gone else ""


def _slots(view: StageView, seen: Delivery) -> Fault | None:
    """A closed loop whose slots stood empty most of the time. What failed at that lower load has failed all the same;
    but where requests fail at once, the pauses after them are the reason.
    """
    failed = sum(view.failed(arm)[0] for arm in range(len(ARMS))) / view.total if view.total else 1.0
    if seen.in_flight is None or not seen.in_flight_planned or failed > FAILED_TOO_OFTEN:
        return None
    if seen.in_flight >= MIN_HELD * seen.in_flight_planned:
        return None
    unit = "pairs" if view.plan.mode == "paired" else "requests"
    reason = (
        f"{words.number(seen.in_flight)} {unit} were in flight on average, planned were "
        f"{words.number(seen.in_flight_planned)}: the generator is slower than the server that it measures"
    )
    return fault(view, "rate", reason, voids=nothing)


def _numbers(pair_id: Ints, stage: int, *, of_a_plan: bool) -> tuple[int, int] | None:
    """How many numbers of the plan there are up to the last one seen, and how many of them were seen. None if they are
    no such numbers: in somebody else's file a pair may be called anything.
    """
    if not len(pair_id) or (pair_id < 0).any() or ((pair_id >> 32) != stage).any():
        return None
    number = pair_id & 0xFFFFFFFF
    due = int(number.max()) + 1
    if due > 20 * len(number) + 1000 and not of_a_plan:
        return None
    return due, len(np.unique(number))


def tail(plan: StagePlan, last_s: float, end_s: float) -> int:
    """How many more must have been due after the last one seen: none, while such a gap may be chance (0.01 %).

    Gaps are gamma of the plan's shape (1 is Poisson). Those of a trace are known to nobody here.
    """
    if plan.arrival == "trace" or end_s <= last_s:
        return 0
    more = (_rate(plan, last_s) + _rate(plan, end_s)) / 2 * (end_s - last_s)
    shape = plan.burstiness if plan.arrival == "gamma" else 1.0
    longest = 1.0 if plan.arrival == "constant" else gamma_isf(GAP_ALPHA, shape, 1 / shape)
    return int(more) if more > longest + 1e-6 else 0


def _rate(plan: StagePlan, at_s: float) -> float:
    first = plan.rate or 0.0
    return first if plan.rate_to is None else first + (plan.rate_to - first) * min(at_s / plan.duration_s, 1.0)


def _held(samples: Columns, passed_s: float) -> float | None:
    """Slots in use on average: a slot is taken from the first of its requests being due to the last being done."""
    if not len(samples) or (samples.pair_id < 0).any():
        return None
    order = np.argsort(samples.pair_id, kind="stable")
    starts = np.flatnonzero(np.diff(samples.pair_id[order], prepend=-1))
    begin = np.minimum.reduceat(samples.due_ns[order], starts)
    end = np.maximum.reduceat(samples.done_ns[order], starts)
    return float((end - begin).sum()) / 1e9 / passed_s


def _company(samples: Columns, passed_s: float) -> float:
    """Requests in flight on average, by Little's law."""
    known = samples.sent_ns >= 0
    return float((samples.done_ns[known] - samples.sent_ns[known]).sum()) / 1e9 / passed_s
