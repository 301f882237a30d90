"""Huber's location of block differences."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.judge.statistics.distributions import t_sf
from harness.judge.statistics.intervals import degrees
from harness.judge.statistics.robust import location


def test_it_is_the_mean_where_nothing_is_far_out() -> None:
    values = np.linspace(-1, 1, 41) + 5
    assert location(values)[0] == pytest.approx(5.0)


def test_a_wild_block_moves_it_no_further_than_a_block_at_the_edge() -> None:
    values = np.random.default_rng(1).standard_normal(40)
    one, another = (location(np.append(values, far))[0] for far in (10.0, 1e6))
    assert one == pytest.approx(another)
    assert abs(one - location(values)[0]) < 0.1


def test_it_moves_with_the_data() -> None:
    values = np.random.default_rng(2).standard_t(3, 50)
    middle, error, _ = location(values)
    shifted, same, _ = location(values * 3 + 7)
    assert shifted == pytest.approx(3 * middle + 7)
    assert same == pytest.approx(3 * error)


def test_differences_that_are_mostly_the_same_have_a_mean() -> None:
    middle, error, _ = location(np.array([1.0] * 10 + [2.0] * 2))
    assert middle == pytest.approx(14 / 12)
    assert error > 0


@pytest.mark.parametrize("df", [3, 200])
@pytest.mark.parametrize("n", [12, 60])
def test_its_t_values_keep_one_per_cent(df: int, n: int) -> None:
    rng, repetitions = np.random.default_rng(n + df), 3000
    found = 0
    for values in rng.standard_t(df, (repetitions, n)):
        middle, error, _ = location(values)
        found += t_sf(middle / error, degrees(n, robust=True)) < 0.01
    assert found <= repetitions * 0.011 + 3 * math.sqrt(repetitions * 0.01)


def test_heavy_tails_cost_it_far_less_than_a_mean() -> None:
    draws = np.random.default_rng(5).standard_t(2, (400, 60))
    ours = np.std([location(values)[0] for values in draws])
    assert ours < 0.7 * np.std(draws.mean(axis=1))


def test_its_standard_error_is_hubers_with_his_correction() -> None:
    values = np.array([-9.0, -1.2, -0.7, -0.4, -0.1, 0.0, 0.2, 0.3, 0.6, 0.9, 1.4, 14.0])
    middle, error, counted = location(values)
    scale = 1.4826 * np.median(np.abs(values - np.median(values)))
    pulled = np.clip((values - middle) / scale, -1.5, 1.5)
    assert pulled.sum() == pytest.approx(0.0, abs=1e-6)
    inside = np.mean(np.abs(pulled) < 1.5)
    correction = 1 + (1 - inside) / (12 * inside)
    assert correction > 1.015
    assert error == pytest.approx(correction * scale * math.sqrt((pulled**2).sum() / 11 / 12) / inside)
    assert counted == pytest.approx(scale * pulled)


def test_differences_that_are_the_same_but_for_rounding_have_a_mean_too() -> None:
    """Times in whole milliseconds: most blocks differ by nothing, or by the last digit of a logarithm."""
    values = np.array([0.0] * 8 + [0.2] * 4)
    noise = np.random.default_rng(6).uniform(-1, 1, 12) * 1e-16
    assert location(values + noise)[:2] == pytest.approx(location(values)[:2])
    assert location(values)[0] == pytest.approx(0.8 / 12)
