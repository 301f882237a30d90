"""Blocks, resampling and bounds: the machinery below every latency finding."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.judge.statistics.blocks import (
    MIN_BLOCKS,
    MOST_CELLS,
    Blocks,
    block_logs,
    by_pairs,
    by_time,
    cells_of,
    grouped,
    window,
)
from harness.judge.statistics.boundary import look_alpha, look_p
from harness.judge.statistics.intervals import lower, mirrored, more_seconds, p_above, spread, upper
from harness.judge.statistics.resample import draws, generator, pooled_pair, resampled

S = 1_000_000_000


def seconds(n: int, rate: float) -> np.ndarray:
    return (np.arange(n) / rate * S).astype(np.int64)


def test_slow_pairs_are_cut_by_count() -> None:
    assert by_pairs(seconds(59, 1.5), np.ones(59), np.ones(59)) is None
    for n in (60, 96, 150, 1000):
        blocks = by_pairs(seconds(n, 1.5), np.arange(n) + 1.0, np.ones(n))
        assert blocks is not None
        sizes = np.diff(blocks.start[0])
        assert blocks.count >= MIN_BLOCKS
        assert sizes.sum() == n
        assert sizes.min() >= 5
        assert sizes.max() - sizes.min() <= 1


def test_fast_pairs_are_cut_by_time() -> None:
    n = 50 * 300
    blocks = by_pairs(seconds(n, 50), np.ones(n), np.ones(n))
    assert blocks is not None
    assert 58 <= blocks.count <= 60
    long = by_pairs(seconds(n, 1.0), np.ones(n), np.ones(n))
    assert long is not None
    assert np.diff(long.start[0]).max() <= 201


def test_pairs_are_ordered_by_their_time() -> None:
    due = seconds(100, 1.5)
    mixed = np.random.default_rng(0).permutation(100)
    blocks = by_pairs(due[mixed], (mixed + 1).astype(float), np.ones(100))
    assert blocks is not None
    assert blocks.values[0].tolist() == list(range(1, 101))


def test_both_arms_are_cut_at_the_same_moments() -> None:
    rng = np.random.default_rng(1)
    due = [np.sort(rng.integers(0, 300 * S, n)) for n in (3000, 2900)]
    blocks = by_time(due[0], due[0] / S, due[1], due[1] / S)
    assert blocks is not None
    for b in range(blocks.count - 1):
        last = max(blocks.values[arm][blocks.start[arm][b + 1] - 1] for arm in (0, 1))
        first = min(blocks.values[arm][blocks.start[arm][b + 1]] for arm in (0, 1))
        assert last <= first


def test_a_request_that_was_due_before_the_stage_began_moves_the_cuts_of_both_arms() -> None:
    """By the clock of another worker, say."""
    due = seconds(15000, 50)
    early = np.concatenate([[-7 * S], due[:-1]])
    blocks = by_time(due, due / S, early, early / S, begin_ns=0)
    assert blocks is not None
    for b in range(1, blocks.count):
        one, two = (blocks.values[arm][blocks.start[arm][b]] for arm in (0, 1))
        assert abs(one - two) <= 0.02


def test_a_stamp_of_another_epoch_is_not_counted_up_to() -> None:
    due = seconds(1200, 10)
    due[7] = 2**60
    assert cells_of(np.sort(due)).max() == MOST_CELLS
    assert by_pairs(due, np.ones(1200), np.ones(1200)) is not None
    assert by_time(due, np.ones(1200), due, np.ones(1200)) is not None


def test_a_short_last_block_joins_its_neighbour() -> None:
    full = np.full((2, 31), 200)
    short = full.copy()
    short[:, -1] = 90
    whole, joined = grouped(full), grouped(short)
    assert whole is not None
    assert joined is not None
    # Cells of 200 and of fewer on average: one and two a block.
    assert whole.tolist() == list(range(32))
    assert joined.tolist() == [*range(0, 30, 2), 31]


def test_a_quantile_is_smoothed_further_inwards_than_into_its_tail() -> None:
    size = np.array([200.0, 1e6])
    low, high = window(0.99, size)
    assert (low[0], high[0]) == (pytest.approx(0.99 - 8 * 0.49 * math.sqrt(0.0099 / 200)), pytest.approx(0.996))
    assert 0.99 - low[1] == pytest.approx(high[1] - 0.99)
    assert 0.99 - low[1] < 5e-4  # it tends to the quantile
    left, right = window(0.01, size)
    assert (left, right) == (pytest.approx(1 - high), pytest.approx(1 - low))
    low, high = window(0.5, size)
    assert (high - low) == pytest.approx(1 / size)


def test_a_block_is_dropped_in_both_arms_or_in_neither() -> None:
    due = seconds(15000, 50)
    hole = (due > 100 * S) & (due < 120 * S)
    blocks = by_time(due, np.ones(len(due)), due[~hole], np.ones((~hole).sum()))
    assert blocks is not None
    assert blocks.start[0].shape == blocks.start[1].shape
    assert 0.03 < blocks.dropped < 0.10
    assert (np.diff(blocks.start[1]) > 0).all()


@pytest.mark.parametrize("n", [300, 6000])
def test_resamples_of_ties_are_ties(n: int) -> None:
    """Of 10 and 11 ms no quantile is 10.5."""
    values = np.where(np.random.default_rng(4).random(n) < 0.1, 0.010, 0.011)
    times = draws(generator(1, "x"), 12)
    got = resampled(values, np.arange(0, n + 1, n // 12), 0.5, times)
    assert set(got.tolist()) == {0.011}


@pytest.mark.parametrize("n", [300, 6000])
@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99, None])
def test_resampling_is_what_drawing_blocks_gives(n: int, quantile: float | None) -> None:
    rng = np.random.default_rng(2)
    values = np.exp(rng.normal(0, 0.5, n))
    start = np.arange(0, n + 1, n // 12)
    times = draws(generator(1, "x"), 12)[:50]
    got = resampled(values, start, quantile, times)
    for row, value in zip(times, got, strict=True):
        drawn = np.concatenate([np.tile(values[a:b], int(t)) for a, b, t in zip(start, start[1:], row, strict=False)])
        # A few values are order statistics of the draw, many are interpolated inside narrow bins.
        method = "inverted_cdf" if n == 300 else "linear"
        exact = drawn.mean() if quantile is None else np.quantile(drawn, quantile, method=method)
        spacing = 1e-9 if n == 300 else 0.002 if quantile in (0.5, None) else 0.02
        assert value == pytest.approx(exact, rel=spacing)


def test_the_same_blocks_are_drawn_for_both_arms() -> None:
    values = np.exp(np.random.default_rng(3).normal(0, 1, 600))
    start = np.arange(0, 601, 50)
    one, two = pooled_pair(Blocks((values, values), (start, start)), 0.5, generator(0, "x"))
    assert (one == two).all()


def test_means_are_bounded_as_t_says() -> None:
    rng = np.random.default_rng(4)
    missed = 0
    for seed in range(400):
        units = rng.normal(0, 1, 20)
        times = draws(generator(seed, "x"), 20)
        s = spread(float(units.mean()), units, times @ units / 20, ordered=True)
        assert lower(s, 0.05) < s.mean < upper(s, 0.05)
        missed += upper(s, 0.05) < 0
    assert missed <= 30  # 20 expected at 5 %; 30 is beyond its 99 % bound


def test_p_values_and_bounds_agree() -> None:
    units = np.random.default_rng(5).normal(0.2, 0.3, 25)
    s = spread(float(units.mean()), units, draws(generator(0, "x"), 25) @ units / 25, ordered=False)
    for alpha in (0.05, 0.01, 1e-4):
        assert p_above(s, lower(s, alpha) - 1e-9) < alpha * 1.3
        assert p_above(s, lower(s, alpha) + 0.02) > alpha
    assert p_above(mirrored(s), -5.0) < 1e-6
    assert p_above(s, 5.0) > 0.999


def test_looks_spend_little_early() -> None:
    assert look_alpha(0.01, 1.0) == pytest.approx(0.009)
    assert look_alpha(0.01, 0.25) < 1e-6
    for fraction in (0.1, 0.5, 1.0):
        p = look_alpha(0.01, fraction)
        assert look_p(p, fraction) == pytest.approx(0.01)
    assert look_p(0.9, 0.5) == 1.0


def test_resembling_neighbours_widen_the_error() -> None:
    wave = np.repeat([1.0, -1.0, 1.0, -1.0], 10) + np.random.default_rng(6).normal(0, 0.1, 40)
    resamples = np.random.default_rng(7).normal(0, 0.1, 2000)
    in_order = spread(0.0, wave, resamples, ordered=True)
    loose = spread(0.0, wave, resamples, ordered=False)
    assert in_order.low_trust
    assert in_order.effective_units < 10
    assert in_order.se_units > 2 * loose.se_units


def test_the_planner_counts_as_its_formula() -> None:
    units = np.random.default_rng(8).normal(0.0, 0.3, 30)
    s = spread(0.0, units - units.mean(), draws(generator(0, "x"), 30) @ units / 30 * 0, ordered=False)
    needed = more_seconds(s, 0.05, 100.0)
    assert needed == pytest.approx(100 * (((1.645 + 0.842) * s.se / 0.05) ** 2 - 1), rel=0.01)
    assert more_seconds(s, -0.01, 100.0) is None
    assert math.isfinite(s.se)


def test_the_order_within_a_block_does_not_matter() -> None:
    """Values that were counted come in order, others do not, and only those are put into it."""
    rng = np.random.default_rng(3)
    start = np.arange(0, 1201, 100)
    values = rng.lognormal(0, 1, 1200)
    ordered = np.concatenate([np.sort(part) for part in np.split(values, 12)])
    for weights in (None, (np.ones(1200), np.ones(1200))):
        logs = block_logs(Blocks((values, ordered), (start, start), weights=weights), 0.9)
        np.testing.assert_array_equal(logs[0], logs[1])
        for log, part in zip(logs[0], np.split(values, 12), strict=True):
            assert np.quantile(part, 0.8) < math.exp(log) < np.quantile(part, 0.97)
