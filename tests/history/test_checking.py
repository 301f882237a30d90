"""A run, or its repeats, against its history: red when it got worse, and only then."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from harness.history.checking import check, last_segment
from harness.history.level import level
from harness.history.scales import Floats
from harness.types import Finding


def noisy(seed: int, runs: int, noise: float = 0.03) -> Floats:
    return 0.1 * np.exp(noise * np.random.default_rng(seed).standard_normal(runs))


def judged(history: Floats, now: list[float] | Floats, **how: Any) -> Finding:
    how = {"worse": "higher", "smallest": 0.05, **how}
    return check("response_time.p50", "s", history, np.asarray(now, dtype=float), **how)


def test_a_run_that_is_clearly_worse_is_red_and_says_by_how_much() -> None:
    history = noisy(1, 30)
    found = judged(history, [0.13])
    assert (found.outcome, found.unit, found.margin) == ("fail", "ratio", 1.05)
    assert found.effect == pytest.approx(1.3, rel=0.03)
    assert found.candidate == pytest.approx(0.13)
    assert found.baseline == pytest.approx(0.1, rel=0.02)
    assert found.interval is not None
    assert found.interval[0] is not None
    assert 1.05 < found.interval[0] < found.effect
    assert (found.n_baseline, found.n_candidate) == (30, 1)
    assert "than in the 30 runs before (130 ms against" in found.reason
    assert "99 % sure it is at least" in found.reason


def test_what_is_better_is_no_failure() -> None:
    found = judged(noisy(1, 30), [0.08])
    assert found.outcome == "pass"
    assert found.reason.endswith(": better")
    assert judged(noisy(1, 30), [0.08], worse="lower").outcome == "fail"
    assert judged(noisy(1, 30), [0.08], worse="lower").margin == 0.95
    assert judged(noisy(1, 30), [0.08], worse="either").outcome == "fail"


def test_a_difference_too_small_to_matter_is_no_failure() -> None:
    found = judged(noisy(1, 40, 0.002), [0.102])
    assert found.outcome == "pass"
    assert "surely" in found.reason
    assert judged(noisy(1, 40, 0.002), [0.102], smallest=0.01).outcome == "fail"


@pytest.mark.parametrize("runs", [0, 1, 4])
def test_too_few_runs_say_how_many_more(runs: int) -> None:
    found = judged(noisy(1, runs), [0.5])
    assert found.outcome == "inconclusive"
    assert f"{5 - runs} more run" in found.reason
    assert judged(noisy(1, 5), [0.5]).outcome == "fail"


def test_nothing_measured_is_no_data() -> None:
    assert judged(noisy(1, 30), [math.nan, math.inf]).outcome == "no data"
    assert judged(noisy(1, 30), []).outcome == "no data"
    assert judged(noisy(1, 30), [math.nan, 0.13]).n_candidate == 1


def test_a_scatter_that_hides_the_smallest_effect_asks_for_repeats_and_these_do() -> None:
    history = noisy(2, 40)
    lone = judged(history, [0.102])
    assert lone.outcome == "inconclusive"
    assert "3 repeats of this run would do" in lone.reason
    assert judged(history, [0.1, 0.1, 0.1]).outcome == "pass"
    assert judged(history, [0.102], smallest=0.1).outcome == "pass"
    assert "more runs in the history" in judged(noisy(2, 5, 0.2), [0.1]).reason


def test_repeats_close_to_each_other_are_still_one_night() -> None:
    """Their own scatter is small; what nights differ by is not."""
    together = [0.1035, 0.1035, 0.1036]
    assert judged(noisy(3, 30), together, smallest=0.01).outcome != "fail"
    assert judged(noisy(3, 30, 0.003), together, smallest=0.01).outcome == "fail"


def test_repeats_that_scatter_more_than_the_history_count_by_their_own() -> None:
    calm = noisy(4, 30, 0.002)
    assert judged(calm, [0.108, 0.1081, 0.1079]).outcome == "fail"
    assert judged(calm, [0.08, 0.108, 0.14], smallest=0.05).outcome != "fail"


def test_wild_runs_of_the_history_widen_nothing_much() -> None:
    history = noisy(5, 40)
    plain = level(np.log(history), 0.001)
    history[[7, 23]] *= 3
    wild = level(np.log(history), 0.001)
    assert wild.middle == pytest.approx(plain.middle, abs=0.01)
    assert wild.scatter < 1.6 * plain.scatter
    assert judged(history, [0.113, 0.112, 0.114]).outcome == "fail"


def test_a_lone_run_as_bad_as_one_before_is_not_told_from_it() -> None:
    history = noisy(6, 40)
    history[11] *= 1.5
    found = judged(history, [0.14])
    assert found.outcome == "inconclusive"
    assert "1 of these were as bad" in found.reason
    assert judged(history, [0.14, 0.141]).outcome == "fail"
    assert judged(history, [0.17]).outcome == "fail"


def test_one_wild_repeat_is_not_enough() -> None:
    found = judged(noisy(7, 40), [0.1, 0.1, 0.2])
    assert found.outcome == "inconclusive"
    assert "repeat" in found.reason
    assert judged(noisy(7, 40), [0.1, 0.2, 0.2]).outcome == "fail"


def test_it_is_held_against_the_last_stable_segment() -> None:
    history = noisy(8, 60)
    history[40:] *= 1.3
    assert judged(history, [0.13], smallest=0.1).outcome == "pass"
    assert judged(history, [0.13], smallest=0.1).n_baseline <= 20
    few = last_segment(np.arange(10.0), ())
    assert list(few) == list(range(10))
    recent = judged(history[:43], [0.13])
    assert "since its last change" in recent.reason
    assert recent.outcome == "inconclusive"


def test_shares_are_held_against_points() -> None:
    def errors(now: list[float], history: Floats, smallest: float = 0.01) -> Finding:
        return check("errors", "pp", history, np.array(now), worse="higher", smallest=smallest)

    none = np.zeros(30)
    assert errors([0.0], none).outcome == "pass"
    assert errors([0.005], none).outcome == "pass"
    found = errors([0.05], none)
    assert (found.outcome, found.unit, found.margin) == ("fail", "pp", 0.01)
    assert found.effect == pytest.approx(0.05)
    assert "5 percentage points higher" in found.reason


def test_values_below_zero_are_held_against_a_difference() -> None:
    drift = np.random.default_rng(9).normal(0.0, 0.01, 30)
    found = check("quality.drift", "nats", drift, np.array([0.2]), worse="higher", smallest=0.05)
    assert (found.outcome, found.unit, found.margin) == ("fail", "nats", 0.05)
    assert found.effect == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("runs", [6, 30])
def test_all_metrics_together_cry_wolf_at_one_per_cent(repeats: int, runs: int) -> None:
    rng = np.random.default_rng([runs, repeats])
    red = 0
    for _ in range(1500):
        drawn = np.exp(0.03 * rng.standard_normal(runs + repeats))
        one = judged(drawn[:runs], drawn[runs:], smallest=0.0, alpha=0.05, changes=())
        red += one.outcome == "fail"
    assert red <= 1500 * 0.05 + 4 * math.sqrt(1500 * 0.05 * 0.95)
    assert red >= (5 if repeats == 1 else 1)
    history = noisy(1, 30)
    assert judged(history, [0.107]).outcome == "fail"
    assert judged(history, [0.107], metrics=10).outcome != "fail"
