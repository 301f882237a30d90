"""Time-paired blocks: the unit of inference for latency.

Requests are not independent: a slow second slows its neighbours, in both arms. So both arms are cut at the
same moments, D_b = ln q2,b - ln q1,b is taken in each block, and blocks, not requests, are resampled: what
both arms suffered together cancels.

The quantile of a block is smoothed: of some hundred requests the 99th percentile is hardly more than the second largest
value. So ln q is averaged over ranks near the wanted one, an L-estimator that tends to the quantile as blocks grow
(compare Harrell and Davis 1982, and Sheather and Marron 1990).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.judge.columns import Floats, Ints
from harness.recording.schema import BLOCK_NS

MIN_BLOCKS = 12
BLOCK_REQUESTS = 200
MAX_BLOCKS = 240
MOST_CELLS = 1_000_000
"""Two months: what is due later was stamped in another epoch, and must not be counted up to."""
MIN_PAIRS_A_BLOCK, GOOD_PAIRS_A_BLOCK = 5, 8
MIN_REQUESTS_A_BLOCK, GOOD_REQUESTS_A_BLOCK = 20, 25


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Values (seconds) of both arms, ordered by block; arm a's block b is
    values[a][start[a][b]:start[a][b+1]].

    `weights`: how many requests each value stands for, where they come from a sketch; None: one each. `dropped`: the
    share of blocks left out because an arm had nothing in them.
    """

    values: tuple[Floats, Floats]
    start: tuple[Ints, Ints]
    dropped: float = 0.0
    weights: tuple[Floats, Floats] | None = None

    @property
    def count(self) -> int:
        return len(self.start[0]) - 1

    def merged(self, every: int) -> Blocks:
        """Blocks of `every` neighbours each; a remainder joins the last."""
        keep = np.arange(0, self.count - self.count % every + 1, every)
        starts = tuple(np.concatenate([start[keep[:-1]], start[-1:]]) for start in self.start)
        return Blocks(self.values, (starts[0], starts[1]), self.dropped, self.weights)


