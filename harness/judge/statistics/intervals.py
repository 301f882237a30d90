"""One-sided bounds and p-values from two methods that must agree."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.judge.columns import Floats
from harness.judge.statistics.distributions import normal_isf, t_isf, t_sf
from harness.judge.statistics.robust import ROUNDING, location

ALPHA_FAIL = 0.01
ALPHA_PASS = 0.05
AGREED = 0.5
"""The level of the pooled effect beside that of the differences: it has to lie beyond the bar, too, and no more."""
LAGS = 5
"""So many blocks are asked whether a difference wanders slowly."""
POWER_Z = normal_isf(0.20)
FEW_DRAWS = 5
"""So few resamples on the wrong side say nothing of how many there should be."""


@dataclass(frozen=True, slots=True)
class Spread:
    """An effect seen two ways: `units` per-block (or per-prompt) differences, and resamples of the whole.

    `effect` is the pooled estimate, `mean` the location of the differences; `se_units` and `se_draws` their
    standard errors; `lag1` the lag-1 autocorrelation of the differences, `lags` the sum of the first LAGS, both 0 where
    the units have no order.
    """

    effect: float
    mean: float
    se_units: float
    se_draws: float
    sorted_draws: Floats
    units: int
    lag1: float = 0.0
    widened: float = 1.0
    lags: float = 0.0
    robust: bool = False

    @property
    def df(self) -> float:
        """Degrees of freedom of the differences."""
        return degrees(self.units, robust=self.robust)

    @property
    def low_trust(self) -> bool:
        """Neighbours surely (95 %) resemble each other, or blocks further apart do together."""
        return self.lag1 > 2 / math.sqrt(self.units) or self.lags > 2 * math.sqrt(LAGS / self.units)

    @property
    def effective_units(self) -> float:
        """How many independent units these are worth."""
        if not self.low_trust:
            return float(self.units)
        return self.units / max(1 + 2 * self.lags, (1 + self.lag1) / (1 - self.lag1), 1.0)

    @property
    def se(self) -> float:
        """The larger standard error: what the planner counts with."""
        return max(self.se_units, self.se_draws)


def spread(effect: float, differences: Floats, resamples: Floats, *, ordered: bool, robust: bool = False) -> Spread:
    """`differences`: one a block or prompt; `ordered`: neighbours follow each other in time; `robust`: their location
    is Huber's (for differences that are symmetric where there is no effect), else the mean.

    Where neighbours resemble each other, the standard error is widened by sqrt((1 + r) / (1 - r)), with r the
    lag-1 autocorrelation less its own standard error 1 / sqrt(n): a handful of blocks resemble each other by
    chance. The bootstrap's is widened by sqrt(n / (n - 1)), which resampling loses.
    """
    seen = differ(differences, ordered=ordered, robust=robust)
    n = len(differences)
    return Spread(
        effect=effect,
        mean=seen.mean,
        se_units=seen.se,
        se_draws=float(resamples.std()) * math.sqrt(n / max(n - 1, 1)) * seen.widened,
        sorted_draws=np.sort(resamples),
        units=n,
        lag1=seen.lag1,
        widened=seen.widened,
        lags=seen.lags,
        robust=robust,
    )


def degrees(units: int, *, robust: bool) -> float:
    """Of a t-value of so many differences. Of Huber's location the values that are pulled in tell little of its error:
    about as many degrees as values that are not, as with trimmed means (Yuen 1974); measured, 0.8 n - 1 keeps 1 % at
    12 blocks.
    """
    return (0.8 * units if robust else units) - 1


@dataclass(frozen=True, slots=True)
class Differences:
    """Of a Spread what the differences alone say; `widened`: by how much neighbours that resemble each other do so."""

    mean: float
    se: float
    lag1: float
    widened: float
    lags: float


def differ(differences: Floats, *, ordered: bool, robust: bool) -> Differences:
    """The first half of `spread`."""
    n = len(differences)
    middle, error, centred = location(differences) if robust else _mean(differences)
    variance = float(centred @ centred)
    lag1 = float(centred[1:] @ centred[:-1]) / variance if ordered and variance > 0 else 0.0
    lag1 = min(max(lag1, -0.95), 0.95)
    sure = max(0.0, lag1 - 1 / math.sqrt(n))
    widened = math.sqrt((1 + sure) / (1 - sure))
    lags = 0.0
    if ordered and variance > 0:
        lags = sum(float(centred[k:] @ centred[:-k]) / variance for k in range(1, min(LAGS, n - 1) + 1))
    return Differences(middle, error * widened, lag1, widened, lags)


def _mean(differences: Floats) -> tuple[float, float, Floats]:
    n = len(differences)
    mean = float(differences.mean())
    return mean, float(differences.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf, differences - mean


def upper(s: Spread, alpha: float) -> float:
    """An upper bound that holds with 1 - alpha by the t-interval and by the bootstrap: the larger of both."""
    by_units, by_draws = t_isf(alpha, s.df) * s.se_units, t_isf(alpha, s.units - 1) * s.se_draws
    return max(s.mean + by_units, s.effect + by_draws, _percentile(s, 1 - alpha))


def lower(s: Spread, alpha: float) -> float:
    """A lower bound in the same way: the smaller of both."""
    by_units, by_draws = _reach(alpha, s.df, s.se_units), _reach(alpha, s.units - 1, s.se_draws)
    return min(s.mean - by_units, s.effect - by_draws, _low_draw(s, alpha))


def p_above(s: Spread, bar: float) -> float:
    """One-sided p-value of "the effect is at most `bar`": the larger of both methods'."""
    return max(_p_units(s, bar), _p_draws(s, bar))


