"""The distributions that the judge asks, from scipy.special: to import scipy.stats costs each command a second.

As in scipy.stats, `sf` is the upper tail and `isf` its inverse; all take and give numbers. Tests hold them against it.
"""

from __future__ import annotations

import math
from bisect import bisect_left

from scipy import special


def normal_sf(z: float) -> float:
    return float(special.ndtr(-z))


def normal_isf(p: float) -> float:
    return -float(special.ndtri(p))


def t_sf(t: float, df: float) -> float:
    return float(special.stdtr(df, -t))


def t_isf(p: float, df: float) -> float:
    return -float(special.stdtrit(df, p))


def gamma_isf(p: float, shape: float, scale: float) -> float:
    return float(scale * special.gammainccinv(shape, p))


def binomial_p(count: int, total: int, share: float) -> float:
    """Two-sided, exact: how likely are all counts that are no likelier than this one (scipy.stats.binomtest)."""
    if count == total * share:
        return 1.0
    middle = math.floor(total * share)

    def log_likely(n: int) -> float:
        ways = special.gammaln(total + 1) - special.gammaln(n + 1) - special.gammaln(total - n + 1)
        return float(ways + special.xlogy(n, share) + special.xlog1py(total - n, -share))

    bar = log_likely(count) + 1e-7  # as likely, but for rounding
    if count < total * share:
        fewer = count
        more = bisect_left(range(total + 1), True, lo=middle + 1, key=lambda n: log_likely(n) <= bar)
    else:
        fewer = bisect_left(range(middle + 1), True, key=lambda n: log_likely(n) > bar) - 1
        more = count
    tails = special.bdtr(fewer, total, share) if fewer >= 0 else 0.0
    return min(1.0, float(tails + (special.bdtrc(more - 1, total, share) if more <= total else 0.0)))
