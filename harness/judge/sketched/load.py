"""Whether what was due was sent, in time, and got through, from counts by cell of due time."""

from __future__ import annotations

import math

import numpy as np

from harness.judge.columns import ARMS, BASELINE, CANDIDATE, Floats
from harness.judge.sketched.counts import Histogram, weighted
from harness.judge.sketched.throughput import cells_s
from harness.judge.sketched.view import CountedView
from harness.judge.validity import delivery, lag, saturation
from harness.judge.validity.delivery import Delivery
from harness.judge.validity.lag import Lag
from harness.judge.validity.saturation import Load
from harness.judge.validity.signals import span
from harness.judge.validity.trend import kendall

CHANCE_SD = 4.0
"""So many standard deviations of its arrivals a load may be short of its rate by chance."""


def latency(view: CountedView) -> float:
    """As `lag.latency`."""
    every = [view.counts.every("request_latency", arm) for arm in (BASELINE, CANDIDATE)]
    return min((view.counts.pooled(one, 0.5) for one in every if one.total), default=0.0)


def late(view: CountedView, latency_s: float) -> Lag | None:
    """As `lag.measure`; a sketch does not say whose requests were late."""
    if view.plan.rate is None or not view.counts.lags:
        return None
    limit_s = max(lag.MIN_LAG_S, lag.LAG_SHARE * latency_s)
    seen = {worker: view.counts.spread(histogram) for worker, histogram in view.counts.lags.items()}
    beyond = {worker: round(float(weights[values > limit_s].sum())) for worker, (values, weights) in seen.items()}
    sizes = {worker: histogram.total for worker, histogram in view.counts.lags.items()}
    worst = max(sizes, key=lambda worker: (beyond[worker] / max(sizes[worker], 1), -(worker or 0)))
    histograms = list(view.counts.lags.values())
    whole = view.counts.spread(sum(histograms[1:], histograms[0]))
    return Lag(
        n=sum(sizes.values()),
        p50_s=weighted(*whole, 0.5),
        p99_s=weighted(*whole, 0.99),
        limit_s=limit_s,
        late=sum(beyond.values()),
        worker=worst,
        worker_late=0 if worst is None else beyond[worst],
        worker_n=0 if worst is None else sizes[worst],
        by_worker={worker: weighted(*one, 0.99) for worker, one in seen.items() if worker is not None},
    )


def sent(view: CountedView) -> Delivery:
    """As `delivery.measure`. Where the plan's numbers are not known, what arrivals leave to chance is not missing."""
    plan, counts = view.plan, view.counts
    begin, end = span(view)
    passed_s = max((end - begin) / 1e9, 1e-9)
    asked = [view.asked(arm) for arm in range(len(ARMS))]
    sent = max(asked[BASELINE], asked[CANDIDATE]) if plan.mode == "paired" else sum(asked)
    if plan.rate is None:
        last = plan.in_flight_to if plan.in_flight_to is not None else plan.in_flight
        slots = None if plan.in_flight is None or last is None else (plan.in_flight + last) / 2
        held_s = counts.held_s if counts.held_s is not None else _held_s(view)
        return Delivery(sent, None, held_s / passed_s, slots)
    flying_s = counts.flying_s
    if flying_s is None:
        flying_s = sum(counts.sum("request_latency", arm) for arm in range(len(ARMS)))
    in_flight = flying_s / passed_s
    if counts.numbers is not None:
        due, seen = counts.numbers
        return Delivery(seen, due + delivery.tail(plan, _last_s(view), min(passed_s, plan.duration_s)), in_flight)
    if not view.evidence.planned or plan.arrival == "trace":
        return Delivery(sent, None, in_flight)
    rate = plan.rate if plan.rate_to is None else (plan.rate + plan.rate_to) / 2
    due = round(rate * plan.duration_s)
    chance = 0.0 if plan.arrival == "constant" else CHANCE_SD * math.sqrt(due / min(plan.burstiness, 1.0))
    return Delivery(sent, due if due - sent > chance else None, in_flight)


def _last_s(view: CountedView) -> float:
    """When the last request was due."""
    last = max((sender.last_ns for sender in view.counts.senders.values()), default=view.record.begin_ns)
    return (last - view.record.begin_ns) / 1e9


def _held_s(view: CountedView) -> float:
    """How long slots were in use. The longer half of each pair is not known: at least so long as the slower arm's."""
    counts = view.counts
    metric = "response_time" if counts.due_known else "request_latency"
    each = [counts.sum(metric, arm) for arm in range(len(ARMS))]
    return max(each) if view.plan.mode == "paired" else sum(each)


def loads(view: CountedView) -> tuple[Load, ...]:
    """As `saturation.measure`."""
    if view.plan.rate is None:
        return ()
    found = (_load(view, arm) for arm in (BASELINE, CANDIDATE))
    return tuple(one for one in found if one is not None)


def _load(view: CountedView, arm: int) -> Load | None:
    every = view.counts.every("request_latency", arm)
    seconds = cells_s(view)
    groups = min(saturation.GROUPS, len(seconds), every.total // 5)
    if every.total < saturation.FEW or groups < 4:
        return None
    middle = _medians(view, every, np.array_split(np.arange(len(seconds)), groups))
    quarter = max(len(middle) // 4, 1)
    begin, end = float(np.median(middle[:quarter])), float(np.median(middle[-quarter:]))
    asked = view.counts.statuses[arm, 0].sum(axis=0)[: len(seconds)].astype(np.float64)
    edges = np.concatenate([[0.0], np.cumsum(seconds)])
    last, half = float(edges[-1]), float(edges[-1]) / 2
    came = float(asked.sum() - np.interp(half, edges, np.concatenate([[0.0], np.cumsum(asked)])))
    waiting = _flying(view, every, edges, last)
    went = came - (waiting - _flying(view, every, edges, half))
    tau, p = kendall(middle)
    grows = tau > 0 and p < saturation.ALPHA and end >= saturation.GROWN * begin
    behind = went < saturation.BEHIND * came and came - went >= saturation.MIN_BACKLOG
    return Load(arm, came / half, went / half, begin, end, round(waiting), grows and behind)


def _medians(view: CountedView, every: Histogram, groups: list[np.ndarray]) -> Floats:  # type: ignore[type-arg]
    """Of groups of cells, those of which nothing was answered left out."""
    found = []
    for group in groups:
        mine = (every.cell >= group[0]) & (every.cell <= group[-1])
        found.append(view.counts.pooled(Histogram(every.cell[mine], every.bin[mine], every.count[mine]), 0.5))
    medians = np.array(found, np.float64)
    return np.asarray(medians[np.isfinite(medians)], np.float64)


def _flying(view: CountedView, every: Histogram, edges: Floats, at_s: float) -> float:
    """How many requests were under way at a moment: those of each cell were due evenly in it."""
    rows, values, weights = view.counts.scale.spread(every.bin, every.count)
    cell = every.cell[rows]
    inside = cell < len(edges) - 1
    cell, values, weights = cell[inside], values[inside], weights[inside]
    low, high = edges[cell], edges[cell + 1]
    span_s = np.minimum(high, at_s) - np.maximum(low, at_s - values)
    return float((weights * np.clip(span_s, 0, None) / (high - low)).sum())
