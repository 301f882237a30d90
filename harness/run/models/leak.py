"""What a load costs, and whether memory comes back: statistics of measured cycles. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEWEST = 6
"""Cycles after the first: Kendall's test behind the interval cannot reach 95 % with fewer than five."""
CONFIDENCE = 0.95
NEGLIGIBLE = 0.01
"""Of what a load takes: allocators keep crumbs for a while, and with many cycles the interval shows any crumb."""


@dataclass(frozen=True, slots=True)
class Cycle:
    """Bytes: before a load, while the version serves (after its probe), and after its unload."""

    before: float
    loaded: float
    unloaded: float


@dataclass(frozen=True, slots=True)
class Trend:
    """Growth of what is left after an unload, in bytes a cycle (Theil-Sen; the first cycle warms up and is left out).

    `low`, `high`: the 95 % interval. `share`: the slope in loads. `grows`: whether, beyond doubt, more than 1 % of a
    load is left by each cycle; None where there are too few cycles to say.
    """

    slope: float
    low: float
    high: float
    share: float
    cycles: int
    grows: bool | None

    @property
    def sentence(self) -> str:
        if self.grows is None:
            return f"{self.cycles} cycles are too few to say whether memory is returned: at least {FEWEST + 1}"
        interval = f"95 % interval {_mib(self.low)} to {_mib(self.high)} MiB a cycle, {self.cycles} cycles"
        each = f"{_mib(self.slope)} MiB more after each cycle, {self.share:.2%} of a load ({interval})"
        if self.grows:
            return f"memory is NOT returned: {each}"
        if self.low > 0:
            return f"memory is returned but for crumbs: {each}"
        return f"no growth shown: {each}"


def cost(cycles: Sequence[Cycle]) -> float:
    """What one load takes: the median over the cycles, in bytes."""
    return float(np.median([cycle.loaded - cycle.before for cycle in cycles]))


def trend(cycles: Sequence[Cycle]) -> Trend:
    """Whether memory after an unload grows with the cycles. Robust against single outliers, not against a trend that

    something else on the machine causes.
    """
    left = [cycle.unloaded for cycle in cycles[1:]]
    if len(left) < 2:
        return Trend(0.0, 0.0, 0.0, 0.0, len(cycles), None)
    from scipy.stats import theilslopes  # a second, for who counts cycles only

    fit = theilslopes(left, np.arange(len(left)), CONFIDENCE)
    slope, low, high = float(fit.slope), float(fit.low_slope), float(fit.high_slope)
    load = cost(cycles)
    grows = low > NEGLIGIBLE * max(load, 0.0) if len(left) >= FEWEST else None
    return Trend(slope, low, high, slope / load if load > 0 else 0.0, len(cycles), grows)


def _mib(value: float) -> str:
    return f"{value / 2**20:+.3g}"
