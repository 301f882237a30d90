"""Whether a series rises, falls, or begins with a transient."""

from __future__ import annotations

import math
import warnings

import numpy as np

from harness.judge.columns import Floats
from harness.judge.statistics.distributions import normal_isf, normal_sf

BATCH = 5


def kendall(values: Floats) -> tuple[float, float]:
    """Kendall's tau of a series against its order, and the two-sided p-value (Mann 1945).

    Where neighbours resemble each other beyond the trend, z is divided by sqrt((1 + r) / (1 - r)), with r the lag-1
    autocorrelation of what a Theil-Sen line leaves, less its own standard error.
    """
    from scipy.stats import kendalltau  # a second, for who judges only

    n = len(values)
    if n < 4 or np.ptp(values) == 0:
        return 0.0, 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        tau, p = kendalltau(np.arange(n), values)
    left = values - theil_sen(values) * np.arange(n)
    left = left - left.mean()
    variance = float(left @ left)
    lag1 = float(left[1:] @ left[:-1]) / variance if variance > 0 else 0.0
    sure = min(max(0.0, lag1 - 1 / math.sqrt(n)), 0.95)
    z = normal_isf(max(float(p), 1e-300) / 2) / math.sqrt((1 + sure) / (1 - sure))
    return float(tau), 2 * normal_sf(z)


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
