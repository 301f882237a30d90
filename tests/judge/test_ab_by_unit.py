"""Intervals that resample units: how often they hold the truth, where those that resample requests do not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from harness.judge.operations.ab import by_unit
from harness.judge.operations.ab.by_unit import Effect, Side, difference, enough, ratio, side
from harness.judge.statistics import resample

World = Callable[[np.random.Generator], tuple[Side, Side]]

REPEATS = 200
LEAST = 0.90
"""Of what holds with 95 %, fewer of 200 are beyond chance (1 in 1,000)."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough resamples for a coverage; a verdict has five times as many."""
    monkeypatch.setattr(resample, "RESAMPLES", 400)


def users(rng: np.random.Generator, heavy: str, units: int = 200, requests: int = 2000) -> tuple[np.ndarray, ...]:
    """Whose each request is, and of each user the arm, and a habit that makes all of its requests slow or fast."""
    weight = {
        "even": np.ones(units),
        "zipf": 1 / np.arange(1, units + 1),  # the first alone sends a sixth of all
        "pareto": rng.pareto(1.5, units) + 0.1,
    }[heavy]
    unit = rng.choice(units, requests, p=weight / weight.sum())
    return unit, rng.random(units) < 0.5, rng.normal(0, 0.4, units)


def times(heavy: str, by_request: bool = False) -> World:
    """B is as fast as A. `by_request`: as if each request were a user of its own."""

    def make(rng: np.random.Generator) -> tuple[Side, Side]:
        unit, in_b, habit = users(rng, heavy)
        took = np.exp(habit[unit] + rng.normal(0, 0.3, len(unit)))
        whose = np.arange(len(unit)) if by_request else unit
        a, b = (side(took[in_b[unit] == arm], whose[in_b[unit] == arm], 1, arm) for arm in (False, True))
        return a, b

    return make


def coverage(world: World, measure: Callable[[Side, Side, int], Effect | None], truth: float) -> float:
    held = 0
    for repeat in range(REPEATS):
        found = measure(*world(np.random.default_rng([11, repeat])), repeat)
        assert found is not None
        held += found.low <= truth <= found.high
    return held / REPEATS


@pytest.mark.parametrize("heavy", ["even", "zipf", "pareto"])
@pytest.mark.parametrize("quantile", [None, 0.5, pytest.param(0.9, marks=pytest.mark.slow)])
def test_a_ratio_is_covered_however_heavy_some_users_are(heavy: str, quantile: float | None) -> None:
    assert coverage(times(heavy), lambda a, b, seed: ratio(a, b, quantile, 0.05, seed), 1.0) >= LEAST


