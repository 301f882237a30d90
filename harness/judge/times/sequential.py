"""Arms in turns: each alone on the machine for a while, in the order A-B-B-A, so that a linear drift of it cancels.

Periods go two by two, one of each arm, and both of a half-cycle get the same arrivals and prompts. Each is cut into as
many blocks, block b of the one is matched with block b of the other, and D = ln q2 - ln q1 is taken in each match. What
changes from period to period (a swap, a neighbour, a clock) does not show within them: so the half-cycles' means are a
second sample of the same difference, and of the two t-intervals the wider one counts. Of one cycle only there is no
such sample, and the finding says that it deserves little trust.

All periods are judged together, at the end of the last; until then only errors can end the run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np

from harness.judge.columns import Columns, Floats, Ints
from harness.judge.metrics import RESOURCES, THROUGHPUT, is_latency, quantile_of
from harness.judge.rule import Rule, settled
from harness.judge.statistics.blocks import MIN_BLOCKS, MIN_PAIRS_A_BLOCK, Blocks, block_logs, log_of, statistic
from harness.judge.statistics.distributions import t_isf
from harness.judge.statistics.intervals import ALPHA_FAIL, Spread, spread
from harness.judge.statistics.resample import generator, pooled_pair
from harness.judge.times.gaps import ICL
from harness.judge.times.latency import Matched, Ratio, least_requests, measured
from harness.judge.view import StageView
from harness.types import Finding, Gate, StageRecord

BLOCK_S = 5.0
MOST_BLOCKS = 40
GOOD_REQUESTS = 40
FEW_HALVES = 3


@dataclass(frozen=True)
class Turns(StageView):
    """The periods of a sequential stage so far, as one: `record` lasts from the first to the last of `records`."""

    records: tuple[StageRecord, ...] = ()

    @cached_property
    def samples(self) -> Columns:
        indices = [record.plan.index for record in self.records]
        return self.so_far.take(np.isin(self.so_far.stage, indices))

    @property
    def over(self) -> bool:
        """Every period was run, and the last one is over."""
        return self.final and len(self.records) == self.plan.periods


def turns(view: StageView) -> Turns:
    """The sequential stage of which `view` is one period."""
    records: list[StageRecord] = []
    for record in sorted(view.evidence.stages, key=lambda record: record.plan.index, reverse=True):
        plan = record.plan
        if plan.index <= view.index and plan.period == view.plan.period - len(records) and plan.purpose == "compare":
            records.insert(0, record)
        if plan.index <= view.index and plan.period == 1:
            break
    first, plan = records[0], view.plan
    whole = replace(plan, candidate_share=0.5, duration_s=plan.duration_s * plan.periods)
    known = {field.name: getattr(view, field.name) for field in fields(StageView)}
    known["record"] = replace(view.record, plan=whole, begin_ns=first.begin_ns)
    known["fraction"] = (plan.period - 1 + view.fraction) / plan.periods
    return Turns(**known, records=tuple(records))


def compare(view: Turns, gate: Gate) -> Rule:
    """The rule of a relative gate; it says nothing before all periods are over."""
    if not view.over:
        return settled(_none(view, gate, "not judged before all periods are over", 0, 0))
    if gate.metric in (*THROUGHPUT, *RESOURCES) or gate.metric.startswith(ICL):
        return settled(_none(view, gate, f"{gate.metric} is not compared between arms that work in turns", 0, 0))
    halves = [
        _half(view, one, two, gate.metric) for one, two in zip(view.records[::2], view.records[1::2], strict=True)
    ]
    counts = [len(values) for half in halves for values, _ in half]
    arms = [sum(len(half[arm][0]) for half in halves) for arm in (0, 1)]
    blocks, half_of = _matched(halves, min(counts), view.plan.duration_s / view.plan.periods)
    least = max(least_requests(gate.metric), MIN_BLOCKS * MIN_PAIRS_A_BLOCK)
    if blocks is None or min(arms) < least:
        name = gate.metric.replace(".", " ")
        reason = f"{name} needs at least {least} requests an arm, and some in each period; there are {min(arms)}"
        return settled(_none(view, gate, f"{reason}, and {min(counts)} in the emptiest period", *arms))
    quantile = quantile_of(gate.metric) if is_latency(gate.metric) else None
    v1, v2 = (statistic(values, quantile) for values in blocks.values)
    one, two = block_logs(blocks, quantile)
    draws = pooled_pair(blocks, quantile, generator(view.evidence.seed, gate.metric, view.index))
    effect = float(np.diff(log_of(np.array([v1, v2])))[0])
    seen = spread(effect, two - one, log_of(draws[1]) - log_of(draws[0]), ordered=True, robust=True)
    seen = _wider(seen, np.array([np.mean((two - one)[half_of == half]) for half in np.unique(half_of)]))
    due = tuple(np.concatenate([half[arm][1] for half in halves]) for arm in (0, 1))
    data = Matched(blocks.values, (due[0], due[1]), paired=False)
    rule = Ratio(view, gate, seen, v1, v2, data, blocks.dropped).rule()
    tail = _tail(view, len(halves))
    return replace(rule, finding=lambda failed: _said(rule.finding(failed), tail))


Period = tuple[Floats, Ints]
"""Values (seconds) and when they were due, from the period's begin."""


