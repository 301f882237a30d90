"""What the page of a history shows: each series of runs, thinned to what a small chart can draw.

The axis of a series counts its runs from 0: first those of one fingerprint, in time, then those of the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.types.history import Change

Direction = Literal["worse", "better", "changed"]


@dataclass(frozen=True, slots=True)
class Span:
    """Runs `begin` to `end` (not included), of one fingerprint. `changed`: against the span before, "" of the first."""

    begin: int
    end: int
    fingerprint: str
    changed: str = ""


@dataclass(frozen=True, slots=True)
class Shift:
    """A change of level on the axis of the series: `at` the first run that has it, which is one of `low` to `high`.

    `after` and `until`: the commits, or the runs, between which it began; `began` and `found`: when that run started,
    and the one with which it could first be told.
    """

    change: Change
    direction: Direction
    at: int
    low: int
    high: int
    after: str
    until: str
    began: str
    found: str


@dataclass(frozen=True, slots=True)
class Curve:
    """One metric over the runs of a series. `of`: the candidate's own value, or its effect against the baseline.

    `points`: run and value, thinned; `hollow`: of runs that do not count. `levels`: from run, to run, value. `count`:
    how many runs measured it; `latest`: the last value that counts.
    """

    name: str
    of: Literal["candidate", "effect"]
    unit: str
    points: tuple[tuple[int, float], ...]
    hollow: tuple[tuple[int, float], ...]
    levels: tuple[tuple[int, int, float], ...]
    shifts: tuple[Shift, ...]
    count: int
    latest: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """One series. `first` and `last`: when its runs began; `ticks`: run and day; `unfit`: why how many do not count."""

    title: str
    words: str
    runs: int
    unfit: tuple[tuple[str, int], ...]
    first: str
    last: str
    spans: tuple[Span, ...]
    ticks: tuple[tuple[int, str], ...]
    curves: tuple[Curve, ...]
