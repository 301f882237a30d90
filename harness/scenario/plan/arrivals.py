"""When requests are due: in an open loop by an arrival process, in a closed loop when a slot is free.

Every process is made in two steps. First a process of one arrival a unit: its gaps are

    constant   1                        (the first arrival at 0)
    poisson    -log(1 - u)
    gamma      P^-1(k, u) / k           k is the burstiness: the gaps vary by 1/sqrt(k), so 1 is Poisson, 0.25 comes in
                                        bursts, and a large k is nearly constant. P^-1: scipy.special.gammaincinv

Then time is changed: with a rate r(t) the n-th arrival is at the t where the integral of r from 0 to t is the sum of
the first n gaps (Cox and Lewis 1966, time rescaling). Under a ramp from r0 to r1 over T that is a quadratic:
t = 2 S / (r0 + sqrt(r0^2 + 2 S (r1 - r0) / T)), in the form that loses no digits.

Inverting distribution functions, and rejecting nothing, keeps the plan of a seed the same wherever it is made: a maths
library that differs in the last bit moves a due time by a nanosecond at most, and never shifts all later draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from harness.scenario.plan.draws import Draws, Floats, Ints, stream
from harness.types import StagePlan

# So few that making a chunk never holds the generator up for long, so many that numpy's own cost is spread thin.
CHUNK = 1024

Due = Iterator[tuple[Ints, bool]]
"""Chunks of due times in ns from the start of the stage, -1 where there is none, and whether the chunk is the last."""


def due_times(stage: StagePlan, seed: int, trace_ns: Sequence[int], first: int) -> Due:
    """`first`: the first chunk has this many, unless the stage ends in it. `trace_ns`: ascending, from 0. Requests that
    leave together have one due time.
    """
    if stage.arrival == "closed":
        return _closed()
    if stage.rate is not None and stage.together > 1:
        stage = replace(stage, rate=stage.rate / stage.together, together=1)
    if stage.arrival == "trace":
        return _replayed(stage, np.asarray(trace_ns, dtype=np.int64), max(CHUNK, first))
    return _open(stage, seed, max(CHUNK, first))


def expected(stage: StagePlan) -> float:
    """How many requests an open loop is expected to send, in paired mode pairs; 0.0 in a closed loop."""
    return mean_rate(stage) * stage.duration_s


def mean_rate(stage: StagePlan) -> float:
    """Requests a second over the whole stage, in paired mode pairs; 0.0 in a closed loop."""
    if stage.rate is None:
        return 0.0
    return stage.rate if stage.rate_to is None else (stage.rate + stage.rate_to) / 2


def _closed() -> Due:
    none = np.full(CHUNK, -1, dtype=np.int64)
    while True:
        yield none, False


def _replayed(stage: StagePlan, trace_ns: Ints, size: int) -> Due:
    due_ns = trace_ns[: int(np.searchsorted(trace_ns, math.ceil(stage.duration_s * 1e9)))]
    for start in range(0, max(len(due_ns), 1), size):
        yield due_ns[start : start + size], start + size >= len(due_ns)


def _open(stage: StagePlan, seed: int, size: int) -> Due:
    draws = Draws(seed, stream(stage), "due")
    last_ns = math.ceil(stage.duration_s * 1e9) - 1
    units, number, ends = 0.0, 0, False
    while not ends:
        if stage.arrival == "constant":
            arrivals = np.arange(number, number + size, dtype=np.float64)
        else:
            arrivals = units + np.cumsum(_gaps(stage, draws(size)))
        units, number = float(arrivals[-1]), number + size
        due_s = _rescaled(stage, arrivals)
        due_s = due_s[due_s < stage.duration_s]
        ends = len(due_s) < size
        yield np.minimum(np.rint(due_s * 1e9), last_ns).astype(np.int64), ends
        size = CHUNK


def _gaps(stage: StagePlan, uniform: Floats) -> Floats:
    if stage.arrival == "poisson":
        gaps: Floats = -np.log1p(-uniform)
        return gaps
    # Only here: who starts hundreds of workers need not import it for the usual processes.
    from scipy.special import gammaincinv

    gamma: Floats = gammaincinv(stage.burstiness, uniform) / stage.burstiness
    return gamma


def _rescaled(stage: StagePlan, arrivals: Floats) -> Floats:
    """Seconds; what lies beyond the stage's end may be any time beyond it."""
    assert stage.rate is not None
    if stage.rate_to is None:
        return arrivals / stage.rate
    slope = (stage.rate_to - stage.rate) / stage.duration_s
    # Below 0 the ramp has come to nothing before: that is beyond the stage's end, too.
    root = np.sqrt(np.maximum(stage.rate**2 + 2 * slope * arrivals, 0.0))
    due_s: Floats = 2 * arrivals / (stage.rate + root)
    return due_s