def _half(view: Turns, one: StageRecord, two: StageRecord, metric: str) -> tuple[Period, Period]:
    """A half-cycle: the baseline's period, and the candidate's next to it."""
    first, second = (one, two) if one.plan.candidate_share < two.plan.candidate_share else (two, one)
    return _period(view.baseline, first, metric), _period(view.candidate, second, metric)


def _period(arm: Columns, record: StageRecord, metric: str) -> Period:
    mine = arm.take(arm.stage == record.plan.index)
    values = measured(mine, metric)
    known = np.isfinite(values)
    return values[known], mine.due_ns[known] - record.begin_ns


def _matched(halves: Sequence[tuple[Period, Period]], fewest: int, period_s: float) -> tuple[Blocks | None, list[int]]:
    """Blocks of both arms, half-cycle after half-cycle, and the half-cycle of each; None if there are too few."""
    wanted = -(-MIN_BLOCKS // len(halves))
    count = min(max(min(int(period_s / BLOCK_S), fewest // GOOD_REQUESTS), wanted), MOST_BLOCKS)
    if fewest < count * MIN_PAIRS_A_BLOCK:
        return None, []
    kept: tuple[list[Floats], list[Floats]] = ([], [])
    half_of: list[int] = []
    for number, half in enumerate(halves):
        cut = [_slices(values, due, count, period_s) for values, due in half]
        for one, two in zip(*cut, strict=True):
            if len(one) and len(two):
                kept[0].append(one)
                kept[1].append(two)
                half_of.append(number)
    if len(half_of) < MIN_BLOCKS:
        return None, half_of
    values = tuple(np.concatenate(parts) for parts in kept)
    starts = tuple(np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64) for parts in kept)
    dropped = 1 - len(half_of) / (count * len(halves))
    return Blocks((values[0], values[1]), (starts[0], starts[1]), dropped), half_of


def _slices(values: Floats, due: Ints, count: int, period_s: float) -> list[Floats]:
    block = np.clip((due / 1e9 / period_s * count).astype(np.int64), 0, count - 1)
    return [values[block == number] for number in range(count)]


def _wider(seen: Spread, means: Floats) -> Spread:
    """The t-interval of the half-cycles' means, where there are enough of them and it is the wider one."""
    halves = len(means)
    if halves < FEW_HALVES:
        return seen
    error = float(means.std(ddof=1)) / math.sqrt(halves)
    if t_isf(ALPHA_FAIL, halves - 1) * error <= t_isf(ALPHA_FAIL, seen.df) * seen.se_units:
        return seen
    return replace(seen, se_units=error, units=halves, lag1=0.0, robust=False)


def _tail(view: Turns, halves: int) -> str:
    v1, v2 = view.names
    cycles = halves // 2
    often = "once" if cycles == 1 else f"{cycles} times"
    text = f" (rests on {v1} and {v2} in turns, {often} A-B-B-A"
    if halves < FEW_HALVES:
        text += "; low trust: how much the machine changes from period to period is not known from one cycle"
    return text + ")"


def _said(found: Finding, tail: str) -> Finding:
    return replace(found, reason=found.reason + tail)


def _none(view: Turns, gate: Gate, reason: str, n1: int, n2: int) -> Finding:
    return Finding(
        metric=gate.metric,
        outcome="inconclusive" if n1 and n2 else "no data",
        reason=reason,
        stage=view.index,
        margin=1 + (gate.margin or 0.0),
        n_baseline=n1,
        n_candidate=n2,
    )
