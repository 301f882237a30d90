"""What a series of runs says: where it changed, and from what to what. Indices count the runs given, oldest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Worse = Literal["higher", "lower", "either"]
Scale = Literal["ratio", "share", "difference"]
"""How values are compared. ratio: positive ones (times, rates, bytes) by their quotient; share: fractions from 0 to 1
by percentage points; difference: any others by their difference."""


@dataclass(frozen=True, slots=True)
class Change:
    """One lasting change of level.

    `at`: index of the first run that has it, by the most likely place; with 95 % one of `low` to `high` is the first
    that has it, so the commits to look at are those after run `low - 1` and up to run `high`. `found`: index of the run
    after which it could first be told. `before`, `after`: the two levels, in the metric's unit. `effect` and its 95 %
    `interval` are after / before where `scale` is "ratio", else after - before. `p`: an upper bound of the chance that
    60 runs without any change show one as clear.
    """

    at: int
    low: int
    high: int
    found: int
    before: float
    after: float
    effect: float
    interval: tuple[float, float]
    p: float
    scale: Scale = "ratio"
