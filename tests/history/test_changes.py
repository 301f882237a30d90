"""What a series of runs tells: changes where there are any, with place and size, and none where there are none."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from harness.history.changes import change_points, scale_of
from harness.history.scales import Floats
from harness.history.walking import LEAST, walk
from tests.campaigns.study_history.cells import followed
from tests.campaigns.study_history.tables import rate
from tests.campaigns.study_history.worlds import World, still, worlds

WITHDRAWN = 45
"""The seed of a history that looks changed after some runs, and no longer at its end."""


def noisy(seed: int, runs: int, noise: float = 0.03) -> Floats:
    return 100 * np.exp(noise * np.random.default_rng(seed).standard_normal(runs))


def stepped(seed: int, runs: int, at: int, step: float) -> Floats:
    values = noisy(seed, runs)
    values[at:] *= 1 + step
    return values


def test_a_change_has_its_place_its_levels_and_its_effect() -> None:
    (change,) = change_points(stepped(1, 60, 30, 0.20))
    assert (change.at, change.scale) == (30, "ratio")
    assert change.low <= 30 <= change.high
    assert 30 <= change.found <= 34
    assert change.before == pytest.approx(100, rel=0.03)
    assert change.after == pytest.approx(120, rel=0.03)
    assert change.effect == pytest.approx(change.after / change.before)
    assert change.interval[0] < change.effect < change.interval[1]
    assert change.p < 1e-6


def test_each_of_several_changes_is_told() -> None:
    values = noisy(2, 120)
    values[40:] *= 1.15
    values[80:] *= 0.8
    assert [change.at for change in change_points(values)] == [40, 80]
    assert [change.effect > 1 for change in change_points(values)] == [True, False]


@pytest.mark.parametrize(("runs", "step"), [(60, 0.1), (400, 0.03), (1200, 0.1)])
def test_what_is_told_after_a_run_depends_on_no_later_one(runs: int, step: float) -> None:
    series = np.log(stepped(runs, runs, runs // 2, step))
    alarms = walk(series, 0.001)
    assert alarms
    for until in {
        *np.linspace(LEAST, runs, 12).astype(int).tolist(),
        *(alarm.found + more for alarm in alarms for more in (0, 1)),
    }:
        assert walk(series[:until], 0.001) == [alarm for alarm in alarms if alarm.found < until]


@pytest.mark.parametrize("size", [0.3, 0.8, 1.2, 3.0, 1000.0])
def test_one_wild_run_is_no_change(size: float) -> None:
    for seed in range(100, 112):
        place = 1 + 7 * seed % 38
        values = noisy(seed, 40)
        calm = change_points(values)
        values[place] *= size
        assert calm == change_points(values) == ()
        flat = np.full(40, 7.0)
        flat[place] *= size
        assert walk(np.log(flat), 0.001) == []


def test_a_metric_that_never_moves_has_no_changes_and_a_step_of_it_is_found_at_once() -> None:
    flat = np.full(50, 12_345_678_901.0)
    assert change_points(flat) == ()
    flat[30:] *= 1.01
    (change,) = change_points(flat)
    assert (change.at, change.low, change.high) == (30, 30, 30)
    assert change.found <= 33
    assert change.effect == pytest.approx(1.01)


def test_there_is_no_answer_from_few_runs() -> None:
    values = np.array([1.0, 1, 1, 1, 2, 2, 2, 2])
    assert change_points(values[:7]) == ()
    assert change_points(np.array([])) == ()
    assert change_points(np.full(20, np.nan)) == ()
    assert [change.at for change in change_points(values)] == [4]


def test_a_change_may_have_begun_in_a_run_that_was_not_measured() -> None:
    values = stepped(3, 80, 40, 0.2)
    values[34:40] = np.nan
    values[70] = np.inf
    (change,) = change_points(values)
    assert (change.at, change.low, change.high) == (40, 34, 40)
    assert 40 <= change.found <= 46


def test_unit_and_size_of_the_values_do_not_matter() -> None:
    values = stepped(4, 60, 25, 0.1)
    seconds, milliseconds = change_points(values), change_points(values * 1000)
    assert [(one.at, one.low, one.high, one.found) for one in seconds] == [
        (one.at, one.low, one.high, one.found) for one in milliseconds
    ]
    assert milliseconds[0].effect == pytest.approx(seconds[0].effect)


def test_how_values_are_compared() -> None:
    assert scale_of("s", np.array([0.1, np.nan, 3.0])) == "ratio"
    assert scale_of("s", np.array([0.0, 3.0])) == "difference"
    assert scale_of("pp", np.array([0.0, 0.3])) == "share"
    assert scale_of("pp", np.array([-0.1, 0.3])) == "difference"
    assert scale_of("", np.array([])) == "difference"


def test_shares_are_compared_by_points_and_failures_now_and_then_are_no_change() -> None:
    rng = np.random.default_rng(5)
    shares = rng.binomial(1000, 0.001, 60) / 1000
    assert change_points(shares, scale="share") == ()
    shares[40:] = rng.binomial(1000, 0.02, 20) / 1000
    (change,) = change_points(shares, scale="share")
    assert abs(change.at - 40) <= 1
    assert change.effect == pytest.approx(0.02, abs=0.006)
    assert change.interval[0] > 0.005


def test_values_below_zero_are_compared_by_difference() -> None:
    values = np.random.default_rng(6).normal(-1.0, 0.1, 60)
    values[30:] += 0.5
    (change,) = change_points(values)
    assert (change.at, change.scale) == (30, "difference")
    assert change.effect == pytest.approx(0.5, abs=0.1)


def test_a_false_alarm_is_withdrawn_when_later_runs_do_not_bear_it_out() -> None:
    values = noisy(WITHDRAWN, 120)
    (alarm,) = walk(np.log(values), 0.001)
    assert [change.found for change in change_points(values[: alarm.found + 1])] == [alarm.found]
    assert change_points(values) == ()


def test_the_way_back_is_a_change_too() -> None:
    values = noisy(7, 60)
    values[30:40] *= 1.2
    assert [change.at for change in change_points(values)] == [30, 40]


def test_long_histories_take_time_in_proportion() -> None:
    values = noisy(8, 20_000)
    values[10_000:] *= 1.03
    assert any(abs(change.at - 10_000) < 30 for change in change_points(values))


@pytest.mark.parametrize(
    ("world", "column", "least", "most"),
    [
        ("no change", "false", 0.0, 0.05),
        ("+10 %", "hit", 0.91, 1.0),
        ("+10 %", "exact", 0.74, 1.0),
        ("+5 %", "hit", 0.72, 1.0),
        ("+5 %", "near", 0.62, 1.0),
        ("+5 %", "covered at the end", 0.90, 1.0),
    ],
)
def test_the_promised_rates(world: str, column: str, least: float, most: float) -> None:
    """150 histories each; the limits lie some three standard errors beyond the promises."""
    value = rate(histories(world), column)
    assert value is not None
    assert least <= value <= most


@cache
def histories(name: str) -> list[dict[str, object]]:
    (world,) = (one for one in worlds() if one.name == name)
    return [followed(world, seed) for seed in range(150)]


def test_intervals_hold_the_true_effect() -> None:
    inside = 0
    for seed in range(100):
        (change,) = change_points(stepped(seed, 60, 30, 0.2))[:1]
        inside += change.interval[0] <= 1.2 <= change.interval[1]
    assert inside >= 88


def test_a_world_has_its_step_where_it_says() -> None:
    values, at = World("flat", 0.5, 5, noise=still).draw(1)
    assert 15 <= at <= 45
    assert values[at - 1] == pytest.approx(100)
    assert values[at] == pytest.approx(150)
