"""What a look may claim, so that all looks together keep their promise.

A stage of a planned length T. With B the Brownian motion that the evidence follows, B(t) at t = elapsed / T, a level
alpha is spent so: the end decides at z >= d, an earlier look at z >= c / sqrt(t), as O'Brien and Fleming (1979) have
it. By the reflection principle the chance that either ever happens under H0, however often one looks, is at most

    P(B(1) >= d) + P(max B >= c, B(1) < d) = (1 - Phi(d)) + (1 - Phi(2 c - d)).

With LAST of alpha for the first term, d is z(LAST alpha) and c the mean of that and z((1 - LAST) alpha): at 1 % the end
decides at 2.37 (O'Brien and Fleming: 2.58), half-way one needs 3.86 (3.64). Looking costs a tenth of alpha.

A stage without a planned length. After n units a t-statistic is evidence

    e = sqrt(g / (n + g)) ((1 + u) / (1 + u g / (n + g)))^(n / 2),   u = t^2 / (n - 1),

the mixture of t-likelihood ratios over effects of N(0, 1/g) standard deviations: under H0 a martingale, so the chance
that it ever reaches 1 / alpha is at most alpha (Ville; Lai 1976; Wang and Ramdas, arXiv 2310.03722). It is never as
sharp as a plan, which is why it needs some three times the data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.judge.statistics.distributions import normal_isf, normal_sf, t_isf, t_sf

LAST = 0.9
PRIOR_UNITS = 4.0
"""g: the mixture is sharpest for effects that show after some ten times as many units."""


@dataclass(frozen=True, slots=True)
class Looks:
    """One look. `fraction`: of the planned length, in (0, 1]; None where there is no plan."""

    fraction: float | None = 1.0

    def level(self, alpha: float, units: int) -> float:
        """The level at which this look may call something out, of a total of `alpha`; `units`: blocks, or prompts."""
        if self.fraction is None:
            return _open_level(alpha, units)
        return look_alpha(alpha, self.fraction)

    def p(self, p: float, units: int) -> float:
        """The p-value that, compared with alpha, is the same decision as comparing `p` with `level(alpha)`."""
        if self.fraction is None:
            return _open_p(p, units)
        return look_p(p, self.fraction)


def look_alpha(alpha: float, fraction: float) -> float:
    """The level of one look after `fraction` of a planned length."""
    if fraction >= 1:
        return LAST * alpha
    return normal_sf(_early(alpha) / math.sqrt(fraction))


def look_p(p: float, fraction: float) -> float:
    """The p-value that, compared with alpha, is the same decision as comparing `p` with `look_alpha`."""
    p = min(max(p, 1e-300), 1.0)
    if fraction >= 1:
        return min(1.0, p / LAST)
    wanted = normal_isf(p) * math.sqrt(fraction)
    if wanted <= _early(1.0):
        return 1.0
    low, high = math.log(1e-300), 0.0  # of ln alpha, in which the boundary falls
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _early(math.exp(middle)) <= wanted else (middle, high)
    return math.exp(high)


def _early(alpha: float) -> float:
    """c, falling in alpha."""
    return (normal_isf(LAST * alpha) + normal_isf((1 - LAST) * alpha)) / 2


def _open_p(p: float, units: int) -> float:
    t = t_isf(max(p, 1e-100), units - 1) if p < 0.5 else 0.0  # of a smaller p the square of t is no number
    return min(1.0, math.exp(-_log_e(t, units)))


def _log_e(t: float, n: int) -> float:
    u, shrink = t * t / (n - 1), PRIOR_UNITS / (n + PRIOR_UNITS)
    return 0.5 * math.log(shrink) + n / 2 * (math.log1p(u) - math.log1p(u * shrink))


def _open_level(alpha: float, n: int) -> float:
    """The inverse: t at which e reaches 1 / alpha, in closed form; 0 where no t does."""
    shrink = PRIOR_UNITS / (n + PRIOR_UNITS)
    power = math.exp((-math.log(alpha) - 0.5 * math.log(shrink)) * 2 / n)
    if power * shrink >= 1:
        return 0.0
    u = (power - 1) / (1 - power * shrink)
    return t_sf(math.sqrt(u * (n - 1)), n - 1)
