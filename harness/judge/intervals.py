"""One-sided bounds and p-values from two methods that must agree, and the looks' boundary."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.judge.columns import Floats
from harness.judge.distributions import normal_isf, normal_sf, t_isf, t_sf

ALPHA_FAIL = 0.01
ALPHA_PASS = 0.05
POWER_Z = normal_isf(0.20)


@dataclass(frozen=True, slots=True)
class Spread:
    """An effect seen two ways: `units` per-block (or per-prompt) differences, and resamples of the whole.

    `effect` is the pooled estimate, `mean` the mean of the differences; `se_units` and `se_draws` their
    standard errors; `lag1` the lag-1 autocorrelation of the differences, 0 where the units have no order.
    """

    effect: float
    mean: float
    se_units: float
    se_draws: float
    sorted_draws: Floats
    units: int
    lag1: float = 0.0

    @property
    def low_trust(self) -> bool:
        return self.lag1 > 2 / math.sqrt(self.units)

    @property
    def effective_units(self) -> float:
        return self.units * (1 - self.lag1) / (1 + self.lag1) if self.low_trust else float(self.units)

    @property
    def se(self) -> float:
        """The larger standard error: what the planner counts with."""
        return max(self.se_units, self.se_draws)


def spread(effect: float, differences: Floats, resamples: Floats, *, ordered: bool) -> Spread:
    """`differences`: one a block or prompt; `ordered`: neighbours follow each other in time.

    Where neighbours resemble each other, the standard error is widened by sqrt((1 + r) / (1 - r)), with r the
    lag-1 autocorrelation less its own standard error 1 / sqrt(n): a handful of blocks resemble each other by
    chance. The bootstrap's is widened by sqrt(n / (n - 1)), which resampling loses.
    """
    n = len(differences)
    centred = differences - differences.mean()
    variance = float(centred @ centred)
    lag1 = float(centred[1:] @ centred[:-1]) / variance if ordered and variance > 0 else 0.0
    lag1 = min(max(lag1, -0.95), 0.95)
    sure = max(0.0, lag1 - 1 / math.sqrt(n))
    widen = math.sqrt((1 + sure) / (1 - sure))
    return Spread(
        effect=effect,
        mean=float(differences.mean()),
        se_units=math.sqrt(variance / (n - 1) / n) * widen if n > 1 else math.inf,
        se_draws=float(resamples.std()) * math.sqrt(n / max(n - 1, 1)) * widen,
        sorted_draws=np.sort(resamples),
        units=n,
        lag1=lag1,
    )


def upper(s: Spread, alpha: float) -> float:
    """An upper bound that holds with 1 - alpha by the t-interval and by the bootstrap: the larger of both."""
    t = t_isf(alpha, s.units - 1)
    return max(s.mean + t * s.se_units, s.effect + t * s.se_draws, _percentile(s, 1 - alpha))


def lower(s: Spread, alpha: float) -> float:
    """A lower bound in the same way: the smaller of both."""
    t = t_isf(alpha, s.units - 1)
    bounds = [s.mean - t * s.se_units, s.effect - t * s.se_draws]
    if alpha * len(s.sorted_draws) >= 5:
        bounds.append(_percentile(s, alpha))
    return min(bounds)


def p_above(s: Spread, bar: float) -> float:
    """One-sided p-value of "the effect is at most `bar`": the larger of both methods'."""
    values = []
    for centre, se in ((s.mean, s.se_units), (s.effect, s.se_draws)):
        if se > 0:
            values.append(t_sf((centre - bar) / se, s.units - 1))
        else:
            values.append(0.0 if centre > bar else 1.0)
    below = int(np.searchsorted(s.sorted_draws, bar, side="right"))
    if below > 5:
        values.append(below / len(s.sorted_draws))
    return max(values)


def p_below(s: Spread, bar: float) -> float:
    """One-sided p-value of "the effect is at least `bar`"."""
    return p_above(mirrored(s), -bar)


def mirrored(s: Spread) -> Spread:
    return Spread(-s.effect, -s.mean, s.se_units, s.se_draws, -s.sorted_draws[::-1], s.units, s.lag1)


def _percentile(s: Spread, share: float) -> float:
    return float(np.quantile(s.sorted_draws, share))


def look_alpha(alpha: float, fraction: float) -> float:
    """The level of one look after `fraction` of the stage: O'Brien-Fleming, z = z(1 - alpha/2) /
    sqrt(fraction).
    """
    return normal_sf(normal_isf(alpha / 2) / math.sqrt(fraction))


def look_p(p: float, fraction: float) -> float:
    """The p-value that, compared with alpha, is the same decision as comparing `p` with `look_alpha`."""
    z = normal_isf(min(max(p, 1e-300), 1.0))
    return min(1.0, 2 * normal_sf(z * math.sqrt(fraction))) if z > 0 else 1.0


def more_seconds(s: Spread, bar: float, elapsed_s: float) -> float | None:
    """Further seconds until 80 % of such stages would pass: T = T_w ((z_a + z_b) SE / (bar - effect))^2.

    None where the estimate itself is not below the bar.
    """
    gap = bar - max(s.effect, s.mean)
    if gap <= 0 or not math.isfinite(s.se):
        return None
    z = normal_isf(ALPHA_PASS) + POWER_Z
    return max(0.0, elapsed_s * ((z * s.se / gap) ** 2 - 1)) or elapsed_s * 0.1
