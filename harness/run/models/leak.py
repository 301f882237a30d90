"""What a load costs, and whether memory comes back: statistics of measured cycles. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

FEWEST = 6
"""Cycles after the first: Kendall's test behind the interval cannot reach 95 % with fewer than five."""
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Cycle:
    """Bytes: before a load, while the version serves (after its probe), and after its unload."""

    before: float
    loaded: float
    unloaded: float


@dataclass(frozen=True, slots=True)
class Trend:
    """Growth of what is left after an unload, in bytes a cycle (Theil-Sen; the first cycle warms up and is left out).

    `low`, `high`: the 95 % interval. `grows`: None where there are too few cycles to say.
    """

    slope: float
    low: float
    high: float
    cycles: int
    grows: bool | None

    @property
    def sentence(self) -> str:
        if self.grows is None:
            return f"{self.cycles} cycles are too few to say whether memory is returned: at least {FEWEST + 1}"
        interval = f"95 % interval {_mib(self.low)} to {_mib(self.high)} MiB a cycle, {self.cycles} cycles"
        if self.grows:
            return f"memory is NOT returned: {_mib(self.slope)} MiB more after each cycle ({interval})"
        return f"no growth shown: {_mib(self.slope)} MiB a cycle ({interval})"


def cost(cycles: Sequence[Cycle]) -> float:
    """What one load takes: the median over the cycles, in bytes."""
    return float(np.median([cycle.loaded - cycle.before for cycle in cycles]))


def trend(cycles: Sequence[Cycle]) -> Trend:
    """Whether memory after an unload grows with the cycles. Robust against single outliers, not against a trend that

    something else on the machine causes.
    """
    left = [cycle.unloaded for cycle in cycles[1:]]
    if len(left) < 2:
        return Trend(0.0, 0.0, 0.0, len(cycles), None)
    fit = stats.theilslopes(left, np.arange(len(left)), CONFIDENCE)
    slope, low, high = float(fit.slope), float(fit.low_slope), float(fit.high_slope)
    return Trend(slope, low, high, len(cycles), low > 0 if len(left) >= FEWEST else None)


def _mib(value: float) -> str:
    return f"{value / 2**20:+.3g}"
