"""Two conditions compared by a block bootstrap over time: how much longer, how much more.

Requests are not independent: a slow second slows its neighbours. So each condition's blocks of time are resampled, with
replacement and the two independently of each other, and the pooled quantile (or rate) is taken in each of 2,000
resamples. The standard error of ln(b) - ln(a) is that of the two resamplings together, each widened by
sqrt(n / (n - 1)), which resampling n blocks loses, and where blocks resemble their neighbours by
sqrt((1 + r) / (1 - r)) with r the lag-1 autocorrelation less its own standard error (as in `judge.intervals`). A bound
is the outer one of the t-interval, with the degrees of freedom of the condition with fewer blocks, and of the
resamples' own percentile.

(Kuensch 1989, Carlstein 1986: blocks keep the dependence within them. Welch would allow more degrees of freedom.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.judge.columns import Floats
from harness.judge.statistics.distributions import t_isf
from harness.judge.statistics.resample import draws, generator
from harness.recording.schema import BIN_RATIO
from harness.recording.sketches import quantile

Block = Mapping[str, Any]

LEAST_BLOCKS = 5
REQUESTS_BEYOND = 5
"""A quantile is judged where this many requests are expected beyond it: p95 takes 100, p99 500."""


@dataclass(frozen=True)
class Compared:
    """`a`, `b`: the two values; `bound` of b/a. `n`: the blocks of the condition with fewer."""

    a: float
    b: float
    se: float
    n: int
    sorted_draws: Floats

    @property
    def ratio(self) -> float:
        return self.b / self.a

    def upper(self, alpha: float) -> float:
        """b/a is at most this, with 1 - alpha."""
        t = math.log(self.ratio) + self._half(alpha)
        return math.exp(max(t, float(np.quantile(self.sorted_draws, 1 - alpha))))

    def lower(self, alpha: float) -> float:
        """b/a is at least this, with 1 - alpha."""
        t = math.log(self.ratio) - self._half(alpha)
        return math.exp(min(t, float(np.quantile(self.sorted_draws, alpha))))

    def _half(self, alpha: float) -> float:
        return t_isf(alpha, self.n - 1) * self.se


def timed(blocks: Sequence[Block], metric: str) -> int:
    """How many requests have that time."""
    return sum(sum(found[1]) for block in blocks if (found := block["times"].get(metric)))


def enough(blocks: Sequence[Block], metric: str, q: float) -> bool:
    """Whether the quantile can be told at all."""
    return timed(blocks, metric) * (1 - q) >= REQUESTS_BEYOND


def pooled(blocks: Sequence[Block], metric: str, q: float) -> float | None:
    """The quantile over all blocks, seconds; None where none of them has one."""
    found = [block["times"][metric] for block in blocks if block["times"].get(metric)]
    if not found:
        return None
    return float(quantile([bin for bins, _ in found for bin in bins], [c for _, counts in found for c in counts], q))


def times(
    a: Sequence[Block], b: Sequence[Block], metric: str, q: float, *words: object
) -> Compared | None:  # fmt: skip
    """The quantile in condition b against that in a; None where there are too few blocks or requests.

    `words` fix the resampling.
    """
    a, b = ([block for block in blocks if block["times"].get(metric)] for blocks in (a, b))
    if min(len(a), len(b)) < LEAST_BLOCKS or not (enough(a, metric, q) and enough(b, metric, q)):
        return None
    sides = []
    for side, blocks in enumerate((a, b)):
        value = pooled(blocks, metric, q)
        assert value is not None
        logs = np.log([pooled([block], metric, 0.5) or 1.0 for block in blocks])
        resampled = _quantiles(blocks, metric, q, draws(generator(0, *words, metric, q, side), len(blocks)))
        sides.append((value, np.log(resampled), logs))
    return _compared(sides)


def rates(a: Sequence[Block], b: Sequence[Block], what: str, *words: object) -> Compared | None:
    """`what` ("done", "tokens") a second, b against a."""
    if min(len(a), len(b)) < LEAST_BLOCKS:
        return None
    sides = []
    for side, blocks in enumerate((a, b)):
        counts = np.array([block[what] for block in blocks], np.float64)
        seconds = np.array([block["seconds"] for block in blocks], np.float64)
        if counts.sum() <= 0:
            return None
        times_drawn = draws(generator(0, *words, what, side), len(blocks))
        resampled = (times_drawn @ counts) / (times_drawn @ seconds)
        if (resampled <= 0).any():
            return None
        sides.append((float(counts.sum() / seconds.sum()), np.log(resampled), counts))
    return _compared(sides)


def means(a: Sequence[float], b: Sequence[float], *words: object) -> Compared | None:
    """The mean of one value a block (a peak of memory), b against a."""
    blocks_a, blocks_b = ([{"x": value, "seconds": 1.0} for value in values] for values in (a, b))
    return rates(blocks_a, blocks_b, "x", *words)


def _compared(sides: Sequence[tuple[float, Floats, Any]]) -> Compared:
    (value_a, draws_a, order_a), (value_b, draws_b, order_b) = sides
    # Each side's draws about its own estimate; widened, so that the percentiles are wide enough, too.
    spread_a, spread_b = _widened(value_a, draws_a, order_a), _widened(value_b, draws_b, order_b)
    difference = math.log(value_b / value_a) + spread_b - spread_a
    return Compared(
        a=value_a, b=value_b, se=float(np.std(difference)), n=min(len(order_a), len(order_b)),
        sorted_draws=np.sort(difference),
    )  # fmt: skip


def _widened(value: float, logs: Floats, order: Any) -> Floats:
    n = len(order)
    centred = np.asarray(order, np.float64) - np.mean(order)
    variance = float(centred @ centred)
    lag1 = float(centred[1:] @ centred[:-1]) / variance if variance > 0 else 0.0
    sure = min(max(0.0, lag1 - 1 / math.sqrt(n)), 0.95)
    factor = math.sqrt((1 + sure) / (1 - sure)) * math.sqrt(n / (n - 1))
    return np.asarray((logs - math.log(value)) * factor, np.float64)


def _quantiles(blocks: Sequence[Block], metric: str, q: float, drawn: Floats) -> Floats:
    """The pooled quantile of each resample: bins are counted together, and the rank's place in its bin is linear."""
    bins = np.unique([bin for block in blocks for bin in block["times"][metric][0]])
    table = np.zeros((len(blocks), len(bins)))
    for number, block in enumerate(blocks):
        found, counts = block["times"][metric]
        table[number, np.searchsorted(bins, found)] = counts
    cumulative = np.cumsum(drawn @ table, axis=1)
    wanted = q * (cumulative[:, -1] - 1) + 0.5
    at = np.minimum((cumulative < wanted[:, None]).sum(axis=1), len(bins) - 1)
    rows = np.arange(len(drawn))
    below = np.where(at > 0, cumulative[rows, at - 1], 0.0)
    inside = np.clip((wanted - below) / np.maximum(cumulative[rows, at] - below, 1.0), 0, 1)
    return np.asarray(np.exp((bins[at] + inside) * math.log(BIN_RATIO)), np.float64)
