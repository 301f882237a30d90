"""Output quality: what the candidate gives to the baseline's text, above what the baseline itself does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.judge import words
from harness.judge.blocks import MIN_BLOCKS, Blocks, statistic
from harness.judge.columns import CANDIDATE, Floats
from harness.judge.distributions import t_isf
from harness.judge.failures import Difference, Tally
from harness.judge.intervals import (
    ALPHA_FAIL,
    ALPHA_PASS,
    Spread,
    look_alpha,
    look_p,
    lower,
    more_seconds,
    p_above,
    spread,
    upper,
)
from harness.judge.metrics import DEFAULT_ERROR_MARGIN, QUALITY
from harness.judge.resample import draws, generator, pooled_pair
from harness.judge.rule import Rule, settled
from harness.judge.scored import PairScore, Scores
from harness.judge.view import StageView
from harness.types import Finding, Gate, Outcome

MIN_TOKENS_P99 = 1000
MAX_MISSING = 0.10
UNITS = {"quality.kl": "nats", "quality.kl.p99": "nats", "quality.top1": "rate", "quality.flips": "rate"}


@dataclass(frozen=True, slots=True)
class Excess:
    """How far the candidate is above the floor. `prompts`: independent units; `count`: pairs or tokens in
    them.

    `skew`: what a t bound lacks where the differences lean to the right (Johnson 1978, its Cornish-Fisher
    term mu3 / (6 s^2 n) * (1 + 2 t^2)), added to upper bounds only.
    """

    seen: Spread
    floor: float | None
    value: float
    prompts: int
    count: int
    skew: float = 0.0


def excess(view: StageView, metric: str, scores: Scores) -> Excess | None:
    """None where there is too little to resample: fewer than two prompts."""
    rng = generator(view.evidence.seed, metric, view.index)
    if metric == "quality.flips":
        return _means([(prompt, 0.0, float(flip)) for prompt, flip in scores.flips], rng, floor=False)
    if metric == "quality.kl.p99":
        return _tail(scores.pairs, rng)
    if metric == "quality.top1":
        rows = [(pair.prompt, *pair.differ) for pair in scores.pairs]
    else:
        rows = [(pair.prompt, float(pair.kl[0].mean()), float(pair.kl[1].mean())) for pair in scores.pairs]
    return _means(rows, rng, floor=True)


def _means(rows: Sequence[tuple[int, float, float]], rng: np.random.Generator, *, floor: bool) -> Excess | None:
    """Mean over prompts of each prompt's mean over its pairs: prompts, not tokens, are the sample."""
    if not rows:
        return None
    table = np.array(rows, np.float64)
    _, prompt = np.unique(table[:, 0], return_inverse=True)
    sizes = np.bincount(prompt)
    if len(sizes) < 2:
        return None
    first, second = (np.bincount(prompt, weights=table[:, column]) / sizes for column in (1, 2))
    units = second - first
    times = draws(rng, len(units))
    seen = spread(float(units.mean()), units, (times * units).sum(axis=1) / len(units), ordered=False)
    floor_value = float(first.mean()) if floor else None
    return Excess(seen, floor_value, float(second.mean()), len(units), len(rows), _skew(units))


def _skew(units: Floats) -> float:
    variance = float(units.var(ddof=1))
    if variance == 0 or len(units) < 3:
        return 0.0
    third = float(((units - units.mean()) ** 3).mean())
    t = t_isf(ALPHA_PASS, len(units) - 1)
    return max(0.0, third / (6 * variance * len(units)) * (1 + 2 * t * t))


def _tail(pairs: Sequence[PairScore], rng: np.random.Generator) -> Excess | None:
    """The 99th percentile over tokens; prompts are dealt into up to 24 groups, which are resampled."""
    numbers = sorted({pair.prompt for pair in pairs})
    groups = min(24, len(numbers))
    if groups < 2:
        return None
    place = {number: i % groups for i, number in enumerate(numbers)}
    ordered = sorted(pairs, key=lambda pair: place[pair.prompt])
    sizes = np.zeros(groups, np.int64)
    for pair in ordered:
        sizes[place[pair.prompt]] += len(pair.kl[0])
    start = np.concatenate([[0], np.cumsum(sizes)])
    values = tuple(np.concatenate([pair.kl[arm] for pair in ordered]) for arm in (0, 1))
    blocks = Blocks((values[0], values[1]), (start, start))
    first, second = (statistic(v, 0.99) for v in values)
    units = np.array(
        [
            np.quantile(values[1][a:b], 0.99) - np.quantile(values[0][a:b], 0.99)
            for a, b in zip(start[:-1].tolist(), start[1:].tolist(), strict=True)
        ]
    )
    low, high = pooled_pair(blocks, 0.99, rng)
    seen = spread(second - first, units, high - low, ordered=False)
    return Excess(seen, first, second, len(numbers), len(values[0]))


