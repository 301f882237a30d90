"""Requests that leave late, or not at all, void what was measured; what leaves in time does not."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from harness.judge import judge_stage
from harness.types import Gate
from tests.judge.measured import Stage, faults


def test_requests_that_leave_in_time_are_no_fault() -> None:
    verdict = judge_stage(Stage().evidence(), 0)
    assert verdict.verdict == "promote"
    assert faults(verdict) == {}
    audit = verdict.audit
    assert audit is not None
    assert audit.lag_p50_s == pytest.approx(3.4e-5, rel=0.2)
    assert audit.lag_p99_s == pytest.approx(1.3e-4, rel=0.2)
    assert audit.lag_limit_s == pytest.approx(0.005, rel=0.05)
    assert (audit.late, audit.planned, audit.sent) == (0.0, 3000, 3000)
    assert audit.overloaded == ()


@pytest.mark.parametrize("ratio", [1.0, 1.5])
def test_a_generator_that_falls_behind_neither_promotes_nor_rolls_back(ratio: float) -> None:
    stage = Stage(ratio=ratio)
    assert judge_stage(stage.evidence(), 0).verdict == ("promote" if ratio == 1.0 else "rollback")
    stage.lag[::15] = 0.02
    stage.read("generator", "worker0", "cpu", 0.97, "ratio")
    stage.read("generator", "worker0", "stall_max", 0.012, "s")
    verdict = judge_stage(stage.evidence(), 0)
    assert verdict.verdict == "inconclusive"
    reason = faults(verdict)["lag"].reason
    assert "6.7 % of requests (400 of 6000) left over" in reason
    assert "at 100/s" in reason
    assert "p99 20.0 ms" in reason
    assert "its core was full (97.0 % used)" in reason
    assert "stood still for up to 12.0 ms" in reason
    assert verdict.reason.startswith("The generator fell behind")


def test_lag_is_held_against_what_is_measured() -> None:
    stage = Stage(took=0.4)
    stage.lag[::10] = 0.02
    assert "lag" not in faults(judge_stage(stage.evidence(), 0))
    stage.lag[::10] = 0.06
    assert "lag" in faults(judge_stage(stage.evidence(), 0))


def test_late_requests_count_as_far_as_they_reach_what_is_gated() -> None:
    for metric, every, wanted in (("p50", 40, False), ("p99", 40, True), ("p99", 200, False), ("p90", 15, True)):
        stage = Stage(gates=(Gate(f"response_time.{metric}", margin=0.1),))
        stage.lag[::every] = 0.02
        assert ("lag" in faults(judge_stage(stage.evidence(), 0))) == wanted


@pytest.mark.parametrize(("lag_s", "wanted"), [(0.0, "promote"), (0.02, "promote"), (0.5, "inconclusive")])
def test_where_a_stage_is_only_watched_late_requests_look_worse_and_so_prove_enough(lag_s: float, wanted: str) -> None:
    stage = Stage(mode="split", more={"purpose": "soak"}, gates=(Gate("errors"),))
    stage.lag[:: 1 if lag_s > 0.1 else 10] = lag_s
    verdict = judge_stage(stage.evidence(), 0)
    assert verdict.verdict == wanted
    assert ("lag" in faults(verdict)) == (lag_s > 0)


def test_a_few_late_requests_are_chance() -> None:
    stage = Stage(seconds=1)
    stage.lag[7] = 0.02
    assert "lag" not in faults(judge_stage(stage.evidence(), 0))


def test_a_median_lag_of_a_tenth_of_what_is_measured_is_a_fault() -> None:
    stage = Stage(took=0.002)
    stage.lag += 1.5e-4
    assert "lag" not in faults(judge_stage(stage.evidence(), 0))
    stage.lag += 1e-4
    assert "half of the requests left over" in faults(judge_stage(stage.evidence(), 0))["lag"].reason


def test_one_slow_worker_among_many_is_named() -> None:
    stage = Stage(workers=4, rate=100)
    mine = np.flatnonzero(stage.worker == 2)
    stage.lag[mine[::8]] = 0.02
    for worker in range(4):
        stage.read("generator", f"worker{worker}", "cpu", 0.95 if worker == 1 else 0.3, "ratio")
        stage.read("generator", f"worker{worker}", "unsent", 40 if worker == 2 else 0)
    reason = faults(judge_stage(stage.evidence(), 0))["lag"].reason
    assert "most often those of worker 2" in reason
    assert "up to 40 requests waited for a free connection" in reason
    assert "core was full" not in reason


def test_lag_without_readings_is_found_all_the_same() -> None:
    stage = Stage()
    stage.lag[::10] = 0.5
    assert faults(judge_stage(stage.evidence(), 0))["lag"].reason.endswith("no reading says why")


def test_a_closed_loop_has_no_lag() -> None:
    stage = Stage(in_flight=8, took=0.15)
    stage.lag[:] = 0.01
    verdict = judge_stage(stage.evidence(), 0)
    assert "lag" not in faults(verdict)
    assert verdict.audit is not None
    assert verdict.audit.lag_p99_s is None


def test_a_candidate_that_fails_is_rolled_back_however_late_its_requests_left() -> None:
    stage = Stage()
    stage.lag[::10] = 0.1
    stage.status[1][::3] = "error"
    verdict = judge_stage(stage.evidence(), 0)
    assert "lag" in faults(verdict)
    assert verdict.verdict == "rollback"


@pytest.mark.parametrize(("status", "wanted"), [("error", "rollback"), ("timeout", "inconclusive")])
def test_time_outs_of_a_late_generator_break_no_limit(status: str, wanted: str) -> None:
    stage = Stage(gates=(Gate("errors", limit=0.02),))
    stage.lag[::10] = 0.1
    for arm in stage.status:
        arm[::5] = status
    assert judge_stage(stage.evidence(), 0).verdict == wanted
    stage.lag[:] = 0
    assert judge_stage(stage.evidence(), 0).verdict == "rollback"


# ------------------------------------------------------------------------------------------------ how many


def test_numbers_of_the_plan_that_were_never_sent_are_a_fault() -> None:
    stage = Stage()
    stage.kept[100:160] = False
    assert faults(judge_stage(stage.evidence(), 0)) == {}
    stage.kept[100:180] = False
    verdict = judge_stage(stage.evidence(), 0)
    assert (
        "80 of the 3000 pairs that were due (2.7 %) were never sent: 48.7/s in place of 50/s" in verdict.reason.lower()
    )
    assert verdict.verdict == "inconclusive"


@pytest.mark.parametrize("arrival", ["poisson", "constant"])
def test_a_load_that_ends_early_is_a_fault(arrival: str) -> None:
    stage = Stage(arrival=arrival, seconds=100)
    stage.kept = stage.due < 98.2
    assert faults(judge_stage(stage.evidence(), 0)) == {}
    stage.kept = stage.due < 90
    found = faults(judge_stage(stage.evidence(), 0))
    assert re.search(r"were never sent: 45(\.\d)?/s in place of (50|49|50\.\d)/s", found["rate"].reason)


def test_chance_makes_a_short_stage_short() -> None:
    stage = Stage(rate=1, seconds=20, took=0.5)
    stage.kept[14:] = False
    assert "rate" not in faults(judge_stage(stage.evidence(), 0))
    steady = Stage(rate=1, seconds=20, took=0.5, arrival="constant")
    steady.kept[14:] = False
    assert "rate" in faults(judge_stage(steady.evidence(), 0))
    bursts = Stage(rate=20, seconds=20, took=0.5, arrival="gamma", more={"burstiness": 0.1})
    bursts.kept[370:] = False
    assert "rate" not in faults(judge_stage(bursts.evidence(), 0))


def test_a_ramp_is_held_against_the_rate_that_it_had_reached() -> None:
    stage = Stage(rate=100, more={"rate": 50.0, "rate_to": 150.0})
    verdict = judge_stage(stage.evidence(), 0)
    assert "rate" not in faults(verdict)
    assert verdict.audit is not None
    assert verdict.audit.planned == 6000
    stage.kept = stage.due < 50
    sent = int(stage.kept.sum())
    audit = judge_stage(stage.evidence(), 0).audit
    assert audit is not None
    assert audit.planned == pytest.approx(sent + 10 * (133 + 150) / 2, abs=20)


def test_a_stage_that_was_cut_short_is_not_held_against_its_rate() -> None:
    stage = Stage()
    stage.kept = stage.due < 30
    verdict = judge_stage(stage.evidence(), 0, now_ns=30 * 10**9)
    assert "rate" not in faults(verdict)
    assert verdict.audit is not None
    assert verdict.audit.planned is None


def test_of_a_plan_any_number_of_requests_can_be_missing_of_a_bare_file_none_is_known_to() -> None:
    stage = Stage(seconds=200.0)
    stage.kept = np.arange(stage.n) % 200 == 0
    evidence = stage.evidence()
    assert "(99.5 %) were never sent" in faults(judge_stage(evidence, 0))["rate"].reason
    assert "rate" not in faults(judge_stage(replace(evidence, planned=0), 0))


def test_slots_of_a_closed_loop_that_stand_empty_stop_a_promote_but_no_rollback() -> None:
    held = Stage(in_flight=8, rate=50, took=0.15)
    verdict = judge_stage(held.evidence(), 0)
    assert "rate" not in faults(verdict)
    assert verdict.audit is not None
    assert verdict.audit.in_flight == pytest.approx(8, rel=0.1)
    empty = Stage(in_flight=8, rate=20, took=0.15)
    verdict = judge_stage(empty.evidence(), 0)
    assert "planned were 8" in faults(verdict)["rate"].reason
    assert verdict.verdict == "inconclusive"
    slow = Stage(in_flight=8, rate=15, took=0.15, ratio=1.5)
    assert "rate" in faults(judge_stage(slow.evidence(), 0))
    assert judge_stage(slow.evidence(), 0).verdict == "rollback"
