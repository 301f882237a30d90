"""Series to what their page shows: levels, changes with the commits they began between, and fewer points. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from harness.history.changes import change_points, scale_of
from harness.history.entry import Measure
from harness.history.fingerprint import changed, in_words
from harness.history.runs import Floats, Series, Track
from harness.history.series import in_words as measured_in_words
from harness.types.history import Change
from harness.types.timeline import Curve, Direction, Shift, Span, Timeline

MOST_POINTS = 400
_MOST_HOLLOW = 100
_MOST_REASONS = 5
_TICKS = 3

Ints = npt.NDArray[np.int64]
Of = Literal["candidate", "effect"]


def timelines(all_series: Sequence[Series]) -> tuple[Timeline, ...]:
    return tuple(timeline(one) for one in all_series)


def timeline(series: Series) -> Timeline:
    curves = []
    for column, measure in enumerate(series.measures):
        curves.append(_curve(series, measure, "candidate", series.values[:, column]))
        if measure.effect_unit and np.isfinite(series.effects[:, column]).any():
            curves.append(_curve(series, measure, "effect", series.effects[:, column]))
    reasons = Counter(series.text("unfit", run) for run in np.flatnonzero(~series.fit))
    began = pc.min_max(series.said["started_utc"])
    return Timeline(
        title=str(series.definition.get("scenario", "")),
        words=measured_in_words(series.definition),
        runs=len(series),
        unfit=tuple(reasons.most_common(_MOST_REASONS)),
        first=began["min"].as_py(),
        last=began["max"].as_py(),
        spans=tuple(_spans(series.tracks)),
        ticks=_ticks(series),
        curves=tuple(curves),
    )


def unit_of(measure: Measure, of: Of) -> str:
    return measure.unit if of == "candidate" else measure.effect_unit


def direction(measure: Measure, change: Change) -> Direction:
    """Whether the new level is worse, by what the metric is."""
    if measure.worse == "either":
        return "changed"
    return "worse" if (change.after > change.before) == (measure.worse == "higher") else "better"


def _spans(tracks: Sequence[Track]) -> list[Span]:
    found: list[Span] = []
    for number, track in enumerate(tracks):
        told = changed(tracks[number - 1].fingerprint, track.fingerprint) if number else ""
        found.append(Span(track.begin, track.end, in_words(track.fingerprint), told))
    return found


def _curve(series: Series, measure: Measure, of: Of, values: Floats) -> Curve:
    unit = unit_of(measure, of)
    counted = np.where(series.fit, values, np.nan)
    scale = scale_of(unit, counted[np.isfinite(counted)])
    levels: list[tuple[int, int, float]] = []
    shifts: list[Shift] = []
    for track in series.tracks:
        runs = track.begin + np.flatnonzero(np.isfinite(counted[track.begin : track.end]))
        found = change_points(counted[runs], scale=scale)
        shifts += [shift_of(series, measure, change, runs) for change in found]
        levels += _levels(counted[runs], found, runs, track)
    known = np.flatnonzero(np.isfinite(counted))
    hollow = np.flatnonzero(~series.fit & np.isfinite(values))
    return Curve(
        name=measure.name,
        of=of,
        unit=unit,
        points=tuple((int(run), float(values[run])) for run in thinned(known, values)),
        hollow=tuple((int(run), float(values[run])) for run in hollow[-_MOST_HOLLOW:]),
        levels=tuple(levels),
        shifts=tuple(shifts),
        count=len(known),
        latest=float(values[known[-1]]) if len(known) else float("nan"),
    )


def _levels(known: Floats, changes: Sequence[Change], runs: Ints, track: Track) -> list[tuple[int, int, float]]:
    """The level of each segment: as its changes have it, else the median."""
    if not len(known):
        return []
    heights = [changes[0].before, *(change.after for change in changes)] if changes else [float(np.median(known))]
    cuts = [track.begin, *(int(runs[change.at]) for change in changes), track.end]
    return [(cuts[place], cuts[place + 1] - 1, height) for place, height in enumerate(heights)]


def shift_of(series: Series, measure: Measure, change: Change, runs: Ints) -> Shift:
    """`runs`: of the values in which the change was found, their places in the series; each of them was measured."""
    at, until = int(runs[change.at]), int(runs[change.high])
    return Shift(
        change=change,
        direction=direction(measure, change),
        at=at,
        low=int(runs[change.low]),
        high=until,
        after=called(series, int(runs[max(change.low - 1, 0)])),
        until=called(series, until),
        began=series.text("started_utc", at),
        found=series.text("started_utc", int(runs[change.found])),
    )


def called(series: Series, run: int) -> str:
    """A run's commit, short; its name where nobody said of which commit it was."""
    return short(series.text("commit", run)) or series.text("name", run)


def short(commit: str) -> str:
    """Ten letters, and whether files were changed in it. "" of none."""
    head, dirty, _ = commit.partition("-dirty")
    return f"{head[:10]}{dirty}"


def _ticks(series: Series) -> tuple[tuple[int, str], ...]:
    runs = np.unique(np.linspace(0, len(series) - 1, _TICKS).round().astype(int))
    return tuple((int(run), series.text("started_utc", run)[:10]) for run in runs)


def thinned(runs: Ints, values: Floats) -> Ints:
    """At most MOST_POINTS of `runs`: of each stretch the lowest and the highest, and always the last one."""
    if len(runs) <= MOST_POINTS:
        return runs
    edges = np.linspace(0, len(runs), MOST_POINTS // 2).astype(int)
    kept = [int(runs[-1])]
    for begin, end in pairwise(edges):
        stretch = values[runs[begin:end]]
        kept += [int(runs[begin + stretch.argmin()]), int(runs[begin + stretch.argmax()])]
    return np.unique(np.asarray(kept, np.int64))
