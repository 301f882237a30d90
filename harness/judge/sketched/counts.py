"""One stage as counts: what of it is judged once its requests are not there one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from harness.judge.columns import ARMS, CANCELLED, OK, STATUSES, TIMEOUT, Floats, Ints
from harness.judge.statistics.blocks import MOST_CELLS, Blocks, full, grouped
from harness.recording.schema import BLOCK_NS

if TYPE_CHECKING:
    from harness.judge.errors.failures import Tally

Lane = tuple[str, int, bool]
"""A metric of an arm: of pairs in which both arms have it, or of other requests."""
PLANNED, SCORING = 0, 1
# Bins by cells, of which there are fewer, are counted in one array, whatever of it stays empty; so many rows at once.
DENSE, PIECE = 1 << 22, 1 << 18


class Scale(Protocol):
    """What bins stand for. `half`: ln of half a bin, by which a value may be off; `name`: for sentences. `summed`: sums
    are of the values themselves, not of what bins stand for.
    """

    @property
    def half(self) -> float: ...
    @property
    def summed(self) -> bool: ...
    @property
    def name(self) -> str: ...
    def spread(self, bins: npt.NDArray[np.int32], counts: Ints) -> tuple[Ints, Floats, Floats]:
        """Values (seconds) and how many requests each stands for, in ascending order; and for each its row of
        `bins`.
        """


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """How often values fell into a bin in a cell; ordered by cell and bin, each pair once."""

    cell: npt.NDArray[np.int32]
    bin: npt.NDArray[np.int32]
    count: Ints

    @classmethod
    def of(cls, cell: npt.NDArray[Any], bins: npt.NDArray[Any], count: Ints | None = None) -> Histogram:
        """From rows in any order, of any integers; `count` None: one each."""
        if not len(cell):
            return NONE
        low, first = int(bins.min()), int(cell.min())
        wide = int(bins.max()) - low + 1
        size = (int(cell.max()) - first + 1) * wide

        def keys(rows: slice) -> Ints:
            return (cell[rows].astype(np.int64) - first) * wide + (bins[rows].astype(np.int64) - low)

        if size <= max(4 * len(cell), DENSE):
            times = np.zeros(size, np.int64)
            for at in range(0, len(cell), PIECE):
                rows = slice(at, at + PIECE)
                np.add.at(times, keys(rows), 1 if count is None else count[rows])
            found = np.flatnonzero(times)
            number = times[found]
        else:
            found, place = np.unique(keys(slice(None)), return_inverse=True)
            number = np.bincount(place, count).astype(np.int64)
        return cls((found // wide + first).astype(np.int32), (found % wide + low).astype(np.int32), number)

    @property
    def total(self) -> int:
        return int(self.count.sum())

    def __add__(self, other: Histogram) -> Histogram:
        if not len(other.cell) or not len(self.cell):
            return self if len(self.cell) else other
        cell, bins = np.concatenate([self.cell, other.cell]), np.concatenate([self.bin, other.bin])
        return Histogram.of(cell, bins, np.concatenate([self.count, other.count]))


NONE = Histogram(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int64))


class Sender(NamedTuple):
    """What one load worker sent: how many requests, and when the first and the last were due."""

    requests: int
    first_ns: int
    last_ns: int


@dataclass(frozen=True, eq=False)
class StageCounts:
    """`cells` of `cell_ns` from the begin of the stage on. `last_ns`: the end of the last request; a sketch does not
    tell it, there it is that of the last cell.

    `lanes`: the counts of each metric; `sums`: of its values by cell (seconds, tokens), as exact as they are known.
    `statuses`: requests by arm, kind (PLANNED, SCORING), status and cell. `versions`: answers by arm and what they
    named; `errors`: requests by class. `lost`: of pairs that both arms answered, in how many this arm alone has the
    metric. `pairs`: how many there are, and how many of them are whole. `lags`: sent - due by worker (None: of all).
    `numbers`: how many numbers of the plan were due, and seen; `flying_s`: time that requests were under way, all
    together, `held_s`: the same of slots. None is unknown, as in a sketch much is: there `senders` is empty, too.
    """

    cells: int
    last_ns: int
    scale: Scale
    lanes: Mapping[Lane, Histogram]
    sums: Mapping[Lane, Floats]
    statuses: Ints
    tallies: tuple[Tally, Tally]
    versions: Mapping[tuple[int, str], int] = field(default_factory=dict)
    errors: Mapping[str, int] = field(default_factory=dict)
    lost: Mapping[tuple[str, int], int] = field(default_factory=dict)
    pairs: tuple[int, int] = (0, 0)
    lags: Mapping[int | None, Histogram] = field(default_factory=dict)
    cell_ns: int = BLOCK_NS
    senders: Mapping[int, Sender] = field(default_factory=dict)
    numbers: tuple[int, int] | None = None
    held_s: float | None = None
    flying_s: float | None = None
    twice: int = 0
    backwards: int = 0
    due_known: bool = True

    def requests(self, arm: int, kind: int = PLANNED) -> int:
        return int(self.statuses[arm, kind].sum())

    def answered(self, arm: int) -> int:
        return int(self.statuses[arm, PLANNED, OK].sum())

    def failed(self, arm: int, kinds: slice = slice(None)) -> int:
        wrong = [status for status in range(len(STATUSES)) if status not in (OK, CANCELLED)]
        return int(self.statuses[arm, kinds][:, wrong].sum())

    def timeouts(self, arm: int) -> int:
        return int(self.statuses[arm, :, TIMEOUT].sum())

    def known(self, metric: str, arm: int) -> int:
        """Requests of an arm that have the metric."""
        return sum(self._lane(metric, arm, paired).total for paired in (False, True))

    def every(self, metric: str, arm: int) -> Histogram:
        """All values of an arm, whether or not the partner's is known."""
        return self._lane(metric, arm, False) + self._lane(metric, arm, True)

    def sum(self, metric: str, arm: int) -> float:
        return float(sum(self.sums[metric, arm, p].sum() for p in (False, True) if (metric, arm, p) in self.sums))

    def both(self, metric: str, paired: bool) -> tuple[Histogram, Histogram]:
        """What is compared."""
        return self._lane(metric, 0, paired), self._lane(metric, 1, paired)

    def _lane(self, metric: str, arm: int, paired: bool) -> Histogram:
        return self.lanes.get((metric, arm, paired), NONE)

    def blocks(self, metric: str, paired: bool, *, mean: bool) -> Blocks | None:
        """The blocks that samples of this load would have been cut into; None where cells are too coarse for so few.

        `mean`: a cell's values are then only their mean, which is as exact as the sums are.
        """
        histograms = self.both(metric, paired)
        size = max((int(h.cell[-1]) + 1 for h in histograms if len(h.cell)), default=0)
        if size > MOST_CELLS:
            return None
        each = [np.bincount(h.cell, h.count, minlength=size).astype(np.int64) for h in histograms]
        edges = grouped(np.stack(each)) if size else None
        if edges is None:
            return None
        cut = []
        for arm, (histogram, number) in enumerate(zip(histograms, each, strict=True)):
            if mean:
                sums, filled = self.sums[metric, arm, paired], np.flatnonzero(number)
                start = np.searchsorted(filled, edges)
                cut.append((sums[filled] / number[filled], start, number[filled].astype(np.float64)))
            else:
                cut.append(_cut(histogram, edges, self.scale))
        (v1, s1, w1), (v2, s2, w2) = cut
        return full(Blocks((v1, v2), (s1.astype(np.int64), s2.astype(np.int64)), weights=(w1, w2)))

    def pooled(self, histogram: Histogram, quantile: float) -> float:
        """The quantile (seconds) of what was counted; NaN if nothing was."""
        return weighted(*self.spread(histogram), quantile)

    def spread(self, histogram: Histogram) -> tuple[Floats, Floats]:
        """Values in ascending order, and how many requests each stands for."""
        whole = Histogram.of(np.zeros_like(histogram.cell), histogram.bin, histogram.count)
        _, values, weights = self.scale.spread(whole.bin, whole.count)
        return values, weights


def _cut(histogram: Histogram, edges: Ints, scale: Scale) -> tuple[Floats, Ints, Floats]:
    block = np.searchsorted(edges, histogram.cell, side="right") - 1
    merged = Histogram.of(block, histogram.bin, histogram.count)
    rows, values, weights = scale.spread(merged.bin, merged.count)
    start = np.searchsorted(merged.cell[rows], np.arange(len(edges)))
    return values, start, weights


def weighted(values: Floats, weights: Floats, quantile: float) -> float:
    """The quantile of ascending values that stand for so many each; NaN of none."""
    if not len(values):
        return float("nan")
    upto = np.cumsum(weights)
    return float(values[min(int(np.searchsorted(upto, quantile * upto[-1])), len(values) - 1)])


def no_statuses(cells: int) -> Ints:
    return np.zeros((len(ARMS), 2, len(STATUSES), max(cells, 1)), np.int64)
