"""Where exactly a series changed, and by how much: one split of some runs into two levels.

With flat priors of both levels and of the logarithm of the noise, the chance that run k is the first of the new level
is in proportion to S(k)^(-(n - 2) / 2) / sqrt(k (n - k)), S(k) the sum of squares within both parts (Smith 1975).
Values are clipped at CLIP robust standard deviations beyond the two levels before, so wild runs pull no boundary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from harness.history.scales import Floats
from harness.history.walking import CLIP, FLOOR_SHARE, LEAST_AFTER, bar

SURE = 0.95
_KEPT = 0.956
"""Of the variance of normal values, what is left of it when they are clipped at CLIP."""
_NORMAL_MAD = 1.4826
_TURNS = 3
_BY_CHANCE = 0.02
"""What `bar` promises for 60 runs."""


@dataclass(frozen=True, slots=True)
class Split:
    """Run `at` is the most likely first one of the new level, `low` to `high` hold it with 95 %; all count from 0.

    `before`, `after`: levels; `error`: the standard error of their difference, of `df` degrees of freedom; `p` as that
    of a Change.
    """

    at: int
    low: int
    high: int
    before: float
    after: float
    error: float
    df: int
    p: float

    @property
    def half(self) -> float:
        """Half of the 95 % interval of the difference."""
        return self.error * float(special.stdtrit(self.df, (1 + SURE) / 2))

    @property
    def clear(self) -> bool:
        """Sure at 99.9 %."""
        return abs(self.after - self.before) > self.error * float(special.stdtrit(self.df, 0.9995))


def split(values: Floats, guess: int, floor: float, ever: int) -> Split:
    """The best split of `values` (4 at least) near `guess`, by turns: levels of the split, clipping, a better split.

    `ever`: how many runs there were when the change was told; a long history shows more by chance.
    """
    n = len(values)
    places = np.arange(LEAST_AFTER, n - LEAST_AFTER + 1)
    at = min(max(guess, LEAST_AFTER), n - LEAST_AFTER)
    for _ in range(_TURNS):
        kept = _kept(values, at, floor)
        sums = np.cumsum(kept)
        first, total = sums[places - 1], float(sums[-1])
        between = first**2 / places + (total - first) ** 2 / (n - places)
        within = np.maximum(float(kept @ kept) - between, 0.0) + n * (FLOOR_SHARE * floor) ** 2
        old, at = at, int(places[np.argmin((n - 2) * np.log(within) + np.log(places * (n - places)))])
        if at == old:
            break
    before, after = float(kept[:at].mean()), float(kept[at:].mean())
    worth = _worth(np.concatenate([kept[:at] - before, kept[at:] - after]), floor)
    logs = -0.5 * ((n - 2) * worth * np.log(within) + np.log(places * (n - places)))
    low, high = _most(np.exp(logs - logs.max()), places)
    left = float(within[at - LEAST_AFTER])
    error = math.sqrt(left / _KEPT / (n - 2) * (1 / at + 1 / (n - at)) / worth)
    g = n * math.log1p(worth * (after - before) ** 2 * at * (n - at) / n / left)
    p = min(1.0, _BY_CHANCE * math.exp(min((float(bar(n, ever)) - g) / 2, 100.0)))
    return Split(at, low, high, before, after, error, n - 2, p)


def _kept(values: Floats, at: int, floor: float) -> Floats:
    """`values`, clipped beyond the levels before and after; less the level before, for the sake of rounding."""
    one, two = float(np.median(values[:at])), float(np.median(values[at:]))
    around = np.concatenate([values[:at] - one, values[at:] - two])
    reach = CLIP * max(_NORMAL_MAD * float(np.median(np.abs(around))), floor)
    return np.clip(values, min(one, two) - reach, max(one, two) + reach)


def _worth(around: Floats, floor: float) -> float:
    """What a run is worth where neighbours resemble each other: (1 - r) / (1 + r), as in the walk."""
    square = float(around @ around) + len(around) * (FLOOR_SHARE * floor) ** 2
    r = min(max(float(around[1:] @ around[:-1]) / square - 1 / math.sqrt(len(around)), 0.0), 0.9)
    return (1 - r) / (1 + r)


def _most(chances: Floats, places: npt.NDArray[np.int64]) -> tuple[int, int]:
    """The ends of the likeliest places that together have 95 %."""
    order = np.argsort(-chances, kind="stable")
    enough = int(np.searchsorted(np.cumsum(chances[order]), SURE * float(chances.sum()))) + 1
    chosen = places[order[:enough]]
    return int(chosen.min()), int(chosen.max())
