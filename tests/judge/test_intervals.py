"""Bounds and p-values at their edges: neighbours that resemble each other, ties, levels too small for a number."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import signal

from harness.judge.statistics.boundary import Looks
from harness.judge.statistics.distributions import t_sf
from harness.judge.statistics.intervals import (
    AGREED,
    FEW_DRAWS,
    Spread,
    differ,
    lower,
    lower_agreed,
    p_above,
    p_agreed,
    spread,
)


def seen(units: np.ndarray, draws: np.ndarray) -> Spread:
    return spread(float(np.median(draws)), units, draws, ordered=True, robust=True)


def test_neighbours_that_resemble_each_other_widen_the_error_by_what_is_sure() -> None:
    rng, n, found = np.random.default_rng(1), 60, []
    for _ in range(400):
        values = np.asarray(signal.lfilter([1.0], [1.0, -0.5], rng.standard_normal(n + 50)))[50:]
        here = differ(values, ordered=True, robust=True)
        alone = differ(values, ordered=False, robust=True)
        sure = max(0.0, here.lag1 - 1 / math.sqrt(n))
        assert here.widened == pytest.approx(math.sqrt((1 + sure) / (1 - sure)))
        assert here.se == pytest.approx(alone.se * here.widened)
        assert (alone.widened, alone.lag1) == (1.0, 0.0)
        found.append([t_sf(each.mean / each.se, n - 1) < 0.05 for each in (here, alone)])
    widened, bare = np.mean(found, axis=0)
    assert widened < 0.13
    assert bare > 1.3 * widened


def test_the_bootstrap_is_widened_too_and_by_what_resampling_loses() -> None:
    rng, n = np.random.default_rng(2), 12
    values = np.cumsum(rng.standard_normal(n))
    draws = rng.standard_normal(2000)
    found = seen(values, draws)
    assert found.widened > 1
    assert found.se_draws == pytest.approx(draws.std() * math.sqrt(n / (n - 1)) * found.widened)


def test_rounding_is_no_difference() -> None:
    """Both arms took 5 ms in every block: the last digits of the logarithms are not evidence."""
    noise = np.random.default_rng(3).uniform(0.5, 1.5, 40) * 1e-16
    same = seen(noise, np.tile(noise, 50))
    assert p_above(same, 0.0) == 1.0
    assert p_agreed(same, 0.0) == 1.0
    at_the_margin = seen(math.log(1.1) + noise, math.log(1.1) + np.tile(noise, 50))
    assert p_agreed(at_the_margin, math.log1p(0.1)) == 1.0
    draws = np.linspace(0.1, 0.3, 2000)
    assert p_agreed(Spread(0.2, 1e-16, 1e-18, 0.01, draws, 12), 0.0) == pytest.approx(1.0), "whatever the pooled effect"
    beyond = seen(0.2 + noise, 0.2 + np.tile(noise, 50))
    assert p_agreed(beyond, math.log1p(0.1)) < 1e-6


def test_a_level_too_small_for_a_number_has_no_bound() -> None:
    """At the very first look; also where all blocks differ by the same, and nothing would move the bound."""
    level = Looks(1e-3).level(0.01, 12)
    for units in (np.full(12, 0.3), np.linspace(0.2, 0.4, 12)):
        found = seen(units, np.full(2000, 0.3))
        assert lower(found, level) == -math.inf
        assert lower_agreed(found, level) == -math.inf
    assert lower_agreed(seen(np.full(12, 0.3), np.full(2000, 0.3)), 0.01) == pytest.approx(0.3)


@pytest.mark.parametrize("level", [1e-5, 1e-3, 0.0025, 0.009, 0.05])
@pytest.mark.parametrize(
    "below", [0, FEW_DRAWS, FEW_DRAWS + 1, 18, 19, 100, 101, round(AGREED * 2000), round(AGREED * 2000) + 1]
)
def test_resamples_on_the_wrong_side_count_alike_in_the_bound_and_in_the_p_value(level: float, below: int) -> None:
    """However narrow the t-intervals are."""
    draws = np.concatenate([np.full(below, -1.0), np.full(2000 - below, 1.0)])
    found = Spread(1.0, 1.0, 1e-6, 1e-6, draws, 12)
    assert (lower(found, level) > 0) == (p_above(found, 0.0) <= level)
    assert (lower_agreed(found, level) > 0) == (p_agreed(found, 0.0) <= level) == (below <= AGREED * 2000)


def test_agreement_takes_both() -> None:
    """Differences that are surely above the bar say nothing where the pooled effect is not above it."""
    found = Spread(0.0, 1.0, 0.01, 0.1, np.linspace(-0.3, 0.3, 2000), 40)
    assert p_agreed(found, 0.0) > 0.4
    assert lower_agreed(found, 0.01) <= 0
    assert p_agreed(replace(found, effect=0.2, sorted_draws=found.sorted_draws + 0.2), 0.0) < 0.001
