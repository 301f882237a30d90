"""Output quality, by what an engine gives: distributions over the baseline's text, likelihoods, scores, vectors.

Each metric is an excess over what the baseline does itself, or a difference to it, estimated over prompts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.judge import words
from harness.judge.columns import CANDIDATE
from harness.judge.errors.failures import Difference, Tally
from harness.judge.metrics import DEFAULT_ERROR_MARGIN, ONE_SCORER, QUALITY, scorer_of
from harness.judge.quality.excess import Excess
from harness.judge.quality.scored import Scores
from harness.judge.quality.seen import FORCED, Seen, see
from harness.judge.quality.values import Values
from harness.judge.quality.words import amount, limit_of, told, unit, what
from harness.judge.rule import Rule, settled
from harness.judge.statistics.blocks import MIN_BLOCKS
from harness.judge.statistics.intervals import ALPHA_FAIL, more_seconds
from harness.judge.statistics.mcnemar import Flips
from harness.judge.view import StageView
from harness.types import Finding, Gate, Outcome

MIN_TOKENS_P99 = 1000
MAX_MISSING = 0.10
MAX_CENSORED = 0.01
"""So many of the forced tokens may be outside of the candidate's top k, where a perplexity is but a lower bound."""


def judge(view: StageView, gate: Gate, scores: Scores) -> Rule:
    """The rule of one quality gate, in stages of either role."""
    seen = see(view, gate.metric, scores)
    lack = _missing(view, gate, scores, seen)
    if lack is not None:
        return settled(lack)
    assert seen.found is not None
    return _Quality(view, gate, seen.found, seen.values).rule()


def information(view: StageView, metric: str, scores: Scores) -> Finding | None:
    """The finding of a quality metric that no gate names."""
    seen = see(view, metric, scores)
    if seen.found is None:
        failed = scorer_of(metric) and view.final and seen.values.lack
        return _finding(view, metric, "pass", f"for information: {seen.values.lack}") if failed else None
    reason = f"for information: {what(metric, seen.found, seen.values, view.names)}"
    return _finding(view, metric, "pass", reason, seen.found, None, None)


@dataclass(frozen=True, slots=True)
class _Quality:
    view: StageView
    gate: Gate
    found: Excess
    values: Values

    @property
    def limit(self) -> float:
        return limit_of(self.gate)

    def rule(self) -> Rule:
        if self._few():
            return Rule(1.0, self.finding)
        return Rule(self.view.looks.p(self.found.p(self.limit), self.found.seen.units), self.finding)

    def _size(self) -> float:
        return abs(self.found.seen.effect) if self.found.drift else self.found.seen.effect

    def _few(self) -> bool:
        if self.gate.metric == "quality.kl.p99" and self.found.count < MIN_TOKENS_P99:
            return True
        return self.found.prompts < MIN_BLOCKS

    def finding(self, failed: float | None) -> Finding:
        view, found, metric = self.view, self.found, self.gate.metric
        low = found.low(view.looks.level(failed or ALPHA_FAIL, found.seen.units))
        high = found.high(view.pass_level(found.seen.units))
        within = found.within(self.limit, view.pass_level(found.seen.units))
        needs_s: float | None = None
        outcome: Outcome
        seen, limit = self.what(), f"limit {amount(metric, self.limit)}"
        if failed is not None:
            sure = f"{words.confidence(failed)} sure {self._beyond(low)}"
            outcome, reason = "fail", f"{seen}; {sure}, {limit}"
        elif view.role == "watch":
            beyond = ", over the limit but too few to be sure" if self._size() > self.limit else ""
            outcome, reason = "pass", f"{seen}{beyond}, {limit}: nothing speaks against it"
        elif self._few():
            needs_s = view.elapsed_s * max(MIN_BLOCKS / max(found.prompts, 1) - 1, 0.1)
            if metric == "quality.kl.p99":
                needs_s = max(needs_s, view.elapsed_s * (MIN_TOKENS_P99 / max(found.count, 1) - 1))
            least = f"at least {MIN_BLOCKS} different prompts"
            if metric == "quality.kl.p99":
                least += f" and {MIN_TOKENS_P99} tokens"
            outcome, reason = "inconclusive", f"{seen}: {least} are needed{words.needs(needs_s)}"
        elif found.censored > MAX_CENSORED and within:
            outcome = "inconclusive"
            reason = f"{seen}, so it may be higher: ask for more of the likeliest (load.logprobs)"
        elif within and view.may_pass:
            most = self._drifted() if found.drift else max(high, 0.0)
            outcome, reason = "pass", f"{seen}; 95 % sure {self._at_most(most)}, {limit}"
        elif within:
            outcome, reason = "inconclusive", f"{seen}: within the {limit} so far, but the stage is not over"
        else:
            between = f"{self._it('may be anything from')} {amount(metric, low)} to {amount(metric, high)}, {limit}"
            if found.flips is None:
                needs_s = more_seconds(found.seen, self.limit, view.elapsed_s)
                more = words.needs(needs_s)
            else:
                more = self._more_prompts()  # which time brings only where there are some that were not asked yet
            outcome, reason = "inconclusive", f"{seen}: {between}{more}"
        margin = None if math.isinf(self.limit) else self.limit
        return _finding(view, metric, outcome, reason, found, (low, high), margin, needs_s)

    def what(self) -> str:
        return what(self.gate.metric, self.found, self.values, self.view.names)

    def _more_prompts(self) -> str:
        """With how many prompts of which the same shares flip this would pass."""
        flips = self.found.flips
        assert flips is not None
        level = self.view.pass_level(self.found.seen.units)
        for tenths in range(11, 1000):
            n, worse, better = (round(count * tenths / 10) for count in (flips.n, flips.worse, flips.better))
            if replace(self.found, flips=Flips(n, worse, better)).within(self.limit, level):
                return f"; about {n} different prompts would settle it"
        return ""

    def _beyond(self, low: float) -> str:
        if self.found.drift:
            return f"it drifted by more than {amount(self.gate.metric, self.limit)}"
        return f"{self._it('is above')} {amount(self.gate.metric, max(low, self.limit))}"

    def _at_most(self, most: float) -> str:
        if self.found.drift:
            return f"it drifted by at most {amount(self.gate.metric, most)}"
        return f"{self._it('is at most')} {amount(self.gate.metric, most)}"

    def _it(self, verb: str) -> str:
        """What the bound is of: of a score its drop, of a perplexity how much higher it is."""
        if scorer_of(self.gate.metric) is not None:
            return f"the drop {verb}"
        if self.found.drift:
            return f"the drift {verb}"
        return f"the rise {verb}" if self.gate.metric == "quality.perplexity" else f"it {verb}"

    def _drifted(self) -> float:
        """The smallest drift that is surely not exceeded."""
        level = self.view.pass_level(self.found.seen.units)
        return max(abs(self.found.high(level)), abs(self.found.low(level)))


