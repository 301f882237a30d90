"""How much an arm got through, by blocks of time: both arms are cut at the same moments, as for latency.

In a closed loop both arms share the slots. A pair is over when both have answered, and the requests of an interleaved
loop are dealt out in halves, so both answer equally often by design, however slow one of them is. What differs is how
long its requests are under way. So there an arm's rate is its answers a second *for each request in flight* (Little's
law: throughput / concurrency = 1 / mean time under way). In an open loop it is the plain rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.judge.amounts.relative import LEAST_BLOCKS
from harness.judge.columns import Bools, Columns, Floats, Ints
from harness.judge.statistics.intervals import Spread, spread
from harness.judge.statistics.resample import draws, generator
from harness.judge.view import StageView

BLOCK_S, SHORTEST_BLOCK_S = 5.0, 1.0
MOST_BLOCKS = 240
EACH = 8
"""Answers a block, of the arm that has more of them."""
LEAST_ANSWERS = LEAST_BLOCKS * EACH


@dataclass(frozen=True, slots=True, eq=False)
class Amounts:
    """Of one arm in each block: so `much` (answers, tokens) `per` so much (seconds, seconds in flight, joules).

    `grain`: half of one answer's share of it; added to each block, so that one without an answer has a logarithm.
    """

    much: Floats
    per: Floats
    grain: float = 0.5

    @property
    def rate(self) -> float:
        return float(self.much.sum() / self.per.sum())

    def logs(self) -> Floats:
        return np.asarray(np.log((self.much + self.grain) / self.per))

    def log(self) -> float:
        return float(np.log((self.much.sum() + self.grain) / self.per.sum()))

    def resampled(self, times: Floats) -> Floats:
        return np.asarray(np.log((times @ self.much + self.grain) / (times @ self.per)))

    def only(self, blocks: Bools) -> Amounts:
        return Amounts(self.much[blocks], self.per[blocks], self.grain)


def span(view: StageView) -> tuple[int, int]:
    """Begin and end (ns) of the load as far as it was seen: what is answered after the planned end is left out."""
    begin = view.record.begin_ns
    last = begin if view.last_ns is None else view.last_ns
    seen = last if view.until_ns is None else view.until_ns
    return begin, max(min(seen, begin + round(view.plan.duration_s * 1e9)), begin)


def edges(begin_ns: int, end_ns: int, answers: int) -> Ints | None:
    """Where blocks of equal time begin, and the last one's end; None if there are too few answers, or it is too short.

    Blocks are of 5 s, longer where 5 s hold under EACH answers, and in short stages shorter: a second at the least.
    """
    span_s = (end_ns - begin_ns) / 1e9
    most = min(answers // EACH, int(span_s / SHORTEST_BLOCK_S), MOST_BLOCKS)
    if most < LEAST_BLOCKS:
        return None
    blocks = min(max(LEAST_BLOCKS, int(span_s / BLOCK_S)), most)
    return np.asarray(np.round(np.linspace(begin_ns, end_ns, blocks + 1)), np.int64)


def blocks_of_time(begin_ns: int, end_ns: int) -> Ints | None:
    """The same where nothing is counted: as many blocks as the time allows."""
    return edges(begin_ns, end_ns, EACH * MOST_BLOCKS)


def summed(at: Ints, done_ns: Ints, weights: Floats | None = None) -> Floats:
    """What was done in each block: how many, or the sum of `weights`."""
    block = np.searchsorted(at, done_ns, side="right") - 1
    inside = (block >= 0) & (block < len(at) - 1)
    chosen = None if weights is None else weights[inside]
    return np.bincount(block[inside], chosen, minlength=len(at) - 1).astype(np.float64)


def elapsed(view: StageView, arm: Columns, at: Ints) -> Floats:
    """What a rate of this arm is over, in each block: its seconds, in a closed loop the seconds its requests were in
    flight (failed ones, too: that is time spent).
    """
    if not view.plan.in_flight:
        return np.asarray(np.diff(at) / 1e9)
    sent = np.where(arm.sent_ns >= 0, arm.sent_ns, arm.due_ns)
    return np.diff(_up_to(at, sent) - _up_to(at, arm.done_ns))


def _up_to(at: Ints, moments: Ints) -> Floats:
    """For each edge the sum over earlier moments of how long ago they were, in seconds."""
    ordered = np.sort(moments)
    before = np.searchsorted(ordered, at, side="right")
    seconds = (ordered - at[0]) / 1e9
    total = np.concatenate([[0.0], np.cumsum(seconds)])
    return np.asarray(before * (at - at[0]) / 1e9 - total[before])


def worse(view: StageView, metric: str, one: Amounts, two: Amounts) -> Spread | None:
    """ln(how many times more the baseline gets through); None where under LEAST_BLOCKS blocks say anything."""
    known = (one.per > 0) & (two.per > 0)
    if int(known.sum()) < LEAST_BLOCKS:
        return None
    one, two = one.only(known), two.only(known)
    times = draws(generator(view.evidence.seed, metric, view.index), int(known.sum()))
    return spread(
        one.log() - two.log(), one.logs() - two.logs(), one.resampled(times) - two.resampled(times), ordered=True
    )
