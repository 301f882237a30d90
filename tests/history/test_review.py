"""A run against its history: what decides, and that nothing that is 0 hides the answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.history.entry import Entry, Figure, Measure
from harness.history.review import Review, review
from harness.history.runs import COLUMNS, series_of
from harness.history.table import table_of
from tests.history.factory import commit, started

STRAYS = Measure("traffic.strays", unit="1", gated=True)
TIME = Measure("ttft.p50", unit="s", effect_unit="ratio", gated=True)


def night(number: int, measure: Measure, value: float) -> Entry:
    effect = value / 0.08 if measure.effect_unit else float("nan")
    return Entry(
        run=f"r{number:04d}", name=f"night-{number}", started_utc=started(number), commit=commit(number), branch="main",
        verdict="promote", unfit="", definition={"scenario": "nightly"}, fingerprint={"cpu": "EPYC"},
        measures=(measure,), figures=(Figure(value, 0.08, effect),),
    )  # fmt: skip


def told(measure: Measure, before: list[float], *now: float, alpha: float = 0.01) -> Review:
    entries = [night(number, measure, value) for number, value in enumerate(before)]
    (series,) = series_of(table_of(entries, 1).select(COLUMNS))
    runs = [replace(night(len(before) + at, measure, value), commit="now") for at, value in enumerate(now)]
    return review(runs, series, smallest=0.05, points=0.01, alpha=alpha)


def test_a_run_is_not_held_against_itself() -> None:
    entries = [night(number, TIME, 0.08) for number in range(9)]
    (series,) = series_of(table_of(entries, 1).select(COLUMNS))
    assert review([entries[8]], series, smallest=0.05, points=0.01, alpha=0.01).runs == 8


def test_runs_of_another_branch_are_left_out_and_those_of_one_second_have_one_order() -> None:
    entries = [
        replace(night(number, TIME, 0.08), branch="ab"[number % 2], started_utc=started(0)) for number in range(6)
    ]
    (both,) = series_of(table_of(entries, 1).select(COLUMNS))
    (again,) = series_of(table_of(entries[::-1], 1).select(COLUMNS))
    (one,) = series_of(table_of(entries, 1).select(COLUMNS), branch="a")
    assert [both.text("run", at) for at in range(6)] == [again.text("run", at) for at in range(6)]
    assert [one.text("run", at) for at in range(len(one))] == ["r0000", "r0002", "r0004"]
    assert series_of(table_of(entries, 1).select(COLUMNS), branch="c") == ()


@pytest.mark.parametrize(("now", "decision"), [(0.0, "promote"), (1.0, "rollback"), (1e-12, "promote")])
def test_what_was_always_nothing(now: float, decision: str) -> None:
    """Requests that strayed, say: none is as before, one is one too many, and what rounds to none is none."""
    assert told(STRAYS, [0.0] * 20, now).verdict.verdict == decision


def test_a_repeat_without_a_baseline_is_a_repeat_all_the_same() -> None:
    random = np.random.default_rng(1)
    before = list(0.08 * np.exp(0.01 * random.normal(size=20)))
    entries = [night(number, TIME, value) for number, value in enumerate(before)]
    (series,) = series_of(table_of(entries, 1).select(COLUMNS))
    bare = night(31, replace(TIME, effect_unit="", gated=False), 0.08)
    runs = [replace(one, commit="now") for one in (night(30, TIME, 0.08), bare)]
    found = review(runs, series, smallest=0.05, points=0.01, alpha=0.01).verdict.stages[0].findings
    assert [one.n_candidate for one in found if one.metric == "ttft.p50"] == [2]


def test_one_slow_day_is_no_lasting_change_however_often_it_is_repeated() -> None:
    """Repeats of one run share what the day was like: they are one run in a series."""
    before = list(0.08 * np.exp(0.03 * np.random.default_rng(2).normal(size=30)))
    found = told(TIME, before, *[0.09] * 6, alpha=1e-9)
    assert found.verdict.verdict != "rollback"
    assert not any("lasted" in one.reason for one in found.verdict.stages[0].findings)


def test_what_lasts_and_is_better_or_too_small_turns_nothing_red() -> None:
    random = np.random.default_rng(3)
    for step in (0.9, 1.03):
        values = 0.08 * np.exp(0.005 * random.normal(size=40))
        values[30:] *= step
        for until in range(31, 40):
            found = told(TIME, list(values[:until]), values[until])
            assert found.verdict.verdict != "rollback", (step, until)
