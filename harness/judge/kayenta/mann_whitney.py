"""The Mann-Whitney test as an interval of the shift between two samples, by the normal approximation.

    z(mu) = (d - sign(d)/2) / sigma,   d = U(x - mu, y) - m n / 2,
    sigma^2 = m n / 12 * (m + n + 1 - sum(t^3 - t) / ((m + n)(m + n - 1))),   t: sizes of the ties of x - mu and y

z falls as mu grows. The interval of level 1 - alpha lies between the roots of z(mu) = +-z(1 - alpha/2); the estimate,
after Hodges and Lehmann, is the root of z(mu) = 0. Where no mu in [min x - max y, max x - min y] is a root, that end of
the range stands for it. This is what R's `wilcox.test(x, y, conf.int = TRUE, exact = FALSE)` does and, after it,
Kayenta's judge; both search by Brent's method to 1e-4 *in the unit of the data*. z is a step function, so ties in bulk
leave the end of an interval anywhere within that tolerance of a jump.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.judge.columns import Floats
from harness.judge.statistics.distributions import normal_isf

TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Shift:
    """By how much x lies above y, in the unit of the data."""

    low: float
    high: float
    estimate: float


def z_score(x: Floats, y: Floats, mu: float = 0.0) -> float:
    """z(mu). Raises ValueError where all values are tied."""
    m, n = len(x), len(y)
    moved, other = x - mu, np.sort(y)
    wins = np.searchsorted(other, moved, "left") + np.searchsorted(other, moved, "right")
    d = float(wins.sum()) / 2 - m * n / 2
    _, sizes = np.unique(np.concatenate([moved, other]), return_counts=True)
    tied = sizes.astype(np.float64)
    variance = m * n / 12 * (m + n + 1 - float((tied**3 - tied).sum()) / ((m + n) * (m + n - 1)))
    if variance <= 0:
        raise ValueError("all observations are tied")
    return (d - math.copysign(0.5, d) * (d != 0)) / math.sqrt(variance)


def shift(x: Floats, y: Floats, level: float) -> Shift:
    """The interval of the shift at `level`, two-sided. Raises ValueError where ties leave nothing to search."""
    from scipy.optimize import brentq  # its import takes longer than the test

    least, most = float(x.min() - y.max()), float(x.max() - y.min())
    z_level = normal_isf((1 - level) / 2)

    def root(wanted: float) -> float:
        if z_score(x, y, least) <= wanted:
            return least
        if z_score(x, y, most) >= wanted:
            return most
        search = brentq(lambda mu: z_score(x, y, mu) - wanted, least, most, xtol=TOLERANCE, maxiter=1000)
        return float(search)

    return Shift(root(z_level), root(-z_level), root(0.0))
