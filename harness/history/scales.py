"""On what scale the values of a series are compared, so that noise is about the same at any level.

Times, rates and bytes scatter by a share of themselves: their logarithms do by the same everywhere. A share of requests
scatters by its root: so do counts (Bartlett 1936). Anything else is taken as it is.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.types.history import Scale

Floats = npt.NDArray[np.float64]
FLOOR = {"ratio": 1e-3, "share": 2e-3, "difference": 1e-3}
"""Noise is never taken for less, on the scale of comparison: of a metric that never moves, 0.1 % is no news."""
_LEAST_SIZE = 1e-6
"""Of a unit: what is smaller is 0."""


def size_of(values: npt.NDArray[Any]) -> float:
    """Of what size values are that are compared by difference; above 0 also where all of them are 0."""
    seen = np.abs(_measured(values))
    return max(float(np.median(seen)) if len(seen) else 0.0, _LEAST_SIZE)


def scale_of(unit: str, values: npt.NDArray[Any]) -> Scale:
    """ "pp" and "share" from 0 to 1 are shares; what is above 0 is compared by ratio; the rest by difference."""
    seen = _measured(values)
    if unit in ("pp", "share") and len(seen) and bool(np.all((seen >= 0) & (seen <= 1))):
        return "share"
    if unit not in ("pp", "share") and len(seen) and bool(np.all(seen > 0)):
        return "ratio"
    return "difference"


def stretched(values: npt.NDArray[Any], scale: Scale) -> Floats:
    """`values` on the scale of comparison."""
    plain: Floats = np.asarray(values, dtype=np.float64)
    if scale == "ratio":
        return np.asarray(np.log(plain))
    return np.asarray(np.sqrt(plain)) if scale == "share" else plain


def back(value: float, scale: Scale) -> float:
    """From the scale of comparison to the metric's unit."""
    if scale == "ratio":
        return math.exp(value)
    return max(value, 0.0) ** 2 if scale == "share" else value


def apart(after: float, before: float, scale: Scale) -> float:
    """The effect of two levels on the scale of comparison: a ratio, or a difference in the metric's unit."""
    if scale == "ratio":
        return math.exp(after - before)
    return back(after, scale) - back(before, scale)


def none_of(scale: Scale) -> float:
    """The effect of no change at all."""
    return 1.0 if scale == "ratio" else 0.0


def floor_of(values: npt.NDArray[Any], scale: Scale) -> float:
    """The least noise, on the scale of comparison."""
    return FLOOR[scale] * (size_of(values) if scale == "difference" else 1.0)


def _measured(values: npt.NDArray[Any]) -> Floats:
    plain: Floats = np.asarray(values, dtype=np.float64)
    kept: Floats = plain[np.isfinite(plain)]
    return kept
