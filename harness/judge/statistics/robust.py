"""The location of block differences, so that a few wild blocks neither hide nor make a difference.

Block differences have heavy tails: where a queue built up in one arm and not in the other, D_b says little of the
build. Huber's M-estimator counts a block beyond K robust standard deviations as one at K. Under H0 (two arms that
differ by a factor) the D_b are symmetric about its logarithm, so any symmetric location tests it; where D_b are normal,
this one costs 4 % of the data, where queues spike it is worth as much as twice the data.
"""

from __future__ import annotations

import math

import numpy as np

from harness.judge.columns import Floats

K = 1.5
ROUNDING = 1e-9
"""Logarithms that differ by less are the same: their last digits come from how they were reckoned."""
_NORMAL_MAD = 1.4826
_TURNS = 50


def location(values: Floats) -> tuple[float, float, Floats]:
    """Huber's estimate, its standard error, and the values as they counted, less it (Huber 1964, 1981 section 6.5).

    The mean and its own where over half of the values are the same (but for rounding): then there is no scale to be
    robust on.
    """
    n = len(values)
    middle = float(np.median(values))
    scale = _NORMAL_MAD * float(np.median(np.abs(values - middle)))
    if scale <= ROUNDING * (1 + abs(middle)) or n < 3:
        mean = float(values.mean())
        return mean, float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf, values - mean
    for _ in range(_TURNS):
        pulled = np.clip((values - middle) / scale, -K, K)
        inside = max(float(np.mean(np.abs(values - middle) < K * scale)), 1 / n)
        step = scale * float(pulled.mean()) / inside
        middle += step
        if abs(step) < 1e-9 * scale:
            break
    pulled = np.clip((values - middle) / scale, -K, K)
    inside = max(float(np.mean(np.abs(pulled) < K)), 1 / n)
    # Huber's correction for small samples, with the variance of psi' where it is 0 or 1.
    correction = 1 + (1 - inside) / (n * inside)
    error = correction * scale * math.sqrt(float(pulled @ pulled) / (n - 1) / n) / inside
    return middle, error, scale * pulled
