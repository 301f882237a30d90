"""Errors come in bursts: how many of them count, and what a look may claim of them."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from harness.judge import Evidence, judge_stage
from harness.judge.columns import BASELINE, CANDIDATE
from harness.judge.errors.failures import CAP, HASTE, Difference, Tally, clumped, tally
from harness.judge.statistics.boundary import Looks, look_alpha
from harness.judge.statistics.intervals import ALPHA_FAIL
from harness.judge.view import StageView
from harness.types import Gate, StageRecord
from tests.judge.broken import with_columns
from tests.judge.worlds import S, bulk, plan

SECONDS, RATE = 200, 20


def world(failed: list[np.ndarray], *, classes: tuple[str, ...] = ("Unavailable",), margin: float = 0.01) -> Evidence:
    """200 s of 20 pairs a second; `failed`: by arm, the seconds in which every request fails, or one flag a request."""
    due = np.arange(SECONDS * RATE) / RATE
    rows = []
    for arm, flags in zip(("baseline", "candidate"), failed, strict=True):
        bad = np.repeat(flags, RATE) if len(flags) == SECONDS else flags
        errors = np.where(bad, np.array(classes)[np.arange(len(bad)) % len(classes)], "")
        status = np.where(bad, "error", "ok").tolist()
        rows.append(with_columns(bulk(arm, due, np.full(len(due), 0.01)), status=status, error=errors.tolist()))
    record = StageRecord(plan(0, "paired", float(SECONDS), rate=float(RATE)), 0, end_ns=(SECONDS + 1) * S)
    gates = [Gate("errors", margin, "absolute")]
    return Evidence.from_tables(pa.concat_tables(rows), stages=[record], gates=gates)


def in_second(*seconds: int) -> np.ndarray:
    return np.isin(np.arange(SECONDS), seconds)


NEVER = in_second()


def test_failures_of_one_class_count_a_few_times_a_block() -> None:
    samples = world([NEVER, in_second(3, 4, 103)]).samples
    found = tally(samples, CANDIDATE, {0: float(SECONDS)})
    assert (found.requests, found.failures, found.capped) == (4000, 60, 2 * CAP)
    two = tally(world([NEVER, in_second(3, 4, 103)], classes=("A", "B")).samples, CANDIDATE, {0: float(SECONDS)})
    assert (two.failures, two.capped) == (60, 4 * CAP)
    assert two.classes == (("A", 30), ("B", 30))
    assert tally(samples, BASELINE, {0: float(SECONDS)}).failures == 0


def test_and_less_where_blocks_differ_more_than_chance_would_have_it() -> None:
    assert clumped(np.array([2.0, 1.0, 2.0, 1.0])) == 1.0
    assert clumped(np.array([5.0, 0.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0])) == pytest.approx(5.357142857 / 1.25)
    assert clumped(np.zeros(9)) == clumped(np.array([3.0])) == 1.0
    found = tally(world([NEVER, in_second(3, 4, 103)]).samples, CANDIDATE, {0: float(SECONDS)})
    assert found.alone < 0.3 * found.capped
    steady = tally(world([NEVER, np.arange(4000) % 40 == 0]).samples, CANDIDATE, {0: float(SECONDS)})
    assert steady.alone == steady.capped == steady.failures == 100


def test_bursts_that_hit_either_arm_by_chance_are_seldom_called_a_difference() -> None:
    """2 s long, 5 a stage, in one arm each: identical builds, and of independent failures they would be plenty."""
    rng, failed = np.random.default_rng(4), 0
    for _ in range(120):
        hit = [set(), set()]
        for second in rng.integers(0, SECONDS - 1, 5).tolist():
            hit[rng.integers(2)] |= {second, second + 1}
        failed += judge_stage(world([in_second(*seconds) for seconds in hit]), 0).verdict == "rollback"
    assert failed <= 4  # 1.2 expected at most; of failures that were not thinned out, 15


def look_at(evidence: Evidence, now_ns: int | None) -> Difference:
    view = StageView.of(evidence, 0, now_ns)
    arms = [tally(view.samples, arm, view.planned_s) for arm in (BASELINE, CANDIDATE)]
    return Difference(view, "errors", 0.01, arms[0], arms[1], arms[0])


def test_a_look_claims_what_looks_may_and_has_a_share_for_what_cannot_wait() -> None:
    evidence = world([NEVER, NEVER])
    end, early = look_at(evidence, None), look_at(evidence, 10 * S)
    assert end.look_level == pytest.approx(look_alpha(ALPHA_FAIL * (1 - HASTE), 1.0))
    units = early.first.requests + early.second.requests
    assert early.look_level == pytest.approx(Looks(None).level(ALPHA_FAIL * HASTE, units))
    assert look_alpha(ALPHA_FAIL, 0.05) < 1e-9 < early.look_level < ALPHA_FAIL * HASTE
    assert look_at(evidence, 100 * S).look_level < ALPHA_FAIL / 4


def test_a_build_that_fails_half_of_its_requests_is_stopped_long_before_the_end() -> None:
    half = np.arange(4000) % 2 == 0
    assert judge_stage(world([NEVER, half], margin=0.1), 0, now_ns=10 * S).verdict == "rollback"


def test_the_bound_at_an_excess_of_just_the_margin() -> None:
    """Looked at all the time, such a build is seldom rolled back, though it has more failures than the baseline."""
    rng, failed = np.random.default_rng(6), 0
    for _ in range(40):
        evidence = world([rng.random(4000) < 0.01, rng.random(4000) < 0.06], margin=0.05)
        looks = (judge_stage(evidence, 0, now_ns=t * S).verdict for t in range(40, 201, 20))
        failed += "rollback" in looks
    assert failed <= 3


def test_tallies_add_up() -> None:
    one, two = Tally(10, 2, 2, 1.5, (("A", 2),)), Tally(20, 3, 3, 2.5, (("B", 2), ("A", 1)))
    assert one + two == Tally(30, 5, 5, 4.0, (("A", 3), ("B", 2)))
    assert math.isclose((one + two).rate, 1 / 6)
