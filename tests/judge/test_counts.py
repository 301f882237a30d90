"""Exact statistics of counts, against published values and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats

from harness.judge.statistics.boundary import look_alpha
from harness.judge.statistics.counts import (
    boundary,
    difference_bound,
    log_e_value,
    p_more,
    rate_lower,
    rate_upper,
    requests_for,
)


@pytest.mark.parametrize(("others", "least"), [(0, 9), (1, 13), (2, 15), (5, 22), (10, 32)])
def test_the_boundary_is_the_published_one(others: int, least: int) -> None:
    assert boundary(others) == least


@pytest.mark.parametrize(("k", "others", "share"), [(3, 0, 0.5), (7, 2, 0.3), (1, 4, 0.8), (0, 3, 0.5)])
def test_the_e_value_is_the_mixture_it_says(k: int, others: int, share: float) -> None:
    def ratio(p: float) -> float:
        return (p / share) ** k * ((1 - p) / (1 - share)) ** others

    exact, _ = integrate.quad(ratio, share, 1)
    assert math.exp(log_e_value(k, others, share)) == pytest.approx(exact / (1 - share), rel=1e-8)


def test_no_requests_on_one_side_are_no_evidence() -> None:
    assert log_e_value(5, 0, 1.0) == -math.inf
    assert log_e_value(5, 0, 0.0) == -math.inf


def test_looking_after_every_failure_keeps_the_error_rate() -> None:
    rng = np.random.default_rng(1)
    crossed = 0
    for _ in range(1500):
        k = np.cumsum(rng.random(60) < 0.5)
        n = np.arange(1, 61)
        crossed += any(log_e_value(int(a), int(b - a), 0.5) >= math.log(100) for a, b in zip(k, n, strict=True))
    assert stats.binomtest(crossed, 1500, 0.01, alternative="greater").pvalue > 0.001


@pytest.mark.parametrize(
    ("k2", "n2", "k1", "n1", "low", "high"),
    [(56, 70, 48, 80, 0.0528, 0.3382), (9, 10, 3, 10, 0.1700, 0.8406), (5, 56, 0, 29, -0.0326, 0.1933)],
)
def test_difference_bounds_are_those_of_newcombe_1998(
    k2: int, n2: int, k1: int, n1: int, low: float, high: float
) -> None:
    assert difference_bound(k2, n2, k1, n1, alpha=0.025, side="lower") == pytest.approx(low, abs=2e-4)
    assert difference_bound(k2, n2, k1, n1, alpha=0.025, side="upper") == pytest.approx(high, abs=2e-4)


def test_difference_bounds_mirror_when_the_arms_are_swapped() -> None:
    one = difference_bound(7, 40, 2, 60, alpha=0.05, side="upper")
    assert difference_bound(2, 60, 7, 40, alpha=0.05, side="lower") == pytest.approx(-one, abs=1e-9)


def test_difference_bounds_at_the_edges() -> None:
    assert difference_bound(0, 99, 0, 99, alpha=0.05, side="upper") < 0.03
    assert difference_bound(0, 0, 0, 5, alpha=0.05, side="upper") == 1.0
    assert difference_bound(0, 5, 0, 0, alpha=0.05, side="lower") == -1.0
    assert difference_bound(10, 10, 0, 10, alpha=0.01, side="lower") > 0.5
    assert difference_bound(10, 10, 0, 10, alpha=0.01, side="upper") == 1.0


def test_coverage_of_the_difference_bound() -> None:
    """Exactly enumerated: at most 5 % (and the score test's small excess) of tables miss the truth."""
    n, p1, p2 = 30, 0.1, 0.2
    missed = 0.0
    for k1 in range(n + 1):
        for k2 in range(n + 1):
            weight = stats.binom.pmf(k1, n, p1) * stats.binom.pmf(k2, n, p2)
            if weight > 1e-7 and difference_bound(k2, n, k1, n, alpha=0.05, side="upper") < p2 - p1:
                missed += weight
    assert missed < 0.06


def test_rates() -> None:
    assert requests_for(0.03) == 99
    assert requests_for(0.01) == 299
    assert rate_upper(0, 99, 0.05) == pytest.approx(1 - 0.05 ** (1 / 99))
    assert rate_lower(0, 10, 0.05) == 0.0
    assert rate_upper(10, 10, 0.05) == 1.0


@pytest.mark.parametrize("fraction", [1e-4, 0.01, 5 / 90, 5 / 75, 0.3])
def test_how_many_requests_the_level_of_an_early_look_takes(fraction: float) -> None:
    """1 - alpha is 1 there: the answer has to come from alpha itself."""
    alpha = max(look_alpha(0.05, fraction), 1e-300)
    assert requests_for(0.03, look_alpha(0.05, fraction)) == math.ceil(math.log(alpha) / math.log(0.97))
    assert rate_lower(10, 10, 0.05) == pytest.approx(0.05**0.1)
    assert p_more(17, 20, 0.5) == pytest.approx(stats.binom.sf(16, 20, 0.5))
    assert p_more(0, 20, 0.5) == 1.0
