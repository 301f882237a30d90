"""The rows of a history as series: runs that measure the same thing, in order, as arrays. Pure.

Within a series, runs of one fingerprint are a track: one machine and its software. Tracks follow each other in the
order in which they began, so that machines that take turns do not chop the series into pieces.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from harness.errors import RecordingError
from harness.history.arrow import codes, numbers, rows, rows_with
from harness.history.entry import Measure, measures_of
from harness.history.fingerprint import without

Floats = npt.NDArray[np.float64]
COLUMNS = (
    "run", "name", "started_utc", "commit", "branch", "unfit", "series", "definition", "fingerprint", "measures",
    "value", "effect",
)  # fmt: skip
"""What is read of a history to make series of it."""


@dataclass(frozen=True)
class Track:
    """Runs `begin` to `end` (not included) of a series, of one fingerprint."""

    begin: int
    end: int
    fingerprint: Mapping[str, str]


@dataclass(frozen=True)
class Series:
    """One entry a run in `fit` (whether it counts), one row a run and one column a measure in `values` (the
    candidate's) and `effects` (against the baseline); NaN where a run did not measure it. `said`: the texts of a run.
    """

    key: str
    definition: Mapping[str, Any]
    said: pa.Table
    fit: npt.NDArray[np.bool_]
    tracks: tuple[Track, ...]
    measures: tuple[Measure, ...]
    values: Floats
    effects: Floats

    def __len__(self) -> int:
        return len(self.fit)

    def text(self, column: str, run: int) -> str:
        """`run`, `name`, `started_utc`, `commit`, or `unfit` (why it does not count) of one run."""
        return str(self.said[column][run].as_py())


def series_of(table: pa.Table, *, ignored: Collection[str] = (), branch: str = "") -> tuple[Series, ...]:
    """All series of a table with COLUMNS, the one with the newest run first.

    `ignored`: parts of the fingerprint that part no tracks. `branch`: only its runs, "" for all.
    Raises RecordingError where a row is not as it should be.
    """
    if branch:
        table = rows_with(table, "branch", branch)
    ordered = table.sort_by([("started_utc", "ascending"), ("run", "ascending")])
    of_row, keys = codes(ordered["series"])
    try:
        found = [_series(rows(ordered, np.flatnonzero(of_row == code)), ignored) for code in range(len(keys))]
    except (ValueError, TypeError, pa.ArrowException) as error:
        raise RecordingError(f"a row of the history is damaged: {error}") from error
    return tuple(sorted(found, key=lambda one: str(pc.max(one.said["started_utc"])), reverse=True))


def _series(mine: pa.Table, ignored: Collection[str]) -> Series:
    of_row, written = codes(mine["fingerprint"])
    kept = [json.dumps(without(json.loads(text), ignored), sort_keys=True) for text in written]
    # By the first run of each: codes number texts in the order in which they appear.
    distinct = list(dict.fromkeys(kept))
    track = np.asarray([distinct.index(text) for text in kept])[of_row]
    order = np.argsort(track, kind="stable")
    cuts = np.searchsorted(track[order], np.arange(len(distinct) + 1))
    ordered = rows(mine, order)
    measures, values, effects = _figures(ordered)
    reasons, why = codes(ordered["unfit"])
    fit = np.asarray([not text for text in why])
    return Series(
        key=str(ordered["series"][0].as_py()),
        definition=json.loads(ordered["definition"][len(ordered) - 1].as_py()),
        said=ordered.select(["run", "name", "started_utc", "commit", "unfit"]),
        fit=fit[reasons],
        tracks=tuple(
            Track(int(begin), int(end), json.loads(text))
            for text, (begin, end) in zip(distinct, pairwise(cuts), strict=True)
        ),
        measures=measures,
        values=values,
        effects=effects,
    )


def _figures(ordered: pa.Table) -> tuple[tuple[Measure, ...], Floats, Floats]:
    """Runs that measured the same are read at once, however many there are."""
    of_row, written = codes(ordered["measures"])
    of_text = [measures_of(text) for text in written]
    # What is told again with another margin or unit of its effect is still the same measure: the newest one names it.
    known = {(one.metric, one.stage): one for measures in of_text for one in measures}
    column = {key: place for place, key in enumerate(known)}
    values = np.full((len(ordered), len(known)), np.nan)
    effects = values.copy()
    for code, measures in enumerate(of_text):
        here = np.flatnonzero(of_row == code)
        columns = [column[one.metric, one.stage] for one in measures]
        if columns:
            some = rows(ordered, here)
            values[here[:, None], columns] = _matrix(some["value"], len(columns))
            effects[here[:, None], columns] = _matrix(some["effect"], len(columns))
    return tuple(known.values()), values, effects


def _matrix(lists: pa.ChunkedArray, width: int) -> Floats:
    flat = numbers(pc.list_flatten(lists))
    return np.asarray(flat.reshape(len(lists), width), np.float64)