def judge(view: StageView, gate: Gate, scores: Scores) -> Rule:
    """The rule of one quality gate, in stages of either role."""
    found = excess(view, gate.metric, scores)
    lack = _missing(view, gate, scores, found)
    if lack is not None:
        return settled(lack)
    assert found is not None
    return _Quality(view, gate, found).rule()


def information(view: StageView, metric: str, scores: Scores) -> Finding | None:
    """The finding of a quality metric that no gate names."""
    found = excess(view, metric, scores)
    if found is None:
        return None
    reason = f"for information: {_Quality(view, Gate(metric, limit=math.inf), found).what()}"
    return _finding(view, metric, "pass", reason, found, None, None)


@dataclass(frozen=True, slots=True)
class _Quality:
    view: StageView
    gate: Gate
    found: Excess

    @property
    def limit(self) -> float:
        return self.gate.limit or 0.0

    def rule(self) -> Rule:
        if self._few():
            return Rule(1.0, self.finding)
        return Rule(look_p(p_above(self.found.seen, self.limit), self.view.fraction), self.finding)

    def _few(self) -> bool:
        if self.gate.metric == "quality.kl.p99" and self.found.count < MIN_TOKENS_P99:
            return True
        return self.found.prompts < MIN_BLOCKS

    def finding(self, failed: float | None) -> Finding:
        view, found, seen = self.view, self.found, self.found.seen
        low = lower(seen, look_alpha(failed or ALPHA_FAIL, view.fraction))
        high = upper(seen, ALPHA_PASS) + found.skew
        needs_s: float | None = None
        outcome: Outcome
        limit = f"limit {words.number(self.limit)}"
        if failed is not None:
            sure = f"{words.confidence(failed)} sure it is above {words.number(max(low, self.limit))}"
            outcome, reason = "fail", f"{self.what()}; {sure}, {limit}"
        elif view.role == "watch":
            beyond = ", over the limit but too few to be sure" if seen.effect > self.limit else ""
            outcome, reason = "pass", f"{self.what()}{beyond}, {limit}: nothing speaks against it"
        elif self._few():
            needs_s = view.elapsed_s * max(MIN_BLOCKS / max(found.prompts, 1) - 1, 0.1)
            if self.gate.metric == "quality.kl.p99":
                needs_s = max(needs_s, view.elapsed_s * (MIN_TOKENS_P99 / max(found.count, 1) - 1))
            least = f"at least {MIN_BLOCKS} different prompts"
            if self.gate.metric == "quality.kl.p99":
                least += f" and {MIN_TOKENS_P99} tokens"
            outcome, reason = "inconclusive", f"{self.what()}: {least} are needed{words.needs(needs_s)}"
        elif high < self.limit and view.final:
            outcome = "pass"
            reason = f"{self.what()}; 95 % sure it is at most {words.number(max(high, 0.0))}, {limit}"
        elif high < self.limit:
            outcome, reason = (
                "inconclusive",
                f"{self.what()}: within the {limit} so far, but the stage is not over",
            )
        else:
            needs_s = more_seconds(seen, self.limit, view.elapsed_s)
            between = f"it may be anything from {words.number(low)} to {words.number(high)}, {limit}"
            outcome, reason = "inconclusive", f"{self.what()}: {between}{words.needs(needs_s)}"
        return _finding(view, self.gate.metric, outcome, reason, found, (low, high), self.limit, needs_s)

    def what(self) -> str:
        found, (v1, v2) = self.found, self.view.names
        prompts = words.count(found.prompts, "prompt")
        effect, floor = found.seen.effect, found.floor or 0.0
        if self.gate.metric == "quality.flips":
            return (
                f"the greedy text of {v2} differs from {v1}'s in {words.percent(found.value)} of answers "
                f"({prompts}; how often {v1} differs from itself is not known)"
            )
        if self.gate.metric == "quality.top1":
            return (
                f"on {v1}'s text {v2} prefers another token in {words.percent(found.value)} of places, {v1} "
                f"itself in {words.percent(floor)}: {words.points(effect)} more ({prompts})"
            )
        which = "99th percentile of KL" if self.gate.metric.endswith("p99") else "mean KL"
        own = "the baseline's own floor" if v1.startswith("the ") else f"the {v1}-{v1} floor"
        return (
            f"{which} of {v2} on {v1}'s text is {words.number(effect)} nats a token above {own} of "
            f"{words.number(floor)} ({prompts})"
        )


