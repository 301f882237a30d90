"""Whether a series rises, falls, or begins with a transient."""

from __future__ import annotations

import math

import numpy as np

from harness.judge.columns import Floats
from harness.judge.statistics.distributions import normal_isf, normal_sf

BATCH = 5
EXACT_UP_TO = 33
"""Series without ties; beyond it, as in scipy.stats, S is taken as normal."""


def kendall(values: Floats) -> tuple[float, float]:
    """Kendall's tau of a series against its order, and the two-sided p-value (Mann 1945).

    Where neighbours resemble each other beyond the trend, z is divided by sqrt((1 + r) / (1 - r)), with r the lag-1
    autocorrelation of what a Theil-Sen line leaves, less its own standard error.
    """
    n = len(values)
    if n < 4 or np.ptp(values) == 0:
        return 0.0, 1.0
    tau, p = _tau_b(values)
    left = values - theil_sen(values) * np.arange(n)
    left = left - left.mean()
    variance = float(left @ left)
    lag1 = float(left[1:] @ left[:-1]) / variance if variance > 0 else 0.0
    sure = min(max(0.0, lag1 - 1 / math.sqrt(n)), 0.95)
    z = normal_isf(max(p, 1e-300) / 2) / math.sqrt((1 + sure) / (1 - sure))
    return tau, 2 * normal_sf(z)


def _tau_b(values: Floats) -> tuple[float, float]:
    """Tau-b against the order, and the two-sided p-value: exact where that is quick, else by the normal distribution
    with the variance for ties (Kendall 1970). scipy.stats has the same, and its import takes longer than to judge.
    """
    n = len(values)
    first, second = np.triu_indices(n, 1)
    pairs = len(first)
    score = int((values[second] > values[first]).sum()) - int((values[second] < values[first]).sum())
    ties = np.unique(values, return_counts=True)[1].astype(np.int64)
    tau = score / math.sqrt(pairs * (pairs - int((ties * (ties - 1)).sum()) / 2))
    if n <= EXACT_UP_TO and len(ties) == n:
        fewer = (pairs - abs(score)) // 2
        return tau, min(1.0, 2 * float(_inversions(n)[: fewer + 1].sum()))
    variance = (n * (n - 1) * (2 * n + 5) - int((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18
    return tau, 2 * normal_sf(abs(score) / math.sqrt(variance))


def _inversions(n: int) -> Floats:
    """The probability of each number of inversions in a random order of n."""
    found = np.ones(1)
    for size in range(2, n + 1):
        found = np.convolve(found, np.full(size, 1 / size))
    return found


def theil_sen(values: Floats) -> float:
    """The median of the slopes between all pairs, a step (Sen 1968)."""
    first, second = np.triu_indices(len(values), 1)
    return float(np.median((values[second] - values[first]) / (second - first)))


def transient(values: Floats) -> int | None:
    """How many observations at the beginning to leave out, by MSER-5; None: more than half, so nothing is steady.

    Means of 5 consecutive observations; of all beginnings the one after which the standard error of the rest's mean,
    sqrt(sum of squares) / n, is least (White 1997; batches: Spratt 1998; White, Cobb and Spratt 2000).
    """
    batches = len(values) // BATCH
    if batches < 2 * BATCH:
        return 0
    means = values[: batches * BATCH].reshape(batches, BATCH).mean(axis=1)
    means = means - means.mean()
    count = np.arange(batches, 0, -1, dtype=np.float64)
    total, squares = np.cumsum(means[::-1])[::-1], np.cumsum(means[::-1] ** 2)[::-1]
    error = (squares - total**2 / count) / count**2
    # The last few are too few for a standard error: they are least by accident.
    cut = int(np.argmin(error[: batches - BATCH]))
    return cut * BATCH if 2 * cut <= batches else None


def medians(values: Floats, groups: int) -> Floats:
    """Of `groups` parts of equal count, in order."""
    return np.array([float(np.median(part)) for part in np.array_split(values, groups)])
