"""Arms that share a machine are coupled: a slow v2 slows v1, and their ratio drifts to 1. So v1 beside v2 is compared
with v1 alone, where a stage before gave v1 by itself the load that both have together.

Both are cut into blocks, each of v1's own: ln q of a block, and the difference of two means with Welch's standard error
and degrees of freedom, each side widened where its blocks resemble each other. What slowed the machine between the two
stages does not cancel here, as it does between arms at the same time. Hence the rule:

- a gate rests on both arms at the same time unless v1 is surely (95 %) dragged along;
- if it is, the gate passes only if v2 beside v1 is within the margin of v1 alone, too;
- it fails where the arms at the same time say so, or where v2 is surely beyond the margin of v1 alone, v1 is surely
  dragged along, and v2 is surely slower than v1 at the same time: a machine that became slower for both is no fault of
  v2.

All three at the level of the gate: whoever has to pass three tests passes them by luck no more often than the hardest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.judge import words
from harness.judge.columns import BASELINE, Columns, Floats
from harness.judge.evidence import Evidence
from harness.judge.metrics import is_latency, quantile_of
from harness.judge.rule import Rule
from harness.judge.statistics.blocks import MIN_BLOCKS, MIN_PAIRS_A_BLOCK, block_logs, by_pairs, log_of, statistic
from harness.judge.statistics.intervals import ALPHA_PASS, Spread, lower, p_above, spread, upper
from harness.judge.statistics.resample import draws, generator, resampled
from harness.judge.times import latency
from harness.judge.times.gaps import ICL
from harness.judge.view import ALONE, StageView
from harness.types import Finding, Gate, StageRecord

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One arm in one stage: ln of its statistic, seen as a Spread, and how many answers it is made of."""

    seen: Spread
    value: float
    answers: int


@dataclass(frozen=True, slots=True, eq=False)
class Coupling:
    """`drag`: ln of v1 beside v2 over v1 alone. `total`: ln of v2 beside v1 over v1 alone."""

    alone: Side
    beside: Side
    candidate: Side
    drag: Spread
    total: Spread

    @property
    def dragged(self) -> bool:
        """Surely (95 %): then a ratio of both at the same time hides a part of what v2 costs."""
        return lower(self.drag, ALPHA_PASS) > 0


@dataclass(frozen=True, slots=True)
class TooLittle:
    """Why v1 alone cannot be compared with."""

    reason: str


def alone_before(view: StageView) -> StageRecord | None:
    """The stage right before this one, if v1 was alone in it."""
    found = (r for r in view.evidence.stages if r.plan.index == view.index - 1 and r.plan.purpose == ALONE)
    return next(found, None)


def rested(view: StageView, gate: Gate, rule: Rule) -> Rule:
    """The rule of a time at equal load, resting on v1 alone where v1 is dragged along. Others are as they were."""
    if gate.margin is None or not _compares(gate.metric):
        return rule
    coupling = measure(view, gate.metric)
    if coupling is None:
        return rule
    if isinstance(coupling, TooLittle):
        return replace(rule, finding=lambda failed: _unknown(rule.finding(failed), coupling.reason))
    p = rule.p_worse
    if coupling.dragged and p > 0:
        bar = math.log1p(gate.margin)
        sure = max(p_above(coupling.total, bar), p_above(coupling.drag, 0.0))
        slower = latency.compare(view, replace(gate, margin=0.0)).p_worse
        p = min(p, max(view.looks.p(sure, coupling.drag.units), slower))
    return replace(rule, p_worse=p, finding=lambda failed: _resting(view, gate, rule, coupling, failed))


def information(view: StageView, gates: Sequence[Gate]) -> Iterator[Finding]:
    """`coupling.<metric>` for each gated time where v1 was measured alone; `coupling` where both arms share a machine
    and it was not.
    """
    if view.role != "comparison" or view.plan.purpose != "compare" or view.plan.mode == "sequential":
        return
    if alone_before(view) is not None:
        for gate in gates:
            coupling = measure(view, gate.metric) if gate.margin is not None and _compares(gate.metric) else None
            if isinstance(coupling, Coupling):
                yield _told(view, gate.metric, coupling)
            elif coupling is not None:
                yield _inform(view, f"coupling.{gate.metric}", coupling.reason)
        return
    shared = shares(view.evidence)
    if shared and any(gate.margin is not None and _compares(gate.metric) for gate in gates):
        v1, v2 = view.names
        yield _inform(
            view,
            "coupling",
            f"both arms share one {shared} and {v1} was not measured alone: what {v2} costs {v1} is not known; "
            "alone: 60s in this stage would measure it",
        )


