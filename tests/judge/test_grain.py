"""Clocks that tick too coarsely for the margin: neither a promote nor a rollback comes of rounding."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from harness.judge import Evidence, judge_stage
from harness.judge.statistics.grain import MOST, blur, tick
from harness.types import Finding, Gate, StageRecord
from tests.judge.worlds import S, bulk, plan

MS = 1e-3


def rounded(center_s: float, spread_s: float, ratio: float, seed: int, metric: str, margin: float) -> Finding:
    """A stage of 60 s whose times are kept in whole milliseconds."""
    rng, n = np.random.default_rng(seed), 1500
    rows = []
    for arm, times in (("baseline", 1.0), ("candidate", ratio)):
        took = times * (center_s + spread_s * rng.standard_normal(n))
        rows.append(bulk(arm, np.sort(np.round(rng.uniform(0, 60, n), 3)), np.round(took, 3)))
    record = StageRecord(plan(0, "interleaved", 60.0), 0, end_ns=61 * S)
    evidence = Evidence.from_tables(pa.concat_tables(rows), stages=[record], gates=[Gate(metric, margin)], seed=seed)
    return next(f for f in judge_stage(evidence, 0).findings if f.metric == metric)


def test_the_tick_is_what_all_times_are_multiples_of() -> None:
    rng = np.random.default_rng(1)
    fine = rng.uniform(0.01, 0.02, 3000)
    whole = np.round(fine, 3)
    assert tick((whole, np.round(fine, 2))) == pytest.approx(MS)
    assert tick((np.zeros(5), whole)) == pytest.approx(MS)
    assert tick((fine, whole)) == 1e-9
    assert tick((np.append(whole, 0.0123456), whole)) <= 1e-5, "also if the fine one comes late"
    assert tick((np.empty(0), np.zeros(3))) == 0.0


def test_a_quantile_is_off_by_half_a_tick_in_either_arm_and_a_mean_is_not() -> None:
    wide = np.array([0.005, 0.02, 0.05] * 10)
    same = np.full(30, 0.02)
    assert blur((wide, wide), MS, 0.5, 0.02) == pytest.approx(math.log(20.5 / 19.5))
    assert blur((wide, wide), MS, None, 0.02) == 0.0
    assert blur((wide, same), MS, None, 0.02) == pytest.approx(math.log(20.5 / 19.5)), "nothing evens out"
    assert blur((wide, wide), 1e-9, 0.5, 0.02) < 1e-6
    assert blur((wide, wide), MS, 0.5, 0.0) == blur((wide, wide), MS, 0.5, 0.0005) == MOST


@pytest.mark.parametrize("seed", range(5))
def test_a_build_at_the_margin_does_not_pass_by_rounding(seed: int) -> None:
    """21 and 23 ms by the clock is 9.5 % more; by the truth it is 10 %."""
    found = rounded(0.0205, 0.0004, 1.10, seed, "response_time.p90", 0.10)
    assert found.outcome == "inconclusive"
    assert "(known to 1 ms only, which alone keeps it from passing)" in found.reason


@pytest.mark.parametrize("seed", range(5))
def test_a_build_within_the_margin_does_not_fail_by_rounding(seed: int) -> None:
    """10 and 11 ms by the clock, and a hundredth apart by the truth."""
    found = rounded(0.01046, 0.00003, 1.01, seed, "response_time.p50", 0.05)
    assert found.effect == pytest.approx(1.1)
    assert found.interval is not None
    assert (found.interval[0] or 0.0) < 1.05
    assert found.outcome == "inconclusive"


def test_where_ticks_are_small_beside_the_margin_they_cost_little() -> None:
    assert rounded(0.2, 0.02, 1.0, 1, "response_time.p50", 0.05).outcome == "pass"
    assert rounded(0.2, 0.02, 1.1, 1, "response_time.p50", 0.05).outcome == "fail"
    assert rounded(0.0204, 0.003, 1.0, 1, "response_time.mean", 0.05).outcome == "pass"