@pytest.mark.parametrize("heavy", ["even", "zipf"])
def test_an_interval_by_request_is_wrong(heavy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is nominally 95 % holds in about half of all experiments, and in a fifth where some users are heavy."""
    monkeypatch.setattr(by_unit, "MOST_UNITS", 200)  # as good for requests of one value each, and quicker
    found = coverage(times(heavy, by_request=True), lambda a, b, seed: ratio(a, b, None, 0.05, seed), 1.0)
    assert found < (0.75 if heavy == "even" else 0.5)


def test_the_textbook_test_by_request_cries_wolf() -> None:
    """Welch's t-test on requests finds a difference between two arms that are one in far more than 5 %."""
    wrong = 0
    for repeat in range(REPEATS):
        a, b = times("even")(np.random.default_rng([13, repeat]))
        wrong += stats.ttest_ind(a.values, b.values, equal_var=False).pvalue < 0.05
    assert wrong > 0.25 * REPEATS


def test_an_interval_is_no_wider_than_it_has_to_be() -> None:
    """Of users who are alike and as active: about that of the requests, which then tell all that there is."""
    rng = np.random.default_rng(3)
    took, unit = np.exp(rng.normal(0, 0.3, 8000)), rng.integers(0, 800, 8000)
    a, b = (side(took[unit % 2 == arm], unit[unit % 2 == arm], 1, arm) for arm in (0, 1))
    found = ratio(a, b, None, 0.05, 1)
    assert found is not None
    by_hand = 2 * 1.96 * 0.307 * np.sqrt(2 / 4000)
    assert np.log(found.high / found.low) == pytest.approx(by_hand, rel=0.15)


def test_a_true_difference_is_covered_too() -> None:
    def slower(rng: np.random.Generator) -> tuple[Side, Side]:
        a, b = times("zipf")(rng)
        return a, Side(b.values * 1.4, b.start, b.units)

    assert coverage(slower, lambda a, b, seed: ratio(a, b, 0.5, 0.05, seed), 1.4) >= LEAST


def failing(rate: float, doomed: float, units: int = 200, more: float = 0.0) -> World:
    """Requests that fail by chance, and users all of whose requests do; `more`: of B."""

    def make(rng: np.random.Generator) -> tuple[Side, Side]:
        unit, in_b, _ = users(rng, "even", units, 10 * units)
        lost = rng.random(units) < doomed
        share = np.where(in_b[unit], rate + more, rate)
        values = (lost[unit] | (rng.random(len(unit)) < share)).astype(float)
        a, b = (side(values[in_b[unit] == arm], unit[in_b[unit] == arm], 1, arm) for arm in (False, True))
        return a, b

    return make


@pytest.mark.parametrize(
    ("rate", "doomed", "more"),
    [(0.001, 0.0, 0.0), (0.05, 0.0, 0.0), (0.0, 0.03, 0.0), (0.0, 0.2, 0.0), (0.02, 0.1, 0.05)],
)
def test_a_difference_of_shares_is_covered(rate: float, doomed: float, more: float) -> None:
    truth = (1 - doomed) * more
    world = failing(rate, doomed, more=more)
    assert coverage(world, lambda a, b, seed: difference(a, b, 0.05, seed), truth) >= LEAST


def test_a_rare_user_who_always_fails_is_not_ruled_out_by_many_requests() -> None:
    """A fiftieth of B's users fail always. Where none of them was drawn, the interval by request would say that there
    are none; by unit it says that there may be.
    """
    ruled_out = 0
    for repeat in range(REPEATS):
        rng = np.random.default_rng([17, repeat])
        unit = np.repeat(np.arange(100), 50)
        lost = (rng.random(100) < 0.02) & (np.arange(100) % 2 == 1)
        a, b = (side(lost[unit[unit % 2 == arm]].astype(float), unit[unit % 2 == arm], 1, arm) for arm in (0, 1))
        ruled_out += difference(a, b, 0.05, repeat).high < 0.02
    assert ruled_out <= 0.08 * REPEATS


@pytest.mark.parametrize(("units", "within"), [(360, False), (380, True)])
def test_how_many_users_without_a_failure_bound_the_difference_by_a_point(units: int, within: bool) -> None:
    """Each with 100 requests, which add nothing to it."""
    none = side(np.zeros(units * 100), np.repeat(np.arange(units), 100), 1)
    found = difference(none, none, 0.05, 1)
    assert found.exact
    assert found.low == -found.high
    assert (found.high <= 0.01) == within


def test_many_units_are_put_together_without_saying_more_or_less(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(9)
    habit = rng.normal(0, 0.4, 3000)
    unit = rng.integers(0, 3000, 9000)
    took = np.exp(habit[unit])
    widths = []
    for most in (100_000, 500):
        monkeypatch.setattr(by_unit, "MOST_UNITS", most)
        a, b = (side(took[unit % 2 == arm], unit[unit % 2 == arm], 1, arm) for arm in (0, 1))
        assert a.units == len(np.unique(unit[unit % 2 == 0])), "people are told of units"
        assert len(a.start) - 1 == min(most, a.units)
        found = ratio(a, b, None, 0.05, 1)
        assert found is not None
        widths.append(found.high - found.low)
    assert widths[1] == pytest.approx(widths[0], rel=0.2)


def test_too_few_units_to_say_anything() -> None:
    few = side(np.arange(1.0, 1901), np.repeat(np.arange(19), 100), 1)
    assert "19 units" in enough(few, None)
    rare = side(np.arange(1.0, 1001), np.repeat(np.arange(100), 10), 1)
    assert enough(rare, 0.5) == ""
    assert "beyond it" in enough(rare, 0.99), "all of the slowest are one unit's"


def test_equal_values_have_no_interval() -> None:
    same = side(np.full(400, 8.0), np.arange(400) // 4, 1)
    found = ratio(same, same, None, 0.05, 1)
    assert found == Effect(8.0, 8.0, 1.0, 1.0, 1.0)
    assert enough(same, 0.5) == ""


def test_values_that_are_missing_are_left_out() -> None:
    values = np.array([1.0, np.nan, 3.0, np.nan])
    found = side(values, np.array([5, 5, 2, 9]), 1)
    assert (found.values.tolist(), found.start.tolist(), found.units) == ([3.0, 1.0], [0, 1, 2], 2)
    assert found.effective == 2.0