def _compares(metric: str) -> bool:
    """Times of requests; gaps between chunks follow from them and are not kept of v1 alone."""
    return is_latency(metric) and not metric.startswith(ICL)


def shares(evidence: Evidence) -> str:
    """What both arms are known to share: "server", "GPU", or "" for nothing."""
    first, second = evidence.urls.get("baseline"), evidence.urls.get("candidate")
    if not first or not second:
        return ""
    if first == second:
        return "server"
    # Readings of GPUs are those of this machine.
    here = all(url.partition("://")[2].rpartition(":")[0] in LOOPBACK for url in (first, second))
    gpus = {name for name in _devices(evidence) if name.startswith("gpu")}
    return "GPU" if here and len(gpus) == 1 else ""


def measure(view: StageView, metric: str) -> Coupling | TooLittle | None:
    """None where no stage before this one measured v1 alone."""
    key = f"coupling.{metric}"
    if key not in view.kept:
        view.kept[key] = _measure(view, metric)
    found: Coupling | TooLittle | None = view.kept[key]
    return found


def _measure(view: StageView, metric: str) -> Coupling | TooLittle | None:
    record = alone_before(view)
    if record is None:
        return None
    every = view.evidence.samples
    before = every.take((every.stage == record.plan.index) & (every.arm == BASELINE) & ~every.score)
    v1, v2 = view.names
    sides = []
    for what, columns in ((f"{v1} alone", before), (f"{v1} beside {v2}", view.baseline), (v2, view.candidate)):
        side = _side(columns, metric, what, (view.evidence.seed, view.index))
        if isinstance(side, TooLittle):
            return side
        sides.append(side)
    alone, beside, candidate = sides
    return Coupling(alone, beside, candidate, _between(alone, beside), _between(alone, candidate))


def _side(columns: Columns, metric: str, what: str, seed: tuple[int, int]) -> Side | TooLittle:
    values = latency.measured(columns, metric)
    known = np.isfinite(values)
    values, due = values[known], columns.due_ns[known]
    least = max(latency.least_requests(metric), MIN_BLOCKS * MIN_PAIRS_A_BLOCK)
    blocks = by_pairs(due, values, values) if len(values) >= least else None
    if blocks is None:
        name = metric.replace(".", " ")
        return TooLittle(f"{what} has {words.count(len(values), 'answer')} with a {name}, it takes {least}")
    quantile = quantile_of(metric)
    logs, _ = block_logs(blocks, quantile)
    rounds = draws(generator(seed[0], "coupling", metric, what, seed[1]), blocks.count)
    pooled = log_of(resampled(blocks.values[0], blocks.start[0], quantile, rounds))
    value = statistic(values, quantile)
    seen = spread(float(log_of(np.array([value]))[0]), logs, pooled, ordered=True)
    # In the order in which they were drawn: resamples of two stages are set against each other.
    return Side(replace(seen, sorted_draws=pooled), value, len(values))


def _between(one: Side, two: Side) -> Spread:
    """Of ln two - ln one, which were measured apart from each other: Welch's."""
    a, b = one.seen, two.seen
    draws_apart: Floats = np.sort(b.sorted_draws - a.sorted_draws)
    return Spread(
        effect=b.effect - a.effect,
        mean=b.mean - a.mean,
        se_units=math.hypot(a.se_units, b.se_units),
        se_draws=math.hypot(a.se_draws, b.se_draws),
        sorted_draws=draws_apart,
        units=1 + _freedom(a, b),
        lag1=max(a.lag1 if a.low_trust else 0.0, b.lag1 if b.low_trust else 0.0),
    )


def _freedom(a: Spread, b: Spread) -> int:
    """Welch and Satterthwaite's, rounded down."""
    parts = [(s.se_units**2, s.df) for s in (a, b)]
    total = sum(variance for variance, _ in parts)
    if total <= 0:
        return int(min(freedom for _, freedom in parts))
    return max(int(total**2 / sum(variance**2 / freedom for variance, freedom in parts)), 1)


