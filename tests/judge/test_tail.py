"""Quantiles beyond what a block holds: slow requests are added up, and arms swapped."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from harness.judge.statistics.blocks import Blocks
from harness.judge.statistics.tail import Tail, swapped


@pytest.mark.parametrize("differences", [[1, 2, 0, -1], [3], [0, 0], [2, 2, 2, -2, 1]])
def test_the_p_value_is_that_of_all_swaps(differences: list[int]) -> None:
    sizes = [abs(d) for d in differences if d]
    sums = [sum(s * size for s, size in zip(signs, sizes, strict=True)) for signs in
            itertools.product((-1, 1), repeat=len(sizes))]  # fmt: skip
    wanted = np.mean([total >= sum(differences) for total in sums])
    assert swapped(np.array(differences)) == pytest.approx(wanted)


def arms(seed: int, n: int = 1000, blocks: int = 40, slow: float = 0.0, times: float = 10.0) -> Blocks:
    rng = np.random.default_rng(seed)
    one, two = (np.exp(0.4 * rng.standard_normal(n)) for _ in range(2))
    two = np.where(rng.random(n) < slow, times * two, two)
    start = np.arange(blocks + 1) * n // blocks
    return Blocks((one, two), (start, start))


def test_blocks_that_hold_enough_are_not_its_business() -> None:
    assert Tail.of(arms(1), 0.99, 1.0) is not None
    assert Tail.of(arms(1), 0.5, 1.0) is None
    assert Tail.of(arms(1), None, 1.0) is None
    assert Tail.of(arms(1, n=40_000), 0.99, 1.0) is None


def test_identical_arms_are_seldom_called_worse_and_two_per_cent_of_slow_requests_always() -> None:
    fair = sum(Tail(arms(seed), 0.99).p(0.0) <= 0.01 for seed in range(400))
    assert fair <= 400 * 0.01 + 3 * math.sqrt(4)
    found = sum(Tail(arms(seed, slow=0.02), 0.99).p(math.log(1.1)) <= 0.0025 for seed in range(60))
    assert found >= 57


def test_the_bound_is_where_the_p_value_reaches_the_level() -> None:
    tail = Tail(arms(3, slow=0.05), 0.99)
    low = tail.lower(0.01)
    assert tail.p(low - 1e-6) <= 0.01 < tail.p(low + 1e-3)
    assert 0 < low < math.log(10)


def test_neighbours_that_resemble_each_other_are_worth_less() -> None:
    blocks = arms(4, slow=0.02)
    assert Tail(blocks, 0.99, 1.5).p(0.0) > Tail(blocks, 0.99).p(0.0)


def test_times_that_are_the_same_but_for_the_margin_are_not_beyond() -> None:
    """Whole milliseconds: 11 ms over 1.1 is 10 ms, whatever the last digit of its logarithm."""
    rng, start = np.random.default_rng(5), np.arange(41) * 25
    slow = [rng.random(1000) < 0.16 for _ in range(2)]  # so the 90th percentile is a tick that both arms have
    for ticks in range(20, 200, 10):
        for margin in (0.1, 0.2, 0.3, 0.7):
            one, two = (np.where(each, ticks * 1e-3, 0.01) for each in slow)
            tail = Tail(Blocks((one, two * (1 + margin)), (start, start)), 0.9)
            assert not tail.differences(math.log1p(margin)).any()
