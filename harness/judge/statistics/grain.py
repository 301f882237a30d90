"""The grain of a clock: a recording in whole milliseconds says of a quantile only which two ticks it is between.

However many requests there are, their quantile is a tick, too: builds of 10.4 and 10.6 ms take 10 and 11 by
such a clock, and builds 10 % apart may both take 10. So a ratio of quantiles may be off by half a tick in either arm,
and both of its bounds are moved that far. A mean is not, where times spread over more than a tick: what rounding adds
to one request it takes from another.
"""

from __future__ import annotations

import math

import numpy as np

from harness.judge.columns import Floats

_FIRST = 1000
"""So many times are asked first: those of a fine clock have no tick in common."""
MOST = math.log(100.0)


def tick(values: tuple[Floats, Floats]) -> float:
    """The greatest step (seconds) of which all times are multiples: a nanosecond at the least, 0 of no times."""
    step = 0
    for arm in values:
        for part in (arm[:_FIRST], arm[_FIRST:]):
            if step == 1:
                return 1e-9
            step = math.gcd(step, int(np.gcd.reduce(np.rint(part * 1e9).astype(np.int64))) if len(part) else 0)
    return step / 1e9


def blur(values: tuple[Floats, Floats], step: float, quantile: float | None, smaller: float) -> float:
    """ln of what a ratio of two statistics may be off by, the `smaller` of which is given (seconds)."""
    half = step / 2
    if quantile is None and min(float(arm.std()) for arm in values) >= half:
        return 0.0
    return min(math.log((smaller + half) / (smaller - half)), MOST) if smaller > half else MOST