def _unknown(found: Finding, reason: str) -> Finding:
    """What was to be measured and was not cannot let a gate pass."""
    if found.outcome != "pass":
        return found
    return replace(found, outcome="inconclusive", reason=f"{found.reason}; but {reason}: not known what v2 costs v1")


def _resting(view: StageView, gate: Gate, rule: Rule, seen: Coupling, failed: float | None) -> Finding:
    by_both = failed is not None and rule.p_worse <= failed
    found = rule.finding(failed if by_both else None)
    v1, _ = view.names
    if by_both or not seen.dragged:
        along = "" if by_both else f": {v1} is not surely slower than alone"
        return replace(found, reason=f"{found.reason} (rests on both arms at the same time{along})")
    bar = math.log1p(gate.margin or 0.0)
    high = upper(seen.total, view.pass_level(seen.total.units))
    low = lower(seen.total, ALPHA_PASS if failed is None else view.looks.level(failed, seen.total.units))
    if failed is None and found.outcome == "pass" and high < bar:
        return replace(found, reason=f"{found.reason} (rests on {v1} alone: {_sum(view, seen)})")
    whole = replace(
        found,
        effect=math.exp(seen.total.effect),
        interval=(math.exp(min(low, 50)), math.exp(min(high, 50))),
        baseline=seen.alone.value,
        candidate=seen.candidate.value,
        n_baseline=seen.alone.answers,
        n_candidate=seen.candidate.answers,
    )
    name, margin = gate.metric.replace(".", " "), words.margin(gate.margin or 0.0)
    what = f"{name} rests on {v1} alone, since {_sum(view, seen)}"
    if failed is not None:
        sure = f"{words.confidence(failed)} sure it is at least {words.at_least(math.exp(low))}"
        return replace(whole, outcome="fail", reason=f"{what}; {sure}, margin {margin}", needs_s=None)
    if found.outcome != "pass":
        return replace(found, reason=f"{found.reason} (and {_sum(view, seen)})")
    between = f"it may be anything from {words.apart(math.exp(low))} to {words.apart(math.exp(high))}"
    return replace(
        whole,
        outcome="inconclusive",
        reason=f"{what}: {between}, margin {margin}; at the same time they are within it, because both are slower",
        needs_s=None,
    )


def _sum(view: StageView, seen: Coupling) -> str:
    v1, v2 = view.names
    (drag, than), (total, as_v1) = (_longer(math.exp(s.effect)) for s in (seen.drag, seen.total))
    return f"{v1} takes {drag} beside {v2} {than} alone, and {v2} beside {v1} {total} {as_v1} {v1} alone"


def _longer(ratio: float) -> tuple[str, str]:
    text = words.change(ratio)
    if text == "the same":
        return "as long", "as"
    return text.replace("higher", "longer").replace("lower", "less"), "than"


def _told(view: StageView, metric: str, seen: Coupling) -> Finding:
    v1, v2 = view.names
    low, high = math.exp(lower(seen.drag, ALPHA_PASS)), math.exp(upper(seen.drag, ALPHA_PASS))
    between = f"95 % sure that {v1} takes at least {_longer(low)[0]}, at most {_longer(high)[0]}"
    if seen.dragged:
        rests = (
            f"so the margin is held against {v1} alone, too; that the machine became slower meanwhile would look the "
            "same"
        )
    else:
        rests = "so the verdict rests on both arms at the same time"
        if high < 1:
            rests += f": {v2} costs {v1} less than a second {v1} does"
    return replace(
        _inform(view, f"coupling.{metric}", f"{metric.replace('.', ' ')}: {_sum(view, seen)} ({between}); {rests}"),
        unit="ratio",
        effect=math.exp(seen.drag.effect),
        interval=(low, high),
        baseline=seen.alone.value,
        candidate=seen.beside.value,
        n_baseline=seen.alone.answers,
        n_candidate=seen.beside.answers,
    )


def _inform(view: StageView, metric: str, text: str) -> Finding:
    return Finding(
        metric=metric, outcome="pass", reason=f"for information: {text}", kind=view.role, stage=view.index, unit="1"
    )


def _devices(evidence: Evidence) -> Sequence[str]:
    if evidence.readings is None:
        return ()
    names: list[str] = evidence.readings["device"].unique().to_pylist()
    return names
