"""Whether as many requests were sent as were planned: by rate, by number, and in a closed loop by slots in use."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.judge import words
from harness.judge.columns import Ints
from harness.judge.validity.fault import Fault, fault, nothing
from harness.judge.validity.generator import Machine, cause
from harness.judge.validity.lag import our_own
from harness.judge.validity.signals import span
from harness.judge.view import StageView
from harness.types import StagePlan

MAX_SHORT, MAX_MISSING = 0.05, 0.02
SHORT_Z = 3.3
MIN_HELD = 0.5
FAILED_TOO_OFTEN = 0.10


@dataclass(frozen=True, slots=True)
class Delivery:
    """Requests (in paired mode pairs). `planned`: what the rate comes to in the time that passed; `noise` its standard
    deviation. `due`, `missing`: by the numbers in pair ids, up to the last one seen; None where ids are not a plan's.
    """

    sent: int
    planned: float | None = None
    noise: float = 0.0
    due: int | None = None
    missing: int | None = None
    in_flight: float | None = None
    in_flight_planned: float | None = None


def measure(view: StageView) -> Delivery:
    plan, samples = view.plan, view.samples
    begin, end = span(view)
    passed_s = max((end - begin) / 1e9, 1e-9)
    load_s = min(passed_s, plan.duration_s)
    left = (samples.sent_ns >= 0) | (samples.done_ns >= 0)
    asked = samples.take(left & ~samples.score)
    sent = max(len(arm) for arm in view.arms) if plan.mode == "paired" else len(asked)
    if plan.rate is None:
        held = _held(view, passed_s)
        last = plan.in_flight_to if plan.in_flight_to is not None else plan.in_flight
        slots = None if plan.in_flight is None or last is None else (plan.in_flight + last) / 2
        return Delivery(sent, in_flight=held, in_flight_planned=slots)
    planned = _rate_mean(plan, load_s) * load_s
    due, missing = _numbers(asked.pair_id, view.index)
    return Delivery(sent, planned, _noise(plan, planned), due, missing, in_flight=_company(view, passed_s))


def judge(view: StageView, seen: Delivery, machine: Machine) -> Fault | None:
    """Fewer requests than planned: over 5 % and more than chance makes of them, or numbers of the plan never sent."""
    if not view.final or view.plan.purpose == "deploy":
        return None
    if view.plan.rate is None:
        return _slots(view, seen)
    unit = "pairs" if view.plan.mode == "paired" else "requests"
    why = cause(machine, None)
    if seen.due and seen.missing and seen.missing >= 3 and seen.missing > MAX_MISSING * seen.due:
        share = words.percent(seen.missing / seen.due)
        text = f"{seen.missing} of the {seen.due} {unit} that were due ({share}) were never sent"
        return fault(view, "rate", f"{text}: the load was not the planned one; {why}", voids=our_own(view))
    planned = seen.planned or 0.0
    short = planned - seen.sent
    if short <= MAX_SHORT * planned or short <= SHORT_Z * seen.noise + 1:
        return None
    per_s = f"{words.number(seen.sent / view.plan.duration_s)} {unit}/s were sent"
    text = f"{per_s}, {words.number(_rate_mean(view.plan, view.plan.duration_s))}/s were planned"
    return fault(view, "rate", f"{text} ({seen.sent} of {planned:.0f}): {why}", voids=our_own(view))


def _slots(view: StageView, seen: Delivery) -> Fault | None:
    """A closed loop whose slots stood empty most of the time. What failed at that lower load has failed all the same;
    but where requests fail at once, the pauses after them are the reason.
    """
    samples = view.samples
    failed = float(samples.failed.mean()) if len(samples) else 1.0
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


def _rate_mean(plan: StagePlan, passed_s: float) -> float:
    """Of a ramp as far as it came, in requests (pairs) a second."""
    first = plan.rate or 0.0
    last = first if plan.rate_to is None else plan.rate_to
    return first + (last - first) * min(passed_s / plan.duration_s, 1.0) / 2


def _noise(plan: StagePlan, planned: float) -> float:
    """Standard deviation of a count of renewals: sqrt(n) times the gaps' coefficient of variation."""
    if plan.arrival == "constant":
        return 0.0
    shape = plan.burstiness if plan.arrival == "gamma" else 1.0
    return math.sqrt(max(planned, 0.0) / max(shape, 1e-9))


def _numbers(pair_id: Ints, stage: int) -> tuple[int | None, int | None]:
    """How many numbers of the plan there were up to the last one seen, and how many of them are missing."""
    if not len(pair_id) or (pair_id < 0).any() or ((pair_id >> 32) != stage).any():
        return None, None
    number = pair_id & 0xFFFFFFFF
    due = int(number.max()) + 1
    if due > 20 * len(number) + 1000:
        return None, None
    return due, due - int(np.count_nonzero(np.bincount(number)))


def _held(view: StageView, passed_s: float) -> float | None:
    """Slots in use on average: a slot is taken from the first of its requests being due to the last being done."""
    samples = view.samples
    if not len(samples) or (samples.pair_id < 0).any():
        return None
    order = np.argsort(samples.pair_id, kind="stable")
    starts = np.flatnonzero(np.diff(samples.pair_id[order], prepend=-1))
    begin = np.minimum.reduceat(samples.due_ns[order], starts)
    end = np.maximum.reduceat(samples.done_ns[order], starts)
    return float((end - begin).sum()) / 1e9 / passed_s


def _company(view: StageView, passed_s: float) -> float:
    """Requests in flight on average, by Little's law."""
    samples = view.samples
    known = samples.sent_ns >= 0
    return float((samples.done_ns[known] - samples.sent_ns[known]).sum()) / 1e9 / passed_s
