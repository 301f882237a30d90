"""Looks keep the promise of the whole, however often one looks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.judge.statistics.boundary import Looks, look_alpha, look_p
from harness.judge.statistics.distributions import normal_isf, t_isf


def test_the_end_keeps_nine_tenths_and_looks_before_it_have_the_rest() -> None:
    assert look_alpha(0.01, 1.0) == pytest.approx(0.009)
    assert normal_isf(look_alpha(0.01, 0.5)) == pytest.approx(3.858, abs=0.001)
    assert look_alpha(0.01, 0.1) < 1e-12


@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.7, 0.99, 1.0])
@pytest.mark.parametrize("alpha", [0.05, 0.01, 0.0025])
def test_a_p_value_says_the_same_as_the_level(fraction: float, alpha: float) -> None:
    level = look_alpha(alpha, fraction)
    assert look_p(level, fraction) == pytest.approx(alpha, rel=1e-6)
    assert look_p(level * 1.01, fraction) > alpha
    assert look_p(level * 0.99, fraction) < alpha
    assert look_p(0.9, fraction) == 1.0


@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_a_random_walk_that_is_looked_at_all_the_time_crosses_as_seldom_as_promised(alpha: float) -> None:
    rng, steps, walks = np.random.default_rng(3), 200, 40_000
    fractions = np.arange(1, steps + 1) / steps
    bars = np.array([normal_isf(look_alpha(alpha, float(t))) if t > 0.02 else math.inf for t in fractions])
    z = np.cumsum(rng.standard_normal((walks, steps)), axis=1) / np.sqrt(np.arange(1, steps + 1))
    crossed = float((z >= bars).any(axis=1).mean())
    assert crossed < alpha + 3 * math.sqrt(alpha / walks)
    assert crossed > 0.8 * alpha  # and it is not just never


@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_without_a_plan_a_walk_may_go_on_for_ever(alpha: float) -> None:
    rng, steps, walks = np.random.default_rng(4), 1500, 4000
    x = rng.standard_normal((walks, steps))
    n = np.arange(1, steps + 1)
    mean = np.cumsum(x, axis=1) / n
    sd = np.sqrt((np.cumsum(x * x, axis=1) - n * mean * mean) / np.maximum(n - 1, 1))
    t = mean[:, 11:] / sd[:, 11:] * np.sqrt(n[11:])
    bars = np.array([t_isf(Looks(None).level(alpha, int(k)), int(k) - 1) for k in n[11:]])
    assert float((t >= bars).any(axis=1).mean()) < alpha
    assert (np.diff(bars[:30]) < 0).all()  # the first blocks are asked for more


@pytest.mark.parametrize("units", [12, 40, 600])
def test_without_a_plan_p_and_level_agree_too(units: int) -> None:
    looks = Looks(None)
    level = looks.level(0.01, units)
    assert looks.p(level, units) == pytest.approx(0.01, rel=1e-6)
    assert looks.p(0.5, units) == 1.0


def test_with_too_few_blocks_no_evidence_is_enough() -> None:
    assert Looks(None).level(1e-6, 3) == 0.0
