"""The level of a stable segment and its scatter, so that a few wild runs widen nothing much.

Huber's Proposal 2 (1964): location and scale together, such that values clipped at K scales of the location have their
mean there, and the variance that clipped normal values have. Where nothing is wild it is close to mean and standard
deviation (at K = 2 some 97 % as sharp); a run of twenty scales counts as one of two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.history.scales import Floats

K = 2.0
_KEPT = 0.9205
"""The variance of standard normal values, clipped at K."""
_NORMAL_MAD = 1.4826
_TURNS = 100


@dataclass(frozen=True, slots=True)
class Level:
    """Of `runs` values: the `middle`, and the standard deviation of one run about it."""

    middle: float
    scatter: float
    runs: int


def level(values: Floats, floor: float) -> Level:
    """Of one value at least; the scatter is `floor` at the least."""
    n = len(values)
    middle = float(np.median(values))
    scatter = max(_NORMAL_MAD * float(np.median(np.abs(values - middle))), floor)
    if n < 2:
        return Level(middle, scatter, n)
    for _ in range(_TURNS):
        kept = np.clip(values, middle - K * scatter, middle + K * scatter)
        middle = float(kept.mean())
        old, scatter = scatter, max(math.sqrt(float(np.sum((kept - middle) ** 2)) / (n - 1) / _KEPT), floor)
        if abs(scatter - old) <= 1e-4 * old:
            break
    return Level(middle, scatter, n)
