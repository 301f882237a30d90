"""Context by batch: fits, tight, does not, or unverified. Pure.

A cell is verified by a measurement of its own, or by one that it follows from: what runs at more also runs at less, and
what runs out of memory at less also does at more. Nothing is verified by the fit: where nothing was measured a cell
says "unverified", and what the fit foretells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from harness.judge.operations.long_fits import SHORT, LongFits, limit_share, long_fits, proven, share_of

Facts = Mapping[str, Any]
Answer = Literal["fits", "tight", "does not", "unverified"]


@dataclass(frozen=True, slots=True)
class Cell:
    """`measured`: by itself; else it follows from another, or is unverified. `share`: of the capacity, measured at the
    peak; `foretold`: the upper prediction bound. tight: it ran, but nearer to the end than the limit allows.
    """

    context: int
    batch: int
    answer: Answer
    measured: bool
    share: float | None
    foretold: float | None


def long_table(observations: Facts, name: str) -> tuple[Cell, ...]:
    """By rising context, then batch."""
    fits = long_fits(observations, name)
    points = observations["arms"][name]["points"]
    goal = observations["goal"]
    contexts = sorted({*observations["contexts"], goal["context"]})
    batches = sorted({*observations["batches"], goal["batch"], *(point["batch"] for point in points)})
    return tuple(_cell(observations, name, fits, context, batch) for context in contexts for batch in batches)


def largest_safe(cells: Sequence[Cell], context: int) -> int | None:
    """The largest batch of a context that is verified to fit; None where none is."""
    return max((cell.batch for cell in cells if cell.context == context and cell.answer == "fits"), default=None)


def _cell(observations: Facts, name: str, fits: LongFits, context: int, batch: int) -> Cell:
    arm, limit = observations["arms"][name], limit_share(observations, name)
    points: Sequence[Facts] = arm["points"]
    foretold = fits.upper(context, batch) if fits.known else None
    own = [point for point in points if point["context"] == context and point["batch"] == batch]
    if any(point["outcome"] in SHORT for point in own):
        return Cell(context, batch, "does not", True, None, foretold)
    ran = [share for point in own if proven(point) >= context and (share := share_of(arm, point)) is not None]
    if ran:
        return Cell(context, batch, "fits" if max(ran) <= limit else "tight", True, max(ran), foretold)
    if any(point["outcome"] in SHORT and point["context"] <= context and point["batch"] <= batch for point in points):
        return Cell(context, batch, "does not", False, None, foretold)
    larger = [
        share
        for point in points
        if proven(point) >= context and point["batch"] >= batch
        and (share := share_of(arm, point)) is not None
    ]  # fmt: skip
    if larger and min(larger) <= limit:
        return Cell(context, batch, "fits", False, None, foretold)
    return Cell(context, batch, "unverified", False, None, foretold)
