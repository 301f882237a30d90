"""Pairs that passed or failed under both arms: the exact test of McNemar, and Tango's score test of a margin.

Of n pairs `worse` passed at the baseline and failed at the candidate, `better` the other way round; the drop is
(worse - better) / n. McNemar asks whether there is one: under H0 `worse` is binomial(worse + better, 1/2). Tango's
statistic for "the drop is `delta`" uses the maximum-likelihood estimate of the rates under that hypothesis; at delta 0
it is McNemar's. The continuity correction of half a pair keeps the share of false passes below its level also for few
pairs (a test enumerates it).

Sources: McNemar, Psychometrika 12 (1947); Tango, Statistics in Medicine 17 (1998), 891-908.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy import special

from harness.judge.statistics.distributions import normal_isf, normal_sf


@dataclass(frozen=True, slots=True)
class Flips:
    """Counts of pairs; `n` all of them."""

    n: int
    worse: int
    better: int

    @property
    def drop(self) -> float:
        return (self.worse - self.better) / self.n

    def mirrored(self) -> Flips:
        return Flips(self.n, self.better, self.worse)


def mcnemar(flips: Flips) -> float:
    """Exact one-sided p-value of "the candidate is not worse": P(X >= worse), X binomial(worse + better, 1/2)."""
    if flips.worse == 0:
        return 1.0
    return float(special.bdtrc(flips.worse - 1, flips.worse + flips.better, 0.5))


def p_drop(flips: Flips, delta: float) -> float:
    """One-sided p-value of "the drop is at most `delta`" (from 0 up): the larger of both tests'."""
    return max(mcnemar(flips), normal_sf(_z(flips, delta, -0.5)))


def upper_drop(flips: Flips, alpha: float) -> float:
    """The upper one-sided bound of the drop at level `alpha`."""
    return _solve(flips, lambda delta: _z(flips, delta, 0.5), -normal_isf(alpha))


def lower_drop(flips: Flips, alpha: float) -> float:
    return -upper_drop(flips.mirrored(), alpha)


def _z(flips: Flips, delta: float, correction: float) -> float:
    """Tango's statistic, `correction` pairs nearer to 0 where that is in the direction asked for."""
    n, b, c = flips.n, flips.worse, flips.better
    first = -b - c + (2 * n - b + c) * delta
    second = -c * delta * (1 - delta)
    q = (math.sqrt(max(first * first - 8 * n * second, 0.0)) - first) / (4 * n)
    variance = n * (2 * q + delta * (1 - delta))
    above = b - c - n * delta + correction
    if variance <= 0:
        return math.copysign(math.inf, above) if above else 0.0
    return above / math.sqrt(variance)


def _solve(flips: Flips, z: Callable[[float], float], wanted: float) -> float:
    """The delta in (drop, 1) at which `z`, which falls, is `wanted`; 1 where it never is."""
    low, high = flips.drop, 1.0 - 1e-12
    if z(high) > wanted:
        return 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if z(middle) > wanted else (low, middle)
    return high
