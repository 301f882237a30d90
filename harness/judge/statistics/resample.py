"""The paired block bootstrap, vectorised: pooled statistics of resampled blocks, at a cost free of sample
size.
"""

from __future__ import annotations

import zlib

import numpy as np

from harness.judge.columns import Bools, Floats, Ints
from harness.judge.statistics.blocks import Blocks

RESAMPLES = 2000
EXACT_UP_TO = 1200
BINS = 1000


def generator(seed: int, *words: object) -> np.random.Generator:
    """A generator fixed by the run's seed and what it is for."""
    key = zlib.crc32("/".join(map(str, words)).encode())
    return np.random.default_rng([seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF, key])


def draws(rng: np.random.Generator, units: int) -> Floats:
    """How often each of `units` blocks is drawn, in each of RESAMPLES rounds; shape (RESAMPLES, units)."""
    return rng.multinomial(units, np.full(units, 1 / units), size=RESAMPLES).astype(np.float64)


def pooled_pair(blocks: Blocks, quantile: float | None, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """The pooled quantile (or mean) of each arm in each resample; the same blocks are drawn for both arms."""
    times = draws(rng, blocks.count)
    return (
        resampled(blocks.values[0], blocks.start[0], quantile, times, blocks.weights and blocks.weights[0]),
        resampled(blocks.values[1], blocks.start[1], quantile, times, blocks.weights and blocks.weights[1]),
    )


def resampled(
    values: Floats, start: Ints, quantile: float | None, times: Floats, weights: Floats | None = None
) -> Floats:
    """The pooled statistic under block multiplicities `times` (rounds, blocks); `weights` as in Blocks.

    Quantiles come from counts in bins: exact order statistics up to EXACT_UP_TO values, else BINS bins whose
    edges are pooled ranks, dense around the quantile, with linear interpolation inside a bin, unless all of it is
    one value. Counts are whole numbers in float64, so the result does not depend on the order of summation.
    """
    block = np.repeat(np.arange(len(start) - 1), np.diff(start))
    if quantile is None:
        sums = np.add.reduceat(values if weights is None else values * weights, start[:-1])
        sizes = np.diff(start).astype(np.float64) if weights is None else np.add.reduceat(weights, start[:-1])
        return np.asarray((times * sums).sum(axis=1) / (times @ sizes))
    ordered = np.sort(values) if weights is None else np.unique(values)
    exact = weights is None and len(values) <= EXACT_UP_TO
    if weights is not None and len(ordered) > 2 * BINS:
        ordered = ordered[np.unique(np.linspace(0, len(ordered) - 1, 2 * BINS).round().astype(np.int64))]
    edges = np.unique(ordered if exact or weights is not None else ordered[_ranks(len(values), quantile)])
    # Bin j holds (edge[j-1], edge[j]].
    bins = np.searchsorted(edges, values, side="left")
    table = np.bincount(block * len(edges) + bins, weights, minlength=(len(start) - 1) * len(edges))
    # upto[j, b]: how many values of block b lie in the bins up to j.
    upto = np.ascontiguousarray(np.cumsum(table.reshape(-1, len(edges)).astype(np.float64), axis=1).T)
    wanted = quantile * (times @ upto[-1])
    at = _first(upto, times, wanted)
    if exact:
        return np.asarray(edges[at])
    above = _drawn(upto[at], times)
    below = np.where(at > 0, _drawn(upto[at - 1], times), 0.0)
    share = (wanted - below) / np.maximum(above - below, 1.0)
    floor = np.where(at > 0, edges[at - 1], edges[0])
    if weights is None:
        floor = np.where(_tied(ordered, edges)[at], edges[at], floor)
    return np.asarray(floor + np.clip(share, 0, 1) * (edges[at] - floor))


def _tied(ordered: Floats, edges: Floats) -> Bools:
    """The bins in which several values are the same and no other is: times in whole milliseconds, say."""
    first, last = (np.searchsorted(ordered, edges, side=side) for side in ("left", "right"))
    return np.asarray((last - first > 1) & (first == np.concatenate([[0], last[:-1]])), np.bool_)


def _first(upto: Floats, times: Floats, wanted: Floats) -> Ints:
    """In each round the first bin up to which as many values as wanted were drawn, by bisection: a matrix of all rounds
    and bins would take ten times as long.
    """
    low, high = np.zeros(len(times), np.int64), np.full(len(times), len(upto) - 1, np.int64)
    while (low < high).any():
        middle = (low + high) // 2
        enough = _drawn(upto[middle], times) >= wanted
        low, high = np.where(enough, low, middle + 1), np.where(enough, middle, high)
    return np.minimum(low, high)


def _drawn(counts: Floats, times: Floats) -> Floats:
    return np.asarray(np.einsum("rb,rb->r", counts, times), np.float64)


def _ranks(n: int, quantile: float) -> Ints:
    """Ranks of bin edges: evenly over all, and evenly in the logit around the quantile."""
    q = min(max(quantile, 1e-4), 1 - 1e-4)
    logit = np.log(q / (1 - q)) + np.linspace(-3, 3, BINS * 3 // 4)
    shares = np.concatenate([np.linspace(0, 1, BINS // 4), 1 / (1 + np.exp(-logit))])
    return np.asarray(np.unique(np.minimum((shares * (n - 1)).round().astype(np.int64), n - 1)), np.int64)
