"""Kayenta's rules as its source has them, its test as R has it, and its blind spots as they were measured."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.judge.kayenta.mann_whitney import Shift, shift, z_score
from harness.judge.kayenta.rules import ENOUGH_Z, Classified, Config, classify, score

LATENCY = Config(direction="increase")


def label(one: object, two: object, config: Config = LATENCY) -> str:
    points = (np.asarray(values, np.float64) for values in (one, two))
    return classify(*points, config, np.random.default_rng(0)).label


# ---------------------------------------------------------------- the test

# R's data set mtcars: miles per gallon of cars with automatic and with manual transmission.
AUTOMATIC = [
    21.4,
    18.7,
    18.1,
    14.3,
    24.4,
    22.8,
    19.2,
    17.8,
    16.4,
    17.3,
    15.2,
    10.4,
    10.4,
    14.7,
    21.5,
    15.5,
    15.2,
    13.3,
    19.2,
]
MANUAL = [21.0, 21.0, 22.8, 32.4, 30.4, 33.9, 27.3, 26.0, 30.4, 15.8, 19.7, 15.0, 21.4]
# R's data set airquality: ozone in May and in August (the example in the help of wilcox.test).
MAY = [41, 36, 12, 18, 28, 23, 19, 8, 7, 16, 11, 14, 18, 14, 34, 6, 30, 11, 1, 11, 4, 32, 23, 45, 115, 37]
AUGUST = [39, 9, 16, 78, 35, 66, 122, 89, 110, 44, 28, 65, 22, 59, 23, 31, 44, 21, 9, 45, 168, 73, 76, 118, 84, 85]


def two_sided(one: list[float], two: list[float]) -> float:
    return float(2 * stats.norm.sf(abs(z_score(np.array(one, float), np.array(two, float)))))


def test_p_values_that_r_prints() -> None:
    # wilcox.test(mpg ~ am, data = mtcars): W = 42, p-value = 0.001871
    assert two_sided(AUTOMATIC, MANUAL) == pytest.approx(0.001871, abs=5e-7)
    # wilcox.test(Ozone ~ Month, data = airquality, subset = Month %in% c(5, 8)): W = 127.5, p-value = 0.0001208
    assert two_sided(MAY, AUGUST) == pytest.approx(0.0001208, abs=5e-8)


def test_an_interval_that_r_prints() -> None:
    # wilcox.test(mpg ~ am, data = mtcars, conf.int = TRUE), by broom::tidy: -6.80, -11.7 to -2.90
    found = shift(np.array(AUTOMATIC), np.array(MANUAL), 0.95)
    assert (found.low, found.high) == pytest.approx((-11.7, -2.9), abs=1e-4)
    assert found.estimate == pytest.approx(-6.80, abs=0.02)


def test_ends_that_can_be_counted_by_hand() -> None:
    """16 differences, all positive: the ends are the least and the greatest, the estimate lies amid 19 and 26."""
    found = shift(np.array([10.0, 20, 30, 40]), np.array([1.0, 2, 3, 4]), 0.95)
    assert (found.low, found.high) == pytest.approx((6, 39), abs=1e-4)
    assert 19 < found.estimate < 26


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("digits", [0, 1, 9])  # 0: most values are tied
def test_z_is_that_of_scipy(seed: int, digits: int) -> None:
    rng = np.random.default_rng(seed)
    one = np.round(rng.normal(3, 1, int(rng.integers(5, 60))), digits)
    two = np.round(rng.normal(3.4, 2, int(rng.integers(5, 60))), digits)
    expected = stats.mannwhitneyu(one, two, alternative="two-sided", method="asymptotic", use_continuity=True).pvalue
    assert float(2 * stats.norm.sf(abs(z_score(one, two)))) == pytest.approx(min(expected, 1.0), rel=1e-9)
    assert z_score(two, one) == pytest.approx(-z_score(one, two))


@pytest.mark.parametrize("level", [0.5, 0.95, 0.98])
def test_the_interval_holds_what_the_test_does_not_reject(level: float) -> None:
    rng = np.random.default_rng(5)
    one, two = rng.normal(10, 2, 40), rng.normal(8, 3, 30)
    found, z = shift(one, two, level), stats.norm.isf((1 - level) / 2)
    assert found.low < found.estimate < found.high
    for mu, inside in (
        (found.low - 1e-3, False),
        (found.low + 1e-3, True),
        (found.high - 1e-3, True),
        (found.high + 1e-3, False),
    ):
        assert (abs(z_score(one, two, mu)) < z) == inside
    mirrored = shift(two, one, level)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low), abs=2e-4)


def test_nothing_can_be_said_of_what_is_all_tied() -> None:
    for one, two in (([1.0], [1.0]), ([2.0, 2.0], [2.0, 2.0, 2.0])):
        with pytest.raises(ValueError, match="tied"):
            z_score(np.array(one), np.array(two))


# ---------------------------------------------------------------- the label of a metric


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (Config(), "Nodata"),
        (Config(required=True), "NodataFailMetric"),
        (Config(required=True, critical=True), "Nodata"),
        (Config(missing="replace"), "Pass"),
    ],
)
@pytest.mark.parametrize("empty", [([], [1.0, 2.0]), ([1.0, 2.0], []), ([], [])])
def test_an_empty_side(config: Config, expected: str, empty: tuple[list[float], list[float]]) -> None:
    assert label(*empty, config) == expected


def test_missing_points_are_left_out_or_are_0() -> None:
    nothing = [np.nan] * 3
    assert label([1.0, 2, 3], nothing) == "Nodata"
    steady, holes = np.linspace(5, 6, 30), np.linspace(5, 6, 30)
    holes[np.arange(30) % 5 > 0] = np.nan
    assert label(steady, holes, Config()) == "Pass"
    assert label(steady, holes, Config(missing="replace")) == "Low"  # four of five points count as 0


def test_identical_points_pass_in_any_order() -> None:
    points = np.random.default_rng(1).normal(5, 1, 40)
    found = classify(points, points[::-1].copy(), LATENCY, np.random.default_rng(0))
    assert (found.label, found.ratio, found.shift) == ("Pass", 1.0, None)


def test_constant_points() -> None:
    assert label([3.0] * 10, [3.0] * 25) == "Pass"  # not as many, but one value
    assert label([3.0] * 30, [3.1] * 30) == "High"  # told apart by noise of 1e-5 of the value
    assert label([3.1] * 30, [3.0] * 30, Config()) == "Low"
    with pytest.raises(ValueError, match="tied"):  # what the noise is for
        shift(np.full(30, 3.1), np.full(30, 3.0), 0.98)


def test_an_error_of_the_test_is_a_label() -> None:
    found = classify(np.array([0.0]), np.array([7.0]), LATENCY, np.random.default_rng(0))
    assert found.label == "Error"
    assert "tied" in found.reason


def test_directions_and_sizes() -> None:
    rng = np.random.default_rng(2)
    one, two = rng.normal(10, 1, 60), rng.normal(12, 1, 60)
    assert label(one, two) == label(one, two, Config()) == "High"
    assert label(two, one, Config()) == label(two, one, Config(direction="decrease")) == "Low"
    assert label(two, one) == label(one, two, Config(direction="decrease")) == "Pass"
    assert label(one, two, Config(allowed_increase=1.1)) == "High"
    assert label(one, two, Config(allowed_increase=1.3)) == "Pass"
    assert label(two, one, Config(allowed_decrease=0.7)) == "Pass"
    # The ratio of means cannot be had where one of them is 0; then it does not count.
    assert label(np.zeros(60), two, Config(allowed_increase=99)) == "High"
    critical = classify(one, two, Config(critical=True), rng)
    assert critical.critical
    assert not classify(one, two, Config(critical=True, critical_increase=1.5), rng).critical


def test_high_is_z_beyond_three() -> None:
    """ "Lower end > 0.25 of the estimate" is z > 3.1, whatever the unit."""
    rng = np.random.default_rng(3)
    seen = []
    for _ in range(300):
        one, two = rng.normal(50, 5, 60), rng.normal(52.6, 5, 60)
        seen.append((z_score(two, one), label(one, two) == "High"))
    assert abs(ENOUGH_Z - 3.10) < 0.005
    for z, high in seen:
        if abs(z - ENOUGH_Z) > 0.25:
            assert high == (z > ENOUGH_Z)
    assert 0.1 < np.mean([high for _, high in seen]) < 0.9


# ---------------------------------------------------------------- the score


def metric(name: str, group: str, label: str, critical: bool = False) -> tuple[str, str, Classified]:
    return name, group, Classified(label, 1.0, critical=critical)  # type: ignore[arg-type]


def test_scores() -> None:
    two_of_three = [metric("a", "g", "Pass"), metric("b", "g", "Pass"), metric("c", "g", "High")]
    assert score(two_of_three).score == 66.67
    assert score(two_of_three).classification == "fail"
    assert score(two_of_three[:2]).classification == "pass"
    halves = [metric("a", "one", "Pass"), metric("b", "two", "High"), metric("c", "two", "Pass")]
    assert score(halves).groups == {"one": 100.0, "two": 50.0}
    assert (score(halves).score, score(halves).classification) == (75.0, "marginal")
    assert score(halves, {"two": 80.0}).score == 60.0  # what is left of 100 is for the other
    assert score([metric("a", "g", "Pass"), metric("b", "g", "NodataFailMetric")]).score == 50.0


def test_what_counts_nowhere() -> None:
    """An error is nothing, and a group of which nothing counts is as good as a perfect one."""
    found = score([metric("a", "one", "Pass"), metric("b", "two", "Error"), metric("c", "two", "Error")])
    assert found.groups == {"one": 100.0, "two": None}
    assert (found.score, found.classification) == (100.0, "pass")
    assert score([metric("a", "one", "High"), metric("b", "two", "Nodata"), metric("c", "one", "Pass")]).score == 75.0


def test_what_gives_a_score_of_0_at_once() -> None:
    critical = score([metric("a", "g", "Pass"), metric("b", "g", "Pass"), metric("errors", "e", "High", critical=True)])
    assert (critical.score, critical.classification, critical.reason) == (0.0, "fail", "errors is High and critical")
    assert score([metric("a", "g", "Pass"), metric("b", "g", "Pass", critical=True)]).score == 100.0
    half = score([metric("a", "g", "Pass"), metric("b", "h", "Nodata")])
    assert (half.score, half.reason) == (0.0, "1 of 2 metrics have no data, which is half or more")
    assert score([metric("a", "g", "Pass"), metric("b", "g", "Pass"), metric("c", "h", "Nodata")]).score == 100.0
    assert score([]).classification == "fail"


# ---------------------------------------------------------------- where it is blind


def flagged(worlds: object) -> int:
    return sum(label(one, two, Config()) != "Pass" for one, two in worlds)  # type: ignore[attr-defined]


def test_a_tail_that_it_does_not_see() -> None:
    """2 % of requests 10 times slower, 1,000 requests an arm: a rank test on requests has nothing to go by."""

    def worlds() -> object:
        for seed in range(60):
            rng = np.random.default_rng(seed)
            one, two = np.exp(rng.normal(3, 0.3, (2, 1000)))
            two[rng.random(1000) < 0.02] *= 10
            yield one, two

    assert flagged(worlds()) <= 1


def test_errors_that_it_does_not_see() -> None:
    """0 against 0.3 % of 20,000 requests an arm: most requests of both arms are alike, so nothing is shifted."""

    def worlds() -> object:
        for seed in range(20):
            failed = np.random.default_rng(seed).random(20_000) < 0.003
            yield np.zeros(20_000), 100.0 * failed

    assert flagged(worlds()) == 0


def test_two_points_are_enough_for_it() -> None:
    """Identical builds, two points an arm: every fourth or fifth pair is called High or Low."""
    rng = np.random.default_rng(7)
    share = flagged((rng.normal(10, 1, 2), rng.normal(10, 1, 2)) for _ in range(600)) / 600
    assert 0.17 < share < 0.29


def test_the_range_stands_for_ends_that_no_test_reaches() -> None:
    found = shift(np.array([5.0, 6.0]), np.array([1.0, 2.0]), 0.98)
    assert found == Shift(3.0, 5.0, found.estimate)
