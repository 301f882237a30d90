"""Many times as a page needs them: in ascending order, with how many requests each stands for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """`values` (seconds) ascend; `counts` says how many requests have each. Its length is the number of requests."""

    values: Floats
    counts: Ints

    @classmethod
    def exact(cls, values: Floats) -> Spread:
        """Of single values, in any order."""
        return cls(np.sort(values), np.ones(len(values), np.int64))

    @classmethod
    def of(cls, parts: Iterable[Spread]) -> Spread:
        """All of them together."""
        found = [part for part in parts if len(part.values)]
        if len(found) < 2:
            return found[0] if found else NOTHING
        values = np.concatenate([part.values for part in found])
        counts = np.concatenate([part.counts for part in found])
        order = np.argsort(values, kind="stable")  # parts ascend already: they are merged
        values, counts = values[order], counts[order]
        first = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
        return cls(values[first], np.add.reduceat(counts, first))

    def __len__(self) -> int:
        return int(self.counts.sum())

    def quantile(self, shares: npt.ArrayLike) -> Any:
        """The quantiles (seconds) at `shares` in [0, 1], a number or an array, interpolated linearly between order
        statistics as numpy does; NaN of nothing.
        """
        wanted = np.asarray(shares, np.float64)
        if not len(self.values):
            return np.full(wanted.shape, np.nan)[()]
        ends = np.cumsum(self.counts)
        rank = wanted * (ends[-1] - 1)
        below = np.floor(rank)
        low, high = (
            self.values[np.searchsorted(ends, np.minimum(k, ends[-1] - 1), side="right")] for k in (below, below + 1)
        )
        part, step = rank - below, high - low
        return np.where(part < 0.5, low + step * part, high - step * (1 - part))[()]


NOTHING = Spread(np.empty(0), np.empty(0, np.int64))
