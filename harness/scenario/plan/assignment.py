"""Who goes where. Random, but balanced in blocks: independent draws would leave a 10 % arm without a request in 12 % of
all stages of 20; here an arm that expects a request gets one.

    paired        both arms get every prompt; which one is sent first is balanced in random blocks of 4
    interleaved   random blocks of 4, two requests to each arm
    sequential    each of its periods has one arm
    split         random blocks of 1/share requests (10 at least), each holding every arm's part of them. Parts are
                  rounded so that what the candidate (and in a split of three the baseline) got by the end of a block is
                  off by less than one; what is left, and with it the rounding, goes to the baseline of two arms or the
                  stable one of three
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from harness.scenario.plan.arrivals import expected
from harness.scenario.plan.draws import Draws, Ints, ranks
from harness.types import ArmName, StagePlan

Picks = NDArray[np.int8]
"""For each request an index into `ways`."""

_BLOCK = 4
_LONGEST_BLOCK = 1 << 16
_NOTHING = 1e-9
_FIRST, _SECOND, _REST = 0, 1, 2


def ways(stage: StagePlan) -> tuple[tuple[ArmName, ...], ...]:
    """The arms of a request, by pick."""
    if stage.mode == "paired":
        return ("baseline", "candidate"), ("candidate", "baseline")
    if stage.together > 1:
        itself: list[ArmName] = ["baseline"] * stage.together
        return (tuple(itself),)
    return ("baseline",), ("candidate",), ("stable",)


def block_size(stage: StagePlan) -> int:
    """Requests in which the rarest arm gets at least one."""
    if stage.mode != "split":
        return _BLOCK
    rarest = min(stage.shares.values())
    return 1 if rarest >= 1 - _NOTHING else min(max(10, math.ceil(1 / rarest - 1e-9)), _LONGEST_BLOCK)


class Assignment:
    """`take(n, ends)`: the picks of the next n requests; `ends` where these are the stage's last."""

    def __init__(self, stage: StagePlan, seed: int) -> None:
        self._stage = stage
        self._draws = Draws(seed, stage.index, "arms")
        self._size = block_size(stage)
        self._shares = stage.shares
        self._offset = float(self._draws(1)[0])
        # A split of two needs no second one: its plan is the same as ever.
        self._second_offset = float(self._draws(1)[0]) if "stable" in self._shares else 0.0
        self._waiting: Picks = np.empty(0, dtype=np.int8)
        self._blocks = 0

    def take(self, count: int, ends: bool) -> Picks:
        if len(self._shares) == 1:
            return np.full(count, _SECOND if "candidate" in self._shares else _FIRST, dtype=np.int8)
        if ends and self._blocks == 0 and 0 < count < self._size and self._stage.mode == "split":
            return self._only_block(count)
        if len(self._waiting) < count:
            self._waiting = np.concatenate((self._waiting, self._next(count - len(self._waiting))))
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken

    def _next(self, count: int) -> Picks:
        """Whole blocks with `count` picks or more."""
        size, blocks = self._size, max(1, -(-count // self._size))
        order = ranks(self._draws(blocks * size).reshape(blocks, size))
        candidates = self._part("candidate", self._offset, blocks)
        rest: Ints | int = size
        if "stable" in self._shares:
            rest = candidates + self._part("baseline", self._second_offset, blocks)
        self._blocks += blocks
        return _dealt(order, candidates, rest).ravel()

    def _part(self, arm: ArmName, offset: float, blocks: int) -> Ints:
        """How many of each block go to the arm, as a column."""
        ends = np.arange(self._blocks, self._blocks + blocks + 1)
        part = np.diff(np.floor(ends * (self._size * self._shares.get(arm, 0.0)) + offset)).astype(np.int64)
        return part[:, None]

    def _only_block(self, count: int) -> Picks:
        """The picks of a stage that ends within its first block: each arm that expects a request gets one."""
        whole = expected(self._stage)
        parts = {arm: round(count * share) for arm, share in self._shares.items()}
        for arm, share in self._shares.items():
            if whole * share >= 1 - _NOTHING:
                parts[arm] = max(parts[arm], 1)
        # Rarest first: it keeps its one where the stage came out shorter than expected.
        left = count
        for arm in sorted(parts, key=lambda arm: (self._shares[arm], arm != "candidate")):
            parts[arm] = min(parts[arm], left)
            left -= parts[arm]
        parts["stable" if "stable" in parts else "baseline"] += left
        candidates, baselines = parts.get("candidate", 0), parts.get("baseline", 0)
        order = ranks(self._draws(count))
        return _dealt(order, candidates, candidates + baselines if "stable" in parts else count)


def _dealt(order: NDArray[np.intp], candidates: Ints | int, rest: Ints | int) -> Picks:
    """The first places in the random order are the candidate's, those from `rest` on the stable arm's."""
    return np.where(order < candidates, _SECOND, np.where(order < rest, _FIRST, _REST)).astype(np.int8)
