"""What is not a time, of both arms, relative to each other: how much lower a throughput, how much higher a peak.

Everything is reckoned as ln(how many times worse), block by block, so that one test serves both directions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.judge import words
from harness.judge.metrics import LOWER_IS_WORSE
from harness.judge.rule import Rule
from harness.judge.statistics.distributions import normal_isf
from harness.judge.statistics.intervals import ALPHA_FAIL, ALPHA_PASS, Spread, lower, p_above, upper
from harness.judge.view import StageView
from harness.types import Finding, Gate, Outcome

LEAST_BLOCKS = 12
# Of the planner: how far 80 % of the stages that ought to pass would have to see, in units of the pass bound's reach.
POWER = 1 + normal_isf(0.20) / normal_isf(ALPHA_PASS)


@dataclass(frozen=True, slots=True, eq=False)
class Relative:
    """A gate with a margin, and what was measured for it.

    `worse`: ln(how many times worse the candidate is), as a Spread over blocks. `one`, `two`: the arms' values in the
    metric's unit. `values`: both in words. `note`: what one has to know to read them, "" or a clause.
    """

    view: StageView
    gate: Gate
    worse: Spread
    one: float
    two: float
    values: str
    note: str = ""

    def rule(self) -> Rule:
        return Rule(self.view.looks.p(p_above(self.worse, self.bar), self.worse.units), self.finding)

    @property
    def falls(self) -> bool:
        """Less is worse."""
        return self.gate.metric in LOWER_IS_WORSE

    @property
    def bar(self) -> float:
        """The margin as ln(how many times worse): 5 % below the baseline is 1/0.95 times worse."""
        margin = self.gate.margin or 0.0
        return -math.log1p(-margin) if self.falls else math.log1p(margin)

    def finding(self, failed: float | None) -> Finding:
        gate, view, seen = self.gate, self.view, self.worse
        low = lower(seen, view.looks.level(failed or ALPHA_FAIL, seen.units))
        high = upper(seen, view.pass_level(seen.units))
        within, needs_s = high < self.bar, None
        if failed is not None:
            outcome, reason = "fail", f"{words.confidence(failed)} sure it is {self._least(low)}, {self._margin}"
        elif within and view.may_pass:
            outcome, reason = "pass", f"95 % sure it is {self._most(high)}, {self._margin}"
        elif within:
            outcome, reason = "inconclusive", f"within the {self._margin} so far, but the stage is not over"
        else:
            needs_s = self._needs(high)
            outcome, reason = "inconclusive", self._open(low, high, needs_s)
        ends = (self._ratio(high), self._ratio(low)) if self.falls else (self._ratio(low), self._ratio(high))
        margin = gate.margin or 0.0
        return Finding(
            metric=gate.metric,
            outcome=outcome,  # type: ignore[arg-type]
            reason=f"{self._what()}; {reason}{words.trust(seen)}",
            stage=view.index,
            effect=self._ratio(seen.effect),
            interval=ends,
            margin=1 - margin if self.falls else 1 + margin,
            baseline=self.one,
            candidate=self.two,
            n_baseline=view.answered[0],
            n_candidate=view.answered[1],
            needs_s=needs_s,
        )

    def _what(self) -> str:
        effect = words.change(self._ratio(self.worse.effect))
        v1, v2 = self.view.names
        than = f"the same on {v2} as on {v1}" if effect == "the same" else f"{effect} on {v2} than on {v1}"
        return f"{spoken(self.gate.metric)} is {than} ({self.values}){self.note}"

    @property
    def _margin(self) -> str:
        return f"margin {words.margin(self.gate.margin or 0.0)}"

    def _ratio(self, worse: float) -> float:
        """Candidate to baseline."""
        return math.exp(min(max(-worse if self.falls else worse, -50), 50))

    def _most(self, worse: float) -> str:
        """`at most 4 % lower`: as bad as it may be; where even that is no loss, `at least 1 % higher`."""
        return f"at {'most' if worse >= 0 else 'least'} {words.apart(self._ratio(worse))}"

    def _least(self, worse: float) -> str:
        return f"at least {words.apart(self._ratio(worse))}"

    def _open(self, low: float, high: float, needs_s: float | None) -> str:
        """From the better end to the worse one."""
        between = f"it may be anything from {words.apart(self._ratio(low))} to {words.apart(self._ratio(high))}"
        if needs_s is None:
            return f"{between}, and the estimate itself is not inside the {self._margin}: time may not help"
        return f"{between}, {self._margin}{words.needs(needs_s)}"

    def _needs(self, high: float) -> float | None:
        """Further seconds of this load; None where the estimate itself is beyond the margin."""
        gap = self.bar - max(self.worse.effect, self.worse.mean)
        reach = (high - self.worse.effect) * POWER
        if gap <= 0 or not math.isfinite(reach):
            return None
        elapsed = self.view.elapsed_s
        return max(elapsed * ((reach / gap) ** 2 - 1), elapsed * 0.1)


def spoken(metric: str) -> str:
    """The metric as sentences call it."""
    named = {"energy": "energy a request", "memory.peak": "peak memory", "throughput_per_gpu": "throughput per GPU"}
    return named.get(metric, metric.replace("_", " "))


def missing(view: StageView, gate: Gate, reason: str) -> Finding:
    """Nothing to judge by. Missing data never passes."""
    return _unjudged(view, gate, "no data", reason)


def too_few(view: StageView, gate: Gate, reason: str, needs_s: float | None) -> Finding:
    """Not enough yet."""
    tail = words.needs(needs_s) if view.final else ""
    return _unjudged(view, gate, "inconclusive", f"{reason}{tail}", needs_s)


def _unjudged(view: StageView, gate: Gate, outcome: Outcome, reason: str, needs_s: float | None = None) -> Finding:
    margin = None
    if gate.margin is not None:
        margin = 1 - gate.margin if gate.metric in LOWER_IS_WORSE else 1 + gate.margin
    return Finding(
        metric=gate.metric,
        outcome=outcome,
        reason=reason,
        kind=view.role,
        stage=view.index,
        margin=margin,
        n_baseline=view.answered[0],
        n_candidate=view.answered[1],
        needs_s=needs_s,
    )
