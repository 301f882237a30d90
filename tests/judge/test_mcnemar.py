"""Flips of paired passes: against scipy, and by enumeration of everything that can happen."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from harness.judge.statistics.distributions import normal_isf, normal_sf
from harness.judge.statistics.mcnemar import Flips, lower_drop, mcnemar, p_drop, upper_drop


@pytest.mark.parametrize(("worse", "better"), [(0, 0), (0, 7), (1, 0), (5, 2), (12, 12), (40, 19), (300, 250)])
def test_mcnemar_is_the_exact_binomial_test(worse: int, better: int) -> None:
    n = worse + better
    expected = 1.0 if n == 0 else stats.binomtest(worse, n, 0.5, alternative="greater").pvalue
    assert mcnemar(Flips(1000, worse, better)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("worse", "better"), [(9, 3), (30, 12), (2, 1)])
def test_without_a_margin_tango_is_mcnemars_statistic(worse: int, better: int) -> None:
    """The score statistic at 0 is (b - c) / sqrt(b + c), here with half a pair of continuity correction."""
    z = (worse - better - 0.5) / math.sqrt(worse + better)
    flips = Flips(200, worse, better)
    assert p_drop(flips, 0.0) == pytest.approx(max(mcnemar(flips), normal_sf(z)), rel=1e-9)


def test_no_flip_at_all_bounds_the_drop() -> None:
    z = normal_isf(0.05)
    root = (z + math.sqrt(z * z + 2)) / 2
    assert upper_drop(Flips(10_000, 0, 0), 0.05) == pytest.approx(root * root / 10_000, rel=0.01)
    assert upper_drop(Flips(100, 0, 0), 0.05) > 0.03


def test_bounds_are_where_the_test_turns_and_mirror_each_other() -> None:
    flips = Flips(150, 14, 5)
    assert lower_drop(flips, 0.01) < flips.drop < upper_drop(flips, 0.05)
    assert lower_drop(flips, 0.05) == -upper_drop(flips.mirrored(), 0.05)
    low = lower_drop(Flips(150, 40, 3), 0.01)
    assert low > 0
    assert p_drop(Flips(150, 40, 3), low) == pytest.approx(0.01, rel=1e-6)


def false_passes(n: int, margin: float, back: float) -> float:
    """The chance that the upper 95 % bound is below a drop that is true: every outcome, by its probability."""
    worse_rate, total = back + margin, 0.0
    for worse in range(n + 1):
        p_worse = stats.binom.pmf(worse, n, worse_rate)
        if p_worse < 1e-9:
            continue
        better = np.arange(n - worse + 1)
        chances = stats.binom.pmf(better, n - worse, back / (1 - worse_rate))
        for count, chance in zip(better.tolist(), chances.tolist(), strict=True):
            if chance * p_worse > 1e-9 and upper_drop(Flips(n, worse, count), 0.05) < margin:
                total += p_worse * chance
    return total


@pytest.mark.parametrize(("n", "margin"), [(12, 0.2), (25, 0.1), (50, 0.05), (50, 0.15)])
def test_a_drop_of_the_margin_passes_in_at_most_one_of_twenty(n: int, margin: float) -> None:
    assert max(false_passes(n, margin, back) for back in (0.0, 0.02, 0.1, 0.25)) <= 0.05
