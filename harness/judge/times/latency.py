"""Times of both arms at equal load, compared on time-paired blocks; and the drift of output lengths."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness.judge import words
from harness.judge.columns import BASELINE, CANDIDATE, Columns, Floats, Ints
from harness.judge.metrics import quantile_of
from harness.judge.rule import Rule, settled
from harness.judge.sketched.binned import Binned, binned
from harness.judge.sketched.view import CountedView
from harness.judge.statistics import grain
from harness.judge.statistics.blocks import (
    MIN_BLOCKS,
    MIN_PAIRS_A_BLOCK,
    MIN_REQUESTS_A_BLOCK,
    Blocks,
    block_logs,
    by_pairs,
    by_time,
    log_of,
    pooled,
    statistic,
)
from harness.judge.statistics.intervals import (
    ALPHA_FAIL,
    Spread,
    agreed,
    lower,
    lower_agreed,
    mirrored,
    more_seconds,
    p_agreed,
    spread,
    upper,
)
from harness.judge.statistics.resample import generator, pooled_pair
from harness.judge.statistics.robust import ROUNDING
from harness.judge.statistics.tail import Tail
from harness.judge.times.derived import lengths, seconds, uncounted
from harness.judge.times.gaps import ICL
from harness.judge.view import StageView
from harness.types import Finding, Gate

MAX_DROPPED = 0.10


@dataclass(frozen=True, eq=False)
class Matched:
    """Values of both arms that may be compared. Paired: row i of both is one pair. `dropped`: the share of
    pairs in which one arm answered without this time being known, and the other's is known.
    """

    values: tuple[Floats, Floats]
    due_ns: tuple[Ints, Ints]
    paired: bool
    begin_ns: int | None = None
    dropped: float = 0.0

    @property
    def counts(self) -> tuple[int, int]:
        return len(self.values[0]), len(self.values[1])

    @property
    def requests(self) -> int:
        return min(self.counts)

    @property
    def constant(self) -> bool:
        return all(np.ptp(values) == 0 for values in self.values)

    @cached_property
    def tick(self) -> float:
        """Of the clock, in seconds."""
        return grain.tick(self.values)

    def blur(self, quantile: float | None, smaller: float) -> float:
        """ln of what a ratio may be off by; see `grain.blur`."""
        return grain.blur(self.values, self.tick, quantile, smaller)

    @property
    def coarse(self) -> str:
        return f"known to {words.time(self.tick)} only"

    @cached_property
    def blocks(self) -> Blocks | None:
        """None if there are too few requests."""
        if self.paired:
            return by_pairs(np.minimum(*self.due_ns), *self.values, self.begin_ns)
        (due1, due2), (v1, v2) = self.due_ns, self.values
        return by_time(due1, v1, due2, v2, self.begin_ns)


def measured(columns: Columns, metric: str) -> Floats:
    return lengths(columns) if metric == "osl" else seconds(columns, metric)


def matched(view: StageView, metric: str) -> Matched | Binned:
    """In a paired stage only pairs with a value in both arms: a failed request takes its partner out."""
    if isinstance(view, CountedView):
        return binned(view, metric)
    time = metric.split(".", 1)[0]
    if time not in view.kept:
        view.kept[time] = _matched(view, metric)
    found: Matched = view.kept[time]
    return found


def _matched(view: StageView, metric: str) -> Matched:
    arms, begin = view.timed(metric), view.record.begin_ns
    values = tuple(measured(arm, metric) for arm in arms)
    if view.plan.mode != "paired" or metric.startswith(ICL):
        known = tuple(np.isfinite(v) for v in values)
        dues = tuple(arm.due_ns[k] for arm, k in zip(arms, known, strict=True))
        kept = tuple(v[k] for v, k in zip(values, known, strict=True))
        return Matched((kept[0], kept[1]), (dues[0], dues[1]), paired=False, begin_ns=begin)
    _, first, second = np.intersect1d(arms[0].pair_id, arms[1].pair_id, return_indices=True)
    v1, v2 = values[0][first], values[1][second]
    fine = (arms[0].status[first] == 0) & (arms[1].status[second] == 0)
    known1, known2 = np.isfinite(v1), np.isfinite(v2)
    either, both = known1 | known2, known1 & known2
    lost = int((fine & either & ~both).sum()) / max(int((fine & either).sum()), 1)
    dues = (arms[0].due_ns[first][both], arms[1].due_ns[second][both])
    return Matched((v1[both], v2[both]), dues, paired=True, begin_ns=begin, dropped=lost)


def least_requests(metric: str) -> int:
    """10/(1-p) requests an arm for quantile p; 20 for a mean."""
    quantile = quantile_of(metric) if metric != "osl" else None
    return 20 if quantile is None else math.ceil(round(10 / (1 - quantile), 6))


def compare(view: StageView, gate: Gate) -> Rule:
    """The rule of a relative gate on a time, or on `osl`, in a stage of equal load."""
    assert gate.margin is not None
    data = matched(view, gate.metric)
    missing = _missing(view, gate, data)
    if missing is not None:
        return settled(missing)
    quantile = None if gate.metric == "osl" else quantile_of(gate.metric)
    blocks = data.blocks
    n, least = data.requests, least_requests(gate.metric)
    if blocks is None or n < least:
        return settled(_too_few(view, gate, data, least))
    v1, v2 = (pooled(blocks, arm, quantile) for arm in (0, 1))
    if data.constant and gate.metric != "osl":
        return settled(_constant(view, gate, v1, v2, n))
    logs = block_logs(blocks, quantile)
    draws = pooled_pair(blocks, quantile, generator(view.evidence.seed, gate.metric, view.index))
    effect = float(np.diff(log_of(np.array([v1, v2])))[0])
    seen = spread(effect, logs[1] - logs[0], log_of(draws[1]) - log_of(draws[0]), ordered=True, robust=True)
    tail = Tail.of(blocks, quantile, seen.widened)
    return Ratio(view, gate, seen, v1, v2, data, blocks.dropped, tail).rule()


@dataclass(frozen=True, slots=True, eq=False)
class Ratio:
    """A measured ln ratio, and the words for it."""

    view: StageView
    gate: Gate
    seen: Spread
    v1: float
    v2: float
    data: Matched | Binned
    dropped_blocks: float
    tail: Tail | None = None

    def rule(self) -> Rule:
        bar = math.log1p(self.gate.margin or 0.0) + self.blur
        p = p_agreed(self.seen, bar) if self.tail is None else agreed(self.tail.p(bar), self.seen, bar)
        if self.gate.metric == "osl":  # drift counts in both directions
            p = min(1.0, 2 * min(p, p_agreed(mirrored(self.seen), bar)))
        if self.dropped > MAX_DROPPED:
            p = 1.0
        return Rule(self.view.looks.p(p, self.seen.units), self.finding)

    @property
    def blur(self) -> float:
        """ln of what the ratio may be off by because times are known to bins, or to ticks of a clock, only."""
        if isinstance(self.data, Binned):
            return self.data.blur
        if self.gate.metric == "osl":
            return 0.0  # a length is a whole number
        return self.data.blur(quantile_of(self.gate.metric), min(self.v1, self.v2))

    @property
    def dropped(self) -> float:
        return max(self.data.dropped, self.dropped_blocks)

    def finding(self, failed: float | None) -> Finding:
        gate, view, seen = self.gate, self.view, self.seen
        bar = math.log1p(gate.margin or 0.0)
        level = view.looks.level(failed or ALPHA_FAIL, seen.units)
        if gate.metric == "osl":  # half of it for either direction
            level /= 2
        low = lower_agreed(seen, level, None if self.tail is None else self.tail.lower(level)) - self.blur
        sure = view.pass_level(seen.units)
        high = upper(seen, sure) + self.blur
        within = high < bar - ROUNDING and (gate.metric != "osl" or lower(seen, sure) > -bar)
        needs_s = None
        if failed is not None:
            outcome, reason = "fail", self._worse(low, failed)
        elif self.dropped > MAX_DROPPED:
            outcome, reason = "inconclusive", self._lossy()
        elif within and view.may_pass:
            outcome, reason = "pass", self._fine(high)
        else:
            needs_s = self._needs(bar)
            outcome, reason = "inconclusive", self._open(low, high, within, needs_s) + self._blurred(high, bar)
        return Finding(
            metric=gate.metric,
            outcome=outcome,  # type: ignore[arg-type]
            reason=reason + words.trust(seen),
            stage=view.index,
            effect=math.exp(seen.effect),
            interval=(math.exp(min(low, 50)), math.exp(min(high, 50))),
            margin=1 + (gate.margin or 0.0),
            baseline=self.v1,
            candidate=self.v2,
            n_baseline=self.data.counts[0],
            n_candidate=self.data.counts[1],
            needs_s=needs_s,
        )

    def _blurred(self, high: float, bar: float) -> str:
        """Only where it matters: finer ones would have passed."""
        if not high - self.blur < bar <= high:
            return ""
        return f" ({self.data.coarse}, which alone keeps it from passing)"

    def _values(self) -> str:
        show = words.number if self.gate.metric == "osl" else words.time
        return f"({show(self.v2)} against {show(self.v1)})"

    def _what(self) -> str:
        effect = words.change(math.exp(self.seen.effect))
        v1, v2 = self.view.names
        name = self.gate.metric.replace(".", " ")
        if effect == "the same":
            return f"{name} is the same on {v2} as on {v1} {self._values()}"
        return f"{name} is {effect} on {v2} than on {v1} {self._values()}"

    def _worse(self, low: float, alpha: float) -> str:
        limit = f"margin {words.margin(self.gate.margin or 0.0)}"
        if self.gate.metric == "osl":
            return f"{self._what()}: answers have changed in length by more than the {limit}"
        sure = f"{words.confidence(alpha)} sure it is at least {words.at_least(math.exp(low))}"
        return f"{self._what()}; {sure}, {limit}"

    def _fine(self, high: float) -> str:
        most = f"95 % sure it is at most {words.apart(math.exp(high))}"
        return f"{self._what()}; {most}, margin {words.margin(self.gate.margin or 0.0)}"

    def _lossy(self) -> str:
        return (
            f"{self._what()}, but {words.percent(self.dropped)} of the measurement had to be dropped because "
            f"only one arm has this value; at most {words.percent(MAX_DROPPED)} may be"
        )

    def _open(self, low: float, high: float, within: bool, needs_s: float | None) -> str:
        between = f"it may be anything from {words.apart(math.exp(low))} to {words.apart(math.exp(high))}"
        limit = f"margin {words.margin(self.gate.margin or 0.0)}"
        if within:
            return f"{self._what()}: within the {limit} so far, but the stage is not over"
        if needs_s is None:
            tail = f"and the estimate itself is not inside the {limit}: time may not help"
            return f"{self._what()}: {between}, {tail}"
        return f"{self._what()}: {between}, {limit}{words.needs(needs_s)}"

    def _needs(self, bar: float) -> float | None:
        bar -= self.blur
        if self.gate.metric == "osl" and self.seen.effect < 0:
            return more_seconds(mirrored(self.seen), bar, self.view.elapsed_s)
        return more_seconds(self.seen, bar, self.view.elapsed_s)


def _known(view: StageView, metric: str, data: Matched | Binned) -> tuple[list[int], list[str], bool]:
    """How many requests of either arm have the time, whose tokens nobody counted, and whether chunks were kept."""
    if isinstance(data, Binned):
        known, uncounted_in, kept = list(data.known), data.uncounted, any(data.known)
    else:
        known = [int(np.isfinite(measured(arm, metric)).sum()) for arm in view.timed(metric)]
        uncounted_in = uncounted(view.baseline, metric), uncounted(view.candidate, metric)
        kept = view.evidence.gaps is not None
    return known, [v for v, silent in zip(view.names, uncounted_in, strict=True) if silent], kept


def _missing(view: StageView, gate: Gate, data: Matched | Binned) -> Finding | None:
    """No values at all, in one arm or both. Missing data never passes."""
    if data.requests > 0:
        return None
    v1, v2 = view.names
    known, silent, kept = _known(view, gate.metric, data)
    name = gate.metric.split(".", 1)[0]
    if gate.metric.startswith(ICL) and not kept:
        reason = "the times of chunks were not kept, so there is no icl; load.chunks: true keeps them"
    elif silent:
        whose = " and ".join(silent)
        reason = f"nobody counted the tokens of {whose}, so there is no {name}; load.tokenizer would count them"
    elif known[0] and known[1]:
        reason = f"no pair has a {name} in both arms ({known[0]} requests on {v1}, {known[1]} on {v2} have one)"
    elif known[0]:
        asked = words.count(view.asked(CANDIDATE), "request")
        reason = f"{v2} gave no {name} in {asked}, {v1} in {known[0]}: missing on {v2} only is a sign of failure"
    elif known[1]:
        asked = words.count(view.asked(BASELINE), "request")
        reason = f"{v1} gave no {name} in {asked}: nothing to compare {v2} with"
    else:
        reason = f"no request of this stage has a {name}"
    return Finding(
        metric=gate.metric,
        outcome="no data",
        reason=reason,
        stage=view.index,
        margin=1 + (gate.margin or 0.0),
        n_baseline=known[0],
        n_candidate=known[1],
    )


def _too_few(view: StageView, gate: Gate, data: Matched | Binned, least: int) -> Finding:
    n = data.requests
    floor = MIN_BLOCKS * (MIN_PAIRS_A_BLOCK if data.paired else MIN_REQUESTS_A_BLOCK)
    wanted = max(least, floor)
    unit = "pair" if data.paired else "request"
    needs_s: float | None = view.elapsed_s * (wanted / n - 1) if n < wanted else view.elapsed_s
    each = "" if data.paired else " an arm"
    tail = words.needs(needs_s) if view.final else ""
    quantile = None if gate.metric == "osl" else quantile_of(gate.metric)
    v1, v2 = data.statistics() if isinstance(data, Binned) else (statistic(v, quantile) for v in data.values)
    reason = f"needs at least {wanted} {unit}s{each}, there are {n}{tail}"
    if isinstance(data, Binned) and n >= wanted:
        reason, needs_s = f"cannot be judged from counts: {data.too_coarse}", None
    return Finding(
        metric=gate.metric,
        outcome="inconclusive",
        reason=f"{gate.metric.replace('.', ' ')} {reason}",
        stage=view.index,
        effect=v2 / v1 if v1 > 0 else None,
        margin=1 + (gate.margin or 0.0),
        baseline=v1,
        candidate=v2,
        n_baseline=data.counts[0],
        n_candidate=data.counts[1],
        needs_s=needs_s,
    )


def _constant(view: StageView, gate: Gate, v1: float, v2: float, n: int) -> Finding:
    reason = (
        f"every request took exactly {words.time(v2)} on {view.names[1]} and {words.time(v1)} on "
        f"{view.names[0]}: a recording without any variation cannot be judged (is its clock too coarse?)"
    )
    return Finding(
        metric=gate.metric,
        outcome="inconclusive",
        reason=reason,
        stage=view.index,
        effect=v2 / v1 if v1 > 0 else None,
        margin=1 + (gate.margin or 0.0),
        baseline=v1,
        candidate=v2,
        n_baseline=n,
        n_candidate=n,
    )
