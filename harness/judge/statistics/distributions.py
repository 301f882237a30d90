"""The distributions that the judge asks, from scipy.special: to import scipy.stats costs each command a second.

As in scipy.stats, `sf` is the upper tail and `isf` its inverse; all take and give numbers. Tests hold them against it.
"""

from __future__ import annotations

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
    """Two-sided: twice the smaller tail, which `count` is a part of (Clopper and Pearson's intervals invert it)."""
    fewer, more = float(special.bdtr(count, total, share)), 1.0
    if count > 0:
        more = float(special.bdtrc(count - 1, total, share))
    return min(1.0, 2 * min(fewer, more))