def _finding(
    view: StageView,
    metric: str,
    outcome: Outcome,
    reason: str,
    found: Excess | None = None,
    interval: tuple[float, float] | None = None,
    margin: float | None = None,
    needs_s: float | None = None,
    pairs: int = 0,
) -> Finding:
    """`interval` and `margin` as they were estimated; the finding has them in its unit."""
    return Finding(
        metric=metric,
        outcome=outcome,
        reason=reason,
        kind=view.role,
        stage=view.index,
        unit=unit(metric),
        effect=None if found is None else told(metric, found.seen.effect),
        interval=None if interval is None else (told(metric, interval[0]), told(metric, interval[1])),
        margin=None if margin is None else told(metric, margin),
        baseline=None if found is None else found.floor,
        candidate=None if found is None else found.value,
        n_baseline=pairs if found is None else found.count,
        n_candidate=pairs if found is None else found.count,
        needs_s=needs_s,
    )


def _missing(view: StageView, gate: Gate, scores: Scores, seen: Seen) -> Finding | None:
    """Nothing to judge, or too much that only the baseline gave. Whether errors explain it, the errors gate says."""
    v1, v2 = view.names
    forced = gate.metric in FORCED
    pairs = len(scores.pairs) if forced else seen.values.held
    lost = scores.missing[1] if forced else seen.values.lost
    outcome: Outcome = "no data"
    if lost > MAX_MISSING * (pairs + lost):
        done = "did not score" if forced else "gave nothing to judge in"
        reason = f"{v2} {done} {lost} of {pairs + lost} answers that {v1} {_gave(forced)}: a sign of failure on {v2}"
    elif seen.found is not None:
        return None
    elif seen.values.lack:
        reason = seen.values.lack
    elif scores.broken[1]:
        reason = f"no scored answer of {v2} can be used: {_kinds(scores)}"
    elif view.role == "watch":
        outcome, reason = _unscored(view, scores) if forced else _unasked(view)
    elif pairs:
        outcome, reason = "inconclusive", f"only one prompt was scored; at least {MIN_BLOCKS} are needed"
    else:
        reason = f"no answer was scored on both {v1} and {v2}" if forced else f"{v1} and {v2} answered no prompt alike"
    return _finding(view, gate.metric, outcome, reason, margin=limit_of(gate), pairs=pairs)


def _gave(forced: bool) -> str:
    return "scored" if forced else "has something for"


def _unasked(view: StageView) -> tuple[Outcome, str]:
    """A watch stage without answers to prompts that the baseline was asked, too."""
    v1, v2 = view.names
    if view.asked(CANDIDATE) or view.candidate_due < 1:
        return "pass", f"{v2} answered no two prompts that {v1} was asked, too: nothing speaks against it"
    return "no data", f"{v2} got no request"


def _unscored(view: StageView, scores: Scores) -> tuple[Outcome, str]:
    """A watch stage with too few scores to resample: nothing against it, unless scores were due."""
    v2 = view.names[1]
    asked, _ = view.scored(CANDIDATE)
    if scores.pairs:
        return "pass", f"one prompt was scored on {v2} in this stage: nothing speaks against it"
    if asked:
        return "no data", f"{v2} scored none of {words.count(asked, 'answer')} that it was asked to"
    if view.asked(CANDIDATE) or view.candidate_due < 1:
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
    noun = "answers are unusable"
    return Difference(view, "quality.broken", allowed, first, second, Tally(), noun).rule()


def _tally(scores: Scores, arm: int) -> Tally:
    kinds = scores.broken[arm]
    total = sum(kinds.values())
    requests = scores.answers[arm] + len(scores.pairs) + kinds["output of another shape"]
    ranked = tuple(sorted(kinds.items(), key=lambda item: (-item[1], item[0])))
    return Tally(max(requests, total), total, total, total, ranked)


def ungated(view: StageView, gates: Sequence[Gate]) -> list[str]:
    """The metrics that are told for information: of scores one for each scorer, unless their only one is gated."""
    named = {gate.metric for gate in gates}
    scorers = view.evidence.marks.scorers
    alone = "quality.score" in named and len(scorers) == 1
    metrics = [metric for metric in QUALITY if metric not in ("quality.kl.p99", "quality.score")]
    metrics += [] if alone else [f"{ONE_SCORER}{scorer}" for scorer in scorers]
    return [metric for metric in metrics if metric not in named]
