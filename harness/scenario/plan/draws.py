"""Uniform numbers that a seed fixes for good.

Only raw 64-bit draws of PCG64 are used, seeded by (seed, stage, purpose): numpy guarantees those across its versions,
which it does not for its distributions. Each purpose has a stream of its own, so that another rate leaves arms and
prompts as they were.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.types import StagePlan

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_PERIODS = 1 << 20  # beyond the index of any stage
_STREAMS = {"due": 0, "arms": 1, "prompts": 2, "units": 3}


def stream(stage: StagePlan) -> int:
    """The number with which a stage draws: its own. A sequential stage's periods go two by two, one of each arm: both
    get the same arrivals and prompts, so that what is left between them is the arms' difference.
    """
    return _PERIODS + (stage.period + 1) // 2 if stage.period else stage.index


class Draws:
    """`draws(n)`: the next n numbers of the stream, in [0, 1), multiples of 2^-53."""

    def __init__(self, seed: int, stage: int, purpose: Literal["due", "arms", "prompts", "units"]) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence([seed, stage, _STREAMS[purpose]]))

    def __call__(self, count: int) -> Floats:
        raw = self._bits.random_raw(count)
        return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53


def ranks(values: Floats) -> NDArray[np.intp]:
    """The place of each value among those of its row (the last axis): a random order, from random values."""
    return values.argsort(axis=-1, kind="stable").argsort(axis=-1, kind="stable")