def p_agreed(s: Spread, bar: float) -> float:
    """The same by the differences alone, provided that the pooled effect is above `bar` at the level AGREED; else the
    larger of both. The false alarms are those of the first method or fewer, its power is hardly touched.
    """
    return agreed(_p_units(s, bar), s, bar)


def agreed(p: float, s: Spread, bar: float) -> float:
    """`p`, provided that the pooled effect agrees."""
    draws = _p_draws(s, bar)
    return p if draws <= AGREED else max(p, draws)


def lower_agreed(s: Spread, alpha: float, bound: float | None = None) -> float:
    """The bound that lies above a bar exactly where `p_agreed` is below `alpha`; `bound`: that of another first
    test.
    """
    if bound is None:
        bound = s.mean - _reach(alpha, s.df, s.se_units)
    return min(bound, s.effect - _reach(AGREED, s.units - 1, s.se_draws), _low_draw(s, AGREED))


def _reach(alpha: float, df: float, error: float) -> float:
    """How far a bound is from the estimate: infinitely far where the level is too small for a number."""
    t = t_isf(alpha, df)
    return t * error if math.isfinite(t) else math.inf


def _p_units(s: Spread, bar: float) -> float:
    bar += ROUNDING  # times in whole milliseconds have no spread, and rounding must not make one
    if s.se_units > 0:
        return t_sf((s.mean - bar) / s.se_units, s.df)
    return 0.0 if s.mean > bar else 1.0


def _p_draws(s: Spread, bar: float) -> float:
    bar += ROUNDING
    p = t_sf((s.effect - bar) / s.se_draws, s.units - 1) if s.se_draws > 0 else float(s.effect <= bar)
    below = int(np.searchsorted(s.sorted_draws, bar, side="right"))
    return max(p, below / len(s.sorted_draws)) if below > FEW_DRAWS else p


def mirrored(s: Spread) -> Spread:
    return Spread(
        -s.effect, -s.mean, s.se_units, s.se_draws, -s.sorted_draws[::-1], s.units, s.lag1, s.widened, s.lags, s.robust
    )


def _low_draw(s: Spread, alpha: float) -> float:
    """The resample that lies above a bar exactly where so few are at it or below that `_p_draws` does not object."""
    last = len(s.sorted_draws) - 1
    return float(s.sorted_draws[min(max(int(alpha * (last + 1) + 1e-9), FEW_DRAWS), last)])


def _percentile(s: Spread, share: float) -> float:
    return float(np.quantile(s.sorted_draws, share))


def more_seconds(s: Spread, bar: float, elapsed_s: float) -> float | None:
    """Further seconds until 80 % of such stages would pass: T = T_w ((z_a + z_b) SE / (bar - effect))^2.

    None where the estimate itself is not below the bar.
    """
    gap = bar - max(s.effect, s.mean)
    if gap <= 0 or not math.isfinite(s.se):
        return None
    z = normal_isf(ALPHA_PASS) + POWER_Z
    return max(0.0, elapsed_s * ((z * s.se / gap) ** 2 - 1)) or elapsed_s * 0.1
