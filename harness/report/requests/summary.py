"""What a page shows of requests: how many there were, and their times by arm, stage and short bin of time.

It is bounded: of a recording of many millions it is no larger than of one of two million (see `summing`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from harness.report.requests.spread import Floats, Ints, Spread
from harness.types import StagePlan

ARMS = ("baseline", "candidate", "stable")
METRICS = ("ttft", "tpot", "response_time", "request_latency", "icl")
ANSWERED, FAILED, SCORED, SCORING_FAILED = range(4)
"""What became of a request; the last two of requests that score answers."""


class Cell(NamedTuple):
    """`stage`: its index in the plan, -1 if run.json has no such stage. `bin`: in which it was sent, -1 if in none."""

    metric: str
    arm: str
    stage: int
    bin: int


class Points(NamedTuple):
    """Single requests, drawn at random from all of an arm: when they were sent, and their time (both seconds)."""

    at: Floats
    value: Floats


@dataclass(frozen=True)
class ErrorRow:
    arm: str
    status: str
    error: str
    code: str
    count: int
    share: float  # of this arm's requests
    first_s: float


@dataclass(frozen=True)
class Requests:
    """`rows`: all requests. `arms`: those that were asked anything. `edges`: of the bins (seconds), a list for each
    stage that began. `stages`: the indices that `by_stage` has rows for; its last row is of requests of no such stage.

    `by_stage` and `by_bin` count requests, of shape (ARMS, stages + 1 or bins, what became of it); `cells` has the
    times of answered requests that do not score. `exact`: every time is there as it was measured; otherwise each stands
    within 0.1 % of it. `errors`: failed requests by arm, status, class and code, most frequent first, scoring ones
    among them.
    """

    rows: int
    arms: tuple[str, ...]
    has_tokens: bool
    exact: bool
    edges: tuple[Floats, ...]
    stages: tuple[int, ...]
    by_stage: Ints
    by_bin: Ints
    cells: Mapping[Cell, Spread]
    points_of: Mapping[tuple[str, str], Points]
    errors: tuple[ErrorRow, ...]

    def __len__(self) -> int:
        return self.rows

    @property
    def metrics(self) -> tuple[str, ...]:
        """Those that any answered request has."""
        there = {cell.metric for cell in self.cells}
        return tuple(metric for metric in METRICS if metric in there)

    def count(self, arm: str, *what: int, stage: int | None = None) -> int:
        """How many requests of an arm, in one stage or in all, became `what` (ANSWERED ...; none given: whatever)."""
        mine = self.by_stage[ARMS.index(arm)]
        if stage is not None:
            mine = mine[[self.stages.index(stage)] if stage in self.stages else []]
        return int(mine[:, list(what) or slice(None)].sum())

    def counts(self, arm: str, *what: int) -> Ints:
        """The same by bin, all stages' bins one after the other, of when requests were sent."""
        return np.asarray(self.by_bin[ARMS.index(arm)][:, list(what) or slice(None)].sum(axis=1), np.int64)

    def times(self, metric: str, arm: str, stages: Collection[int] | None = None) -> Spread:
        """Of answered requests of an arm, in those stages or in all."""
        return Spread.of(
            spread
            for cell, spread in self.cells.items()
            if (cell.metric, cell.arm) == (metric, arm) and (stages is None or cell.stage in stages)
        )

    def over_time(self, metric: str, arm: str) -> list[Spread]:
        """The same for each bin, all stages' bins one after the other."""
        mine = [(cell.bin, spread) for cell, spread in self.cells.items() if (cell.metric, cell.arm) == (metric, arm)]
        found: list[list[Spread]] = [[] for _ in range(self.by_bin.shape[1])]
        for place, spread in mine:
            if place >= 0:
                found[place].append(spread)
        return [Spread.of(parts) for parts in found]

    def points(self, metric: str, arm: str) -> Points:
        """A few hundred at most, in order of time."""
        return self.points_of.get((metric, arm), Points(np.empty(0), np.empty(0)))


def equal_load(plans: Sequence[StagePlan]) -> tuple[tuple[int, ...] | None, str]:
    """The stages (None: all) in which the latencies of the arms may be compared, and a sentence that says which."""
    fair = [plan.index for plan in plans if plan.mode != "split" and plan.purpose == "compare"]
    if not fair:
        shares = {plan.index: plan.shares for plan in plans if plan.purpose == "compare"}
        fair = [index for index, of in shares.items() if of.get("baseline") == of.get("candidate")]
    if not plans:
        return None, "All requests that were answered."
    if not fair:
        return (
            None,
            "All answered requests. The arms never had equal load, so a difference need not be the build's.",
        )
    names = ", ".join(str(index + 1) for index in fair)
    word = "stage" if len(fair) == 1 else "stages"
    return tuple(fair), f"Answered requests of {word} {names}, where both arms had equal load."
