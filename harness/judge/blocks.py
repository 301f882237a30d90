"""Time-paired blocks: the unit of inference for latency.

Requests are not independent: a slow second slows its neighbours, in both arms. So both arms are cut at the
same moments, D_b = ln q2,b - ln q1,b is taken in each block, and blocks, not requests, are resampled: what
both arms suffered together cancels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.judge.columns import Floats, Ints

MIN_BLOCKS = 12
BLOCK_S = 5.0
BLOCK_REQUESTS = 200
MAX_BLOCKS = 240
MIN_PAIRS_A_BLOCK, GOOD_PAIRS_A_BLOCK = 5, 8
MIN_REQUESTS_A_BLOCK = 20


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Values (seconds) of both arms, ordered by block; arm a's block b is
    values[a][start[a][b]:start[a][b+1]].

    `dropped`: the share of blocks left out because an arm had nothing in them.
    """

    values: tuple[Floats, Floats]
    start: tuple[Ints, Ints]
    dropped: float = 0.0

    @property
    def count(self) -> int:
        return len(self.start[0]) - 1

    def merged(self, every: int) -> Blocks:
        """Blocks of `every` neighbours each; a remainder joins the last."""
        keep = np.arange(0, self.count - self.count % every + 1, every)
        starts = tuple(np.concatenate([start[keep[:-1]], start[-1:]]) for start in self.start)
        return Blocks(self.values, (starts[0], starts[1]), self.dropped)


def by_pairs(due_ns: Ints, first: Floats, second: Floats) -> Blocks | None:
    """Blocks of consecutive pairs, at least MIN_BLOCKS of them; None if there are too few pairs.

    Row i of the three arrays is one pair. Fast models (200 pairs in 5 s): blocks of 5 s; slower ones: by
    count.
    """
    n = len(due_ns)
    if n < MIN_BLOCKS * MIN_PAIRS_A_BLOCK:
        return None
    order = np.argsort(due_ns, kind="stable")
    edges = _time_edges(due_ns[order], n)
    if edges is None:
        blocks = max(MIN_BLOCKS, -(-n // BLOCK_REQUESTS), min(n // GOOD_PAIRS_A_BLOCK, 30))
        edges = np.arange(blocks + 1, dtype=np.int64) * n // blocks
    return Blocks((first[order], second[order]), (edges, edges))


def by_time(first_due: Ints, first: Floats, second_due: Ints, second: Floats) -> Blocks | None:
    """Blocks for arms of equal load without pairs: the same moments cut both. None if there are too few."""
    smaller = min(len(first), len(second))
    if smaller < MIN_BLOCKS * MIN_REQUESTS_A_BLOCK:
        return None
    orders = np.argsort(first_due, kind="stable"), np.argsort(second_due, kind="stable")
    dues = first_due[orders[0]], second_due[orders[1]]
    due = np.sort(np.concatenate(dues), kind="stable")
    edges = _time_edges(due, smaller)
    if edges is None:
        blocks = min(max(MIN_BLOCKS, -(-smaller // BLOCK_REQUESTS), min(smaller // 40, 30)), MAX_BLOCKS)
        edges = np.arange(blocks + 1, dtype=np.int64) * len(due) // blocks
    inner = due[edges[1:-1]]
    starts = [np.concatenate([[0], np.searchsorted(d, inner), [len(d)]]).astype(np.int64) for d in dues]
    full = np.flatnonzero((np.diff(starts[0]) > 0) & (np.diff(starts[1]) > 0))
    cut = Blocks((first[orders[0]], second[orders[1]]), (starts[0], starts[1]))
    return cut if len(full) == cut.count else _only(cut, full)


def _time_edges(due: Ints, requests: int) -> Ints | None:
    """Where equal spans of time begin in the sorted `due`; None if too slow for blocks by time.

    Spans are of 5 s, longer where 5 s hold under 200 requests an arm or would make over 240 blocks.
    """
    span_s = (int(due[-1]) - int(due[0])) / 1e9
    if span_s <= 0:
        return None
    length_s = max(BLOCK_S, BLOCK_REQUESTS * span_s / requests, span_s / MAX_BLOCKS)
    blocks = int(span_s / length_s)
    if blocks < MIN_BLOCKS:
        return None
    moments = due[0] + (np.arange(1, blocks) * (span_s * 1e9 / blocks)).astype(np.int64)
    edges = np.concatenate([[0], np.searchsorted(due, moments), [len(due)]]).astype(np.int64)
    return np.asarray(np.unique(edges), np.int64)


def _only(blocks: Blocks, full: npt.NDArray[np.intp]) -> Blocks | None:
    """The blocks numbered `full`; None if under MIN_BLOCKS are left."""
    if len(full) < MIN_BLOCKS:
        return None
    values, starts = [], []
    for value, start in zip(blocks.values, blocks.start, strict=True):
        values.append(np.concatenate([value[start[b] : start[b + 1]] for b in full]))
        starts.append(np.concatenate([[0], np.cumsum(np.diff(start)[full])]).astype(np.int64))
    return Blocks((values[0], values[1]), (starts[0], starts[1]), 1 - len(full) / blocks.count)


def block_logs(blocks: Blocks, quantile: float | None) -> tuple[Floats, Floats]:
    """ln of each block's quantile (mean if None), for either arm; shape (blocks,)."""
    return (
        _logs(blocks.values[0], blocks.start[0], quantile),
        _logs(blocks.values[1], blocks.start[1], quantile),
    )


def _logs(values: Floats, start: Ints, quantile: float | None) -> Floats:
    parts = (values[a:b] for a, b in zip(start[:-1].tolist(), start[1:].tolist(), strict=True))
    return log_of(np.array([statistic(part, quantile) for part in parts]))


def statistic(values: Floats, quantile: float | None) -> float:
    """The quantile (linear interpolation), or the mean if None."""
    return float(np.mean(values)) if quantile is None else float(np.quantile(values, quantile))


def log_of(seconds: Floats) -> Floats:
    """ln, with a nanosecond as the least time there is."""
    return np.asarray(np.log(np.maximum(seconds, 1e-9)), np.float64)
