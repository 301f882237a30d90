"""What a stage can show in its time, and how long it takes for a margin: from the noise of load that was seen.

The noise is read off the judge's own intervals: from an effect to the bound that has to lie within the margin it is
z SE, whatever the method behind it. The width of an interval says nothing of where it lies, so whoever plans with it is
blind to the effect, and a stage that is planned anew in mid-run keeps its error rates (blinded re-estimation: Gould and
Shih 1992). With z_a of the bound and z_b of the power,

    T = T_w ((z_a + z_b) SE_w / ln(1 + m))^2

is how long a stage takes to pass an equal build at the margin m with 80 %. For p99 T is doubled: a short stage has seen
too few slow requests to know how unlike its stretches are.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

from scipy import special

from harness.judge.metrics import LOWER_IS_WORSE, is_latency, quantile_of
from harness.judge.statistics.boundary import Looks, look_alpha
from harness.judge.statistics.counts import difference_bound, log_e_value, rate_lower
from harness.judge.statistics.distributions import normal_isf, normal_sf
from harness.judge.statistics.intervals import ALPHA_FAIL, ALPHA_PASS
from harness.types import Finding, Gate

POWER = 0.80
TAIL = 2.0
"""By how much longer a stage has to be for p99 than its noise says."""
ASSUMED = {"p50": 0.13, "mean": 0.13, "p90": 0.18, "p95": 0.20, "p99": 0.26}
"""How unlike two equal arms are from one 5 s to the next (sd of D_b) where nothing was measured: as in the
autocorrelated world of the study, at 50 requests a second an arm.
"""
ASSUMED_BLOCK_S = 5.0
UNITS = 60
"""Blocks of a stage without a planned length, as far as its bound depends on them."""
_MOST = 50.0
"""exp() of it is as good as infinite."""


@dataclass(frozen=True, slots=True)
class Noise:
    """`se`: the standard error of an effect (of its logarithm, where it is a ratio) after `seconds` of a load. `rate`:
    answers a second of the smaller arm, None unknown.
    """

    se: float
    seconds: float
    rate: float | None = None

    def after(self, seconds: float, rate: float | None = None) -> float:
        """The standard error after that long, at `rate`: fewer requests a second make it larger, as if only requests
        counted; more do not make it smaller, because slow seconds stay as many.
        """
        return self.se * math.sqrt(self.seconds / (seconds * self.pace(rate)))

    def pace(self, rate: float | None) -> float:
        """How much a second at `rate` is worth of one at which the noise was seen."""
        return min(1.0, rate / self.rate) if rate and self.rate else 1.0


@dataclass(frozen=True, slots=True)
class Outlook:
    """What one gate can say after `seconds`. Differences are shares (0.10: 10 % worse), or in the effect's own unit.

    `tells`: the margin that an equal build would pass with 80 %. `promotes`: the largest true difference that passes
    the gate with 80 %, below 0 where not even an equal build does. `rolls_back`: the least that is rolled back with
    80 %, by a look or at the end. `needs_s`: for an equal build to pass the gate with 80 %; infinite for a margin of 0.
    """

    metric: str
    margin: float
    relative: bool
    seconds: float
    needs_s: float
    tells: float
    promotes: float
    rolls_back: float


def noise_of(finding: Finding, seconds: float, level: float = ALPHA_PASS) -> Noise | None:
    """From a finding with an interval, after `seconds` of its load; `level`: of the bound that has to lie within the
    margin. None where there is no interval, or no comparison over time: errors are counted.
    """
    effect = finding.effect
    if finding.interval is None or effect is None or finding.margin is None or finding.unit in ("pp", "s", "rate", "1"):
        return None
    ratio = finding.unit == "ratio"
    end = finding.interval[0 if finding.metric in LOWER_IS_WORSE else 1]
    if end is None or seconds <= 0 or (ratio and min(end, effect) <= 0):
        return None
    width = abs(math.log(end / effect)) if ratio else end - effect
    if not 0 < width < _MOST / 2:
        return None
    answered = min(finding.n_baseline, finding.n_candidate)
    return Noise(width / normal_isf(level), seconds, answered / seconds or None)


def assumed(metric: str) -> Noise | None:
    """A typical noise of a time; None for what is none."""
    spread = ASSUMED.get(metric.rpartition(".")[2]) if is_latency(metric) else None
    return Noise(spread, ASSUMED_BLOCK_S) if spread else None


def outlook(
    gate: Gate, noise: Noise, seconds: float, *, rate: float | None = None, alpha: float = ALPHA_FAIL,
    open_ended: bool = False,
) -> Outlook:  # fmt: skip
    """`rate`: answers a second of the smaller arm, None as when the noise was seen. `alpha`: the level at which this
    gate fails, by Holm the budget divided by the number of gates. `open_ended`: the stage lasts until it is decided.
    """
    relative, less_is_worse = gate.limit is None, gate.metric in LOWER_IS_WORSE
    margin = (gate.margin if relative else gate.limit) or 0.0
    bar = (-math.log1p(-margin) if less_is_worse else math.log1p(margin)) if relative else margin
    level = Looks(None).level(ALPHA_PASS, UNITS) if open_ended else ALPHA_PASS
    careful = TAIL if is_latency(gate.metric) and (quantile_of(gate.metric) or 0.0) >= 0.99 else 1.0
    passing = (normal_isf(level) + normal_isf(1 - POWER)) * math.sqrt(careful)
    # Answers may get longer or shorter: each side has half of the level.
    failing = reach(alpha / 2 if gate.metric == "osl" else alpha) * math.sqrt(careful)
    se = noise.after(seconds, rate)
    pace = rate or noise.rate
    least = fewest(gate.metric) / pace if pace else 0.0

    def share(worse: float) -> float:
        worse = min(max(worse, -_MOST), _MOST)
        if not relative:
            return worse
        return -math.expm1(-worse) if less_is_worse else math.expm1(worse)

    return Outlook(
        metric=gate.metric,
        margin=margin,
        relative=relative,
        seconds=seconds,
        needs_s=max(noise.seconds * (passing * noise.se / bar) ** 2 / noise.pace(rate), least) if bar > 0 else math.inf,
        tells=share(passing * se),
        promotes=share(bar - passing * se),
        rolls_back=share(bar + failing * se),
    )


def fewest(metric: str) -> float:
    """Answers of each arm without which nothing is said: 60 for blocks, and 10 beyond a quantile."""
    quantile = quantile_of(metric) if is_latency(metric) else None
    return max(60.0, 10 / (1 - quantile) if quantile else 0.0)


def reach(alpha: float, power: float = POWER) -> float:
    """How many standard errors beyond the margin a true effect is that is rolled back with `power` by the stage's end.

    A look at t rolls back where the Brownian path B(t) = z(t) sqrt(t) is above c, the end where B(1) is above d.
    Looking all the time, an effect of x standard errors is called out with, by reflection,

        P(B(1) >= d) + P(max B >= c, B(1) < d) = Phi(x - d) + exp(2 x c) Phi(d - 2 c - x).
    """
    last = normal_isf(look_alpha(alpha, 1.0))
    early = normal_isf(look_alpha(alpha, 0.5)) * math.sqrt(0.5)
    least, most = 0.0, last + 10.0
    for _ in range(60):
        x = (least + most) / 2
        found = normal_sf(last - x) + math.exp(2 * x * early + float(special.log_ndtr(last - 2 * early - x)))
        least, most = (x, most) if found < power else (least, x)
    return most


def detectable_rate(gate: Gate, requests: float, alpha: float = ALPHA_FAIL) -> float | None:
    """The rate of failure at which a candidate is rolled back with 80 %, beside a baseline that does not fail, after so
    many requests an arm; None where not even one that always fails is. Exact counts; of bursts nothing is known.
    """
    n = int(requests)
    if n < 1:
        return None
    least = bisect_left(range(n + 1), True, key=lambda k: _fails(gate, k, n, alpha))
    # P(Binomial(n, p) >= k) = power, solved for p, is a Clopper-Pearson bound.
    return rate_lower(least, n, POWER) if least <= n else None


def _fails(gate: Gate, k: int, n: int, alpha: float) -> bool:
    """Whether k failures of n requests are a rollback, as `failures` has it."""
    if gate.limit is not None:
        return k > 0 if gate.limit == 0 else log_e_value(k, n - k, gate.limit) >= -math.log(alpha)
    if log_e_value(k, 0, 0.5) < -math.log(alpha):
        return False
    return difference_bound(k, n, 0, n, alpha=ALPHA_FAIL, side="lower") > (gate.margin or 0.0)