def _finding(
    view: StageView,
    metric: str,
    outcome: Outcome,
    reason: str,
    found: Excess,
    interval: tuple[float, float] | None,
    margin: float | None,
    needs_s: float | None = None,
) -> Finding:
    return Finding(
        metric=metric,
        outcome=outcome,
        reason=reason,
        kind=view.role,
        stage=view.index,
        unit=UNITS[metric],
        effect=found.seen.effect,
        interval=interval,
        margin=margin,
        baseline=found.floor,
        candidate=found.value,
        n_baseline=found.count,
        n_candidate=found.count,
        needs_s=needs_s,
    )


def _missing(view: StageView, gate: Gate, scores: Scores, found: Excess | None) -> Finding | None:
    """No scores, or too many that only the baseline gave. Whether errors explain it, the errors gate says."""
    v1, v2 = view.names
    pairs = len(scores.pairs)
    lost = 0 if gate.metric == "quality.flips" else scores.missing[1]
    outcome: Outcome = "no data"
    if lost > MAX_MISSING * (pairs + lost):
        reason = f"{v2} did not score {lost} of {pairs + lost} answers that {v1} scored: a sign of failure on {v2}"
    elif found is not None:
        return None
    elif scores.broken[1]:
        reason = f"no scored answer of {v2} can be used: {_kinds(scores)}"
    elif view.role == "watch":
        outcome, reason = _unscored(view, scores)
    elif pairs:
        outcome, reason = "inconclusive", f"only one prompt was scored; at least {MIN_BLOCKS} are needed"
    else:
        reason = f"no answer was scored on both {v1} and {v2}"
    return Finding(
        metric=gate.metric,
        outcome=outcome,
        reason=reason,
        kind=view.role,
        stage=view.index,
        unit=UNITS[gate.metric],
        margin=gate.limit,
        n_baseline=pairs,
        n_candidate=pairs,
    )


def _unscored(view: StageView, scores: Scores) -> tuple[Outcome, str]:
    """A watch stage with too few scores to resample: nothing against it, unless scores were due."""
    v2 = view.names[1]
    asked = int((view.samples.score & (view.samples.arm == CANDIDATE)).sum())
    if scores.pairs:
        return "pass", f"one prompt was scored on {v2} in this stage: nothing speaks against it"
    if asked:
        return "no data", f"{v2} scored none of {words.count(asked, 'answer')} that it was asked to"
    if len(view.candidate) or view.candidate_due < 1:
        return (
            "pass",
            f"no answer of {v2} was scored here (no reference for its prompts): nothing speaks against it",
        )
    return "no data", f"{v2} got no request"


def _kinds(scores: Scores) -> str:
    return ", ".join(f"{kind} ({n})" for kind, n in sorted(scores.broken[1].items()))


def broken(view: StageView, scores: Scores, margin: float | None) -> Rule | None:
    """Answers that are no answers are failures, judged like errors; None where the candidate gave none such.

    `margin`: that of the errors gate, else the default one.
    """
    if not scores.broken[1]:
        return None
    first, second = (_tally(scores, arm) for arm in (0, 1))
    allowed = DEFAULT_ERROR_MARGIN if margin is None else margin
    noun = "answers are no answers"
    return Difference(view, "quality.broken", allowed, first, second, Tally(), noun).rule()


def _tally(scores: Scores, arm: int) -> Tally:
    kinds = scores.broken[arm]
    total = sum(kinds.values())
    requests = scores.answers[arm] + len(scores.pairs) + kinds["output of another shape"]
    ranked = tuple(sorted(kinds.items(), key=lambda item: (-item[1], item[0])))
    return Tally(max(requests, total), total, total, ranked)


def ungated(gates: Sequence[Gate]) -> list[str]:
    named = {gate.metric for gate in gates}
    return [metric for metric in QUALITY if metric not in named]
