"""Quantiles so far out that a block of requests hardly holds one beyond them.

D_b of such blocks says whether each happened to hold a slow request. Instead both arms are taken together, the
candidate's times divided by the bar, and of those beyond the pooled quantile it is added up, by block and arm, how far
beyond (on the scale of ln) they are. Under H0 the arms of a block may be swapped, so the sum of the blocks' differences
is as likely with any of their signs turned (Fisher's randomization test, 1935): the p-value is exact, whatever the
times look like.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.judge.columns import Floats, Ints
from harness.judge.statistics.blocks import Blocks, log_of
from harness.judge.statistics.distributions import normal_isf, normal_sf
from harness.judge.statistics.robust import ROUNDING

FEWEST = 2.0
"""With fewer requests of a block beyond the quantile than this, they are counted."""
_WIDEST, _STEPS = math.log(100.0), 40
_UNIT = 0.05
"""Excesses are counted in steps of 5 %: whole numbers have few sums."""


@dataclass(frozen=True, slots=True, eq=False)
class Tail:
    """The slow requests of both arms; `widened`: as in intervals.Differences."""

    blocks: Blocks
    quantile: float
    widened: float = 1.0

    @classmethod
    def of(cls, blocks: Blocks, quantile: float | None, widened: float) -> Tail | None:
        """None where blocks hold enough of them."""
        if quantile is None or blocks.weights is not None:
            return None
        size = min(len(values) for values in blocks.values) / blocks.count
        return cls(blocks, quantile, widened) if size * (1 - quantile) < FEWEST else None

    def differences(self, bar: float) -> Ints:
        """By block, how much further beyond the candidate's are; `bar`: ln of the allowed ratio."""
        logs = log_of(self.blocks.values[0]), log_of(self.blocks.values[1]) - bar
        slow = float(np.quantile(np.concatenate(logs), self.quantile))
        one, two = (_beyond(v, start, slow) for v, start in zip(logs, self.blocks.start, strict=True))
        return two - one

    def p(self, bar: float) -> float:
        """One-sided p-value of "the candidate's quantile is at most e^bar of the baseline's"."""
        p = swapped(self.differences(bar))
        return normal_sf(normal_isf(p) / self.widened) if 0 < p < 0.5 else p

    def lower(self, alpha: float) -> float:
        """The largest bar that is rejected at `alpha`: a lower bound of the ln ratio; -ln 100 where none is."""
        low, high = -_WIDEST, _WIDEST
        for _ in range(_STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.p(middle) <= alpha else (low, middle)
        return low


def swapped(differences: Ints) -> float:
    """P(the sum is as large as it is), each difference having either sign with a half."""
    sizes = np.abs(differences[differences != 0])
    if not len(sizes):
        return 1.0
    total = int(sizes.sum())
    chances = np.zeros(2 * total + 1)
    chances[total] = 1.0
    for size in sizes.tolist():
        half, chances = chances / 2, np.zeros(2 * total + 1)
        chances[size:] += half[:-size]
        chances[:-size] += half[size:]
    return float(min(chances[total + int(differences.sum()) :].sum(), 1.0))


def _beyond(logs: Floats, start: Ints, slow: float) -> Ints:
    steps = np.maximum(np.ceil((logs - slow - ROUNDING) / _UNIT), 0).astype(np.int64)
    upto = np.concatenate([[0], np.cumsum(steps)])
    return np.asarray(upto[start[1:]] - upto[start[:-1]], np.int64)
