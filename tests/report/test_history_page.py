"""The page of a history: what is on it, in which order, and that it stays small."""

from __future__ import annotations

import numpy as np
import pytest

from harness.history.entry import Entry, Figure, Measure
from harness.history.runs import COLUMNS, Series, series_of
from harness.history.table import table_of
from harness.history.timelines import MOST_POINTS, timeline, timelines
from harness.report.history import history_page
from tests.history.factory import commit, started

MEASURE = Measure("ttft.p50", unit="s", effect_unit="ratio", gated=True)


def series(values: np.ndarray, *, name: str = "nightly", drivers: tuple[str, ...] = ("550",), bad: int = -1) -> Series:
    """A run a night; each driver has its share of the nights."""
    entries = [
        Entry(
            run=f"{name}{night}", name=f"night-{night}", started_utc=started(night), commit=commit(night),
            branch="main", verdict="promote", unfit="<b>it broke</b>" if night == bad else "",
            definition={"scenario": name}, fingerprint={"driver": drivers[night * len(drivers) // len(values)]},
            measures=(MEASURE,), figures=(Figure(float(value), 0.08, float(value) / 0.08),),
        )
        for night, value in enumerate(values)
    ]  # fmt: skip
    (found,) = series_of(table_of(entries, 1).select(COLUMNS))
    return found


def noisy(count: int, step_at: int | None = None, step: float = 1.1, seed: int = 1) -> np.ndarray:
    values = 0.08 * np.exp(0.03 * np.random.default_rng(seed).normal(size=count))
    if step_at is not None:
        values[step_at:] *= step
    return values


def test_a_change_has_its_commits_and_its_levels() -> None:
    line = timeline(series(noisy(60, 40)))
    curve = next(one for one in line.curves if one.of == "candidate")
    (shift,) = curve.shifts
    assert shift.direction == "worse"
    assert abs(shift.at - 40) <= 1
    assert shift.low <= 40 <= shift.high
    assert shift.change.after / shift.change.before == pytest.approx(1.1, abs=0.03)
    assert shift.until == commit(shift.high)[:10]
    assert shift.after == commit(shift.low - 1)[:10]
    assert [(begin, end) for begin, end, _ in curve.levels] == [(0, shift.at - 1), (shift.at, 59)]
    page = history_page([line])
    assert f"between {shift.after} and {shift.until}" in page
    assert "became" in page


def test_faster_is_better() -> None:
    (shift,) = timeline(series(noisy(60, 40, 1 / 1.15))).curves[0].shifts
    assert shift.direction == "better"


def test_nothing_is_compared_across_a_new_driver() -> None:
    line = timeline(series(noisy(60, 30, 1.3), drivers=("550", "555")))
    assert [span.changed for span in line.spans] == ["", "driver 550 -> 555"]
    assert all(curve.shifts == () for curve in line.curves)
    assert len(line.curves[0].levels) == 2
    page = history_page([line])
    assert "driver 550 -&gt; 555" in page
    assert "Nothing changed" in page


def test_machines_that_take_turns_have_a_track_each() -> None:
    values = noisy(60)
    values[1::2] *= 1.4
    entries = series(values, drivers=tuple("ab"[night % 2] for night in range(60)))
    assert [(track.begin, track.end) for track in entries.tracks] == [(0, 30), (30, 60)]
    assert all(curve.shifts == () for curve in timeline(entries).curves)


def test_a_run_that_does_not_count_is_hollow_and_moves_no_level() -> None:
    values = noisy(30)
    values[12] = 5.0
    line = timeline(series(values, bad=12))
    assert line.unfit == (("<b>it broke</b>", 1),)
    assert line.curves[0].hollow == ((12, 5.0),)
    assert all(value < 1 for _, value in line.curves[0].points)
    page = history_page([line])
    assert "&lt;b&gt;it broke&lt;/b&gt;" in page
    assert "<b>it broke" not in page


def test_what_became_worse_last_comes_first() -> None:
    lines = timelines([
        series(noisy(60), name="calm"),
        series(noisy(60, 20), name="old"),
        series(noisy(60, 45), name="new"),
    ])  # fmt: skip
    page = history_page(lines)
    rows = page[page.index("<tbody>") : page.index("</tbody>")]
    assert rows.index("new") < rows.index("old")
    assert "calm" not in rows


def test_many_runs_stay_a_small_page_and_no_peak_is_lost() -> None:
    values = noisy(5000)
    values[3210] = 0.5
    line = timeline(series(values))
    assert len(line.curves[0].points) <= MOST_POINTS + 1
    assert (3210, 0.5) in line.curves[0].points
    assert line.curves[0].points[-1][0] == 4999
    assert len(history_page([line])) < 300_000


def test_the_same_bytes_twice_and_what_is_missing_is_said() -> None:
    lines = [timeline(series(noisy(20)))]
    page = history_page(lines, ["h/0000001-x.parquet: is no whole Parquet file: the runs in it are missing here"])
    assert page == history_page(
        lines, ["h/0000001-x.parquet: is no whole Parquet file: the runs in it are missing here"]
    )
    assert "Some runs are missing here" in page
