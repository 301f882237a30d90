"""Single requests for the points of a figure: a random few of each arm, the same ones for the same file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from harness.report.requests.reading import TIMES, Piece
from harness.report.requests.spread import Floats
from harness.report.requests.summary import ARMS, Points

POINTS = 300  # of an arm
_Numbers = npt.NDArray[np.uint64]


class Sampler:
    """Keeps the POINTS answered requests of each arm whose row's number has the least hash, which is a uniform draw
    without replacement (bottom-k sampling), in one pass and constant memory.
    """

    def __init__(self) -> None:
        self._row = 0
        self._kept: list[tuple[_Numbers, Floats]] = [
            (np.empty(0, np.uint64), np.empty((1 + len(TIMES), 0))) for _ in ARMS
        ]

    def add(self, piece: Piece) -> None:
        rank = _hash(np.arange(self._row, self._row + len(piece), dtype=np.uint64))
        self._row += len(piece)
        usable = ~np.isnan(piece.times).all(axis=0) & (piece.at_ns >= 0)
        for arm, (ranks, rows) in enumerate(self._kept):
            below = rank <= ranks[-1] if len(ranks) == POINTS else True
            new = np.flatnonzero(usable & (piece.arm == arm) & below)
            if not len(new):
                continue
            ranks = np.concatenate([ranks, rank[new]])
            rows = np.concatenate([rows, np.vstack([piece.at_ns[new], piece.times[:, new]])], axis=1)
            order = np.argsort(ranks)[:POINTS]
            self._kept[arm] = ranks[order], rows[:, order]

    def points(self) -> Mapping[tuple[str, str], Points]:
        """By metric and arm, in order of time."""
        found = {}
        for arm, (_, rows) in zip(ARMS, self._kept, strict=True):
            rows = rows[:, np.argsort(rows[0], kind="stable")] * 1e-9
            for metric, value in zip(TIMES, rows[1:], strict=True):
                known = ~np.isnan(value)
                if known.any():
                    found[metric, arm] = Points(rows[0][known], value[known])
        return found


def _hash(numbers: _Numbers) -> _Numbers:
    """SplitMix64's finish (Steele, Lea and Flood, OOPSLA 2014): a permutation, so no two numbers have the same."""
    mixed = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)), np.uint64)