def by_pairs(due_ns: Ints, first: Floats, second: Floats, begin_ns: int | None = None) -> Blocks | None:
    """Blocks of consecutive pairs, at least MIN_BLOCKS of them; None if there are too few pairs.

    Row i of the three arrays is one pair. Fast models (200 pairs in 5 s): blocks of 5 s from `begin_ns` on (default:
    the first pair); slower ones: by count.
    """
    n = len(due_ns)
    if n < MIN_BLOCKS * MIN_PAIRS_A_BLOCK:
        return None
    order = np.argsort(due_ns, kind="stable")
    cells = cells_of(due_ns[order], begin_ns)
    counts = np.bincount(cells)
    edges = grouped(np.stack([counts, counts]))
    if edges is None:
        blocks = max(MIN_BLOCKS, -(-n // BLOCK_REQUESTS), min(n // GOOD_PAIRS_A_BLOCK, 30))
        starts = np.arange(blocks + 1, dtype=np.int64) * n // blocks
    else:
        starts = np.searchsorted(cells, edges).astype(np.int64)
    return full(Blocks((first[order], second[order]), (starts, starts)))


def by_time(
    first_due: Ints, first: Floats, second_due: Ints, second: Floats, begin_ns: int | None = None
) -> Blocks | None:
    """Blocks for arms of equal load without pairs: the same moments cut both. None if there are too few."""
    smaller = min(len(first), len(second))
    if smaller < MIN_BLOCKS * MIN_REQUESTS_A_BLOCK:
        return None
    orders = np.argsort(first_due, kind="stable"), np.argsort(second_due, kind="stable")
    dues = first_due[orders[0]], second_due[orders[1]]
    first_ns = min(int(due[0]) for due in dues)  # of either arm: both are cut at the same moments
    cells = [cells_of(due, first_ns if begin_ns is None else min(begin_ns, first_ns)) for due in dues]
    size = max(int(cell[-1]) for cell in cells) + 1
    edges = grouped(np.stack([np.bincount(cell, minlength=size) for cell in cells]))
    if edges is not None:
        starts = [np.searchsorted(cell, edges).astype(np.int64) for cell in cells]
    else:
        due = np.sort(np.concatenate(dues), kind="stable")
        few = min(smaller // GOOD_REQUESTS_A_BLOCK, 40)
        blocks = min(max(MIN_BLOCKS, -(-smaller // BLOCK_REQUESTS), few), MAX_BLOCKS)
        inner = due[(np.arange(1, blocks, dtype=np.int64) * len(due)) // blocks]
        starts = [np.concatenate([[0], np.searchsorted(d, inner), [len(d)]]).astype(np.int64) for d in dues]
    return full(Blocks((first[orders[0]], second[orders[1]]), (starts[0], starts[1])))


def cells_of(due_ns: Ints, begin_ns: int | None = None) -> Ints:
    """Which cell of BLOCK_NS each request is due in, from `begin_ns` on (default: the first); `due_ns` sorted."""
    begin = int(due_ns[0]) if begin_ns is None else min(begin_ns, int(due_ns[0]))
    return np.minimum((due_ns - begin) // BLOCK_NS, MOST_CELLS)


def grouped(counts: Ints) -> Ints | None:
    """The cells at which blocks begin, and one behind the last; None where cells are too coarse for this few.

    `counts`: requests by arm and cell, shape (2, cells). A block is as many cells as hold 200 requests an arm on
    average, more where that would make over 240 blocks. A last one with under half of the usual joins its neighbour.
    """
    cells = counts.shape[1]
    requests = int(counts.sum(axis=1).min())
    if requests == 0:
        return None
    every = max(1, math.ceil(BLOCK_REQUESTS * cells / requests), math.ceil(cells / MAX_BLOCKS))
    edges = [*range(0, cells, every), cells]
    if len(edges) > 2:
        last = int(counts[:, edges[-2] :].sum(axis=1).min())
        if last < requests / (len(edges) - 1) / 2:
            del edges[-2]
    return np.array(edges, np.int64) if len(edges) > MIN_BLOCKS else None


def full(cut: Blocks) -> Blocks | None:
    """Without the blocks in which an arm has nothing; None if under MIN_BLOCKS are left."""
    kept = np.flatnonzero((np.diff(cut.start[0]) > 0) & (np.diff(cut.start[1]) > 0))
    return cut if len(kept) == cut.count else _only(cut, kept)


def _only(blocks: Blocks, kept: npt.NDArray[np.intp]) -> Blocks | None:
    if len(kept) < MIN_BLOCKS:
        return None
    rows = [np.concatenate([np.arange(start[b], start[b + 1]) for b in kept]) for start in blocks.start]
    one, two = (np.concatenate([[0], np.cumsum(np.diff(start)[kept])]).astype(np.int64) for start in blocks.start)
    weights = blocks.weights and (blocks.weights[0][rows[0]], blocks.weights[1][rows[1]])
    dropped = 1 - len(kept) / blocks.count
    return Blocks((blocks.values[0][rows[0]], blocks.values[1][rows[1]]), (one, two), dropped, weights)


def block_logs(blocks: Blocks, quantile: float | None) -> tuple[Floats, Floats]:
    """ln of each block's smoothed quantile (mean if None), for either arm; shape (blocks,)."""
    first, second = (
        _logs(value, start, weights, quantile)
        for value, start, weights in zip(blocks.values, blocks.start, blocks.weights or (None, None), strict=True)
    )
    return first, second


def _logs(values: Floats, start: Ints, weights: Floats | None, quantile: float | None) -> Floats:
    ends, counts = start[1:], np.diff(start)
    if quantile is None:
        totals = values if weights is None else values * weights
        sizes = counts.astype(np.float64) if weights is None else np.add.reduceat(weights, start[:-1])
        return log_of(np.add.reduceat(totals, start[:-1]) / sizes)
    falls = values[1:] < values[:-1]
    falls[ends[:-1] - 1] = False
    if falls.any():  # what was counted is in order
        order = np.lexsort((values, np.repeat(np.arange(len(counts)), counts)))
        values, weights = values[order], None if weights is None else weights[order]
    logs = log_of(values)
    weight = np.ones(len(logs)) if weights is None else weights
    upto = np.concatenate([[0.0], np.cumsum(weight)])
    area = np.concatenate([[0.0], np.cumsum(weight * logs)])
    size = upto[ends] - upto[start[:-1]]
    low, high = window(quantile, size)

    def below(share: Floats) -> Floats:
        """The area under ln q up to a share of the block; q steps from one value to the next."""
        rank = upto[start[:-1]] + share * size
        at = np.minimum(np.searchsorted(upto, rank, side="right") - 1, ends - 1)
        at = np.maximum(at, start[:-1])
        return np.asarray(area[at] + (rank - upto[at]) * logs[at], np.float64)

    return np.asarray((below(high) - below(low)) / (size * (high - low)), np.float64)


def window(quantile: float, size: Floats) -> tuple[Floats, Floats]:
    """From which share of a block of `size` requests to which one ln q is averaged.

    The further out a quantile, the fewer requests tell of it: from half a rank to either side at the median to four
    standard errors of the rank at the 99th percentile, but not into the last 40 % of the tail, which is wild.
    """
    sd = np.sqrt(quantile * (1 - quantile) / size)
    tail = min(quantile, 1 - quantile)
    wide = np.maximum(8 * abs(quantile - 0.5) * sd, np.minimum(0.5 / size, 0.25))
    inwards, outwards = np.minimum(wide, 3 * tail), np.minimum(wide, 0.6 * tail)
    down, up = (inwards, outwards) if quantile >= 0.5 else (outwards, inwards)
    return np.maximum(quantile - down, 0.0), np.minimum(quantile + up, 1.0)


def statistic(values: Floats, quantile: float | None) -> float:
    """The quantile (linear interpolation), or the mean if None."""
    return float(np.mean(values)) if quantile is None else float(np.quantile(values, quantile))


def pooled(blocks: Blocks, arm: int, quantile: float | None) -> float:
    """The statistic of all values of one arm."""
    values = blocks.values[arm]
    if blocks.weights is None:
        return statistic(values, quantile)
    weights = blocks.weights[arm]
    if quantile is None:
        return float(np.average(values, weights=weights))
    order = np.argsort(values, kind="stable")
    upto = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(upto, quantile * upto[-1])])


def log_of(seconds: Floats) -> Floats:
    """ln, with a nanosecond as the least time there is."""
    return np.asarray(np.log(np.maximum(seconds, 1e-9)), np.float64)
