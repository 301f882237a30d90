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
