"""The generator's own machine: what informs, what stops a promote, what was lost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.judge import judge_stage
from harness.judge.columns import CANCELLED
from harness.judge.evidence import LoadWorker
from harness.load.outcome import GENERATOR
from harness.types import Gate
from tests.judge.measured import Stage, faults
from tests.judge.worlds import S

LIMIT = (Gate("response_time.p50", limit=0.06),)


def busy(stage: Stage, cpu: float = 0.99) -> Stage:
    stage.read("generator", "worker0", "cpu", cpu, "ratio")
    return stage


def test_a_full_core_informs_where_requests_left_in_time() -> None:
    verdict = judge_stage(busy(Stage()).evidence(), 0)
    assert verdict.verdict == "promote"
    assert faults(verdict)["generator"].outcome == "pass"
    assert "worker 0 used 99.0 % of a core" in faults(verdict)["generator"].reason
    assert faults(judge_stage(busy(Stage(), 0.8).evidence(), 0)) == {}


def test_a_core_that_was_full_for_a_moment_is_nothing() -> None:
    stage = Stage()
    stage.read("generator", "worker0", "cpu", [0.99] * 20 + [0.3] * 40, "ratio")
    verdict = judge_stage(stage.evidence(), 0)
    assert faults(verdict) == {}
    assert verdict.audit is not None
    assert verdict.audit.cpu == pytest.approx(0.53)


@pytest.mark.parametrize(("ratio", "wanted"), [(1.0, "inconclusive"), (1.4, "rollback")])
def test_a_full_core_in_a_closed_loop_stops_a_promote_but_no_rollback(ratio: float, wanted: str) -> None:
    stage = busy(Stage(in_flight=8, took=0.15, ratio=ratio))
    assert judge_stage(stage.evidence(), 0).verdict == wanted
    calm = busy(Stage(in_flight=8, took=0.15, ratio=ratio), 0.5)
    assert judge_stage(calm.evidence(), 0).verdict == ("promote" if ratio == 1.0 else "rollback")


@pytest.mark.parametrize("ratio", [1.0, 1.5])
def test_an_event_loop_that_stands_still_too_long_voids_what_it_stamped(ratio: float) -> None:
    stage = Stage(in_flight=8, took=0.15, ratio=ratio)
    stage.read("generator", "worker0", "stall_max", [0.2 if i % 2 else 0.001 for i in range(60)], "s")
    verdict = judge_stage(stage.evidence(), 0)
    assert verdict.verdict == "inconclusive"
    reason = faults(verdict)["generator"].reason
    assert "worker 0 stood still for 10.0 % of the time, up to 200.0 ms at once" in reason


def test_pauses_are_held_against_what_is_measured_and_what_is_gated() -> None:
    pauses = [0.1 if i % 4 else 0.001 for i in range(60)]
    slow = Stage(rate=2, took=3.0)
    slow.read("generator", "worker0", "stall_max", pauses, "s")
    assert faults(judge_stage(slow.evidence(), 0)) == {}
    some = [0.08 if i % 5 == 0 else 0.001 for i in range(60)]  # 1.6 % of the time
    median = Stage()
    median.read("generator", "worker0", "stall_max", some, "s")
    assert faults(judge_stage(median.evidence(), 0)) == {}
    tail = Stage(gates=(Gate("response_time.p99", margin=0.1),))
    tail.read("generator", "worker0", "stall_max", some, "s")
    assert "generator" in faults(judge_stage(tail.evidence(), 0))


def test_one_pause_is_an_accident() -> None:
    stage = Stage()
    stage.read("generator", "worker0", "stall_max", [4.0 if i == 30 else 0.001 for i in range(60)], "s")
    verdict = judge_stage(stage.evidence(), 0)
    assert faults(verdict) == {}
    assert verdict.audit is not None
    assert verdict.audit.stall_s == 4.0


def test_steal_and_a_full_host_inform_where_arms_suffer_together() -> None:
    for metric, value in (("cpu.steal", 0.06), ("cpu.steal", 0.3), ("cpu.utilization", 0.99)):
        stage = Stage()
        stage.read("host", "host", metric, value, "ratio")
        verdict = judge_stage(stage.evidence(), 0)
        assert verdict.verdict == "promote"
        assert faults(verdict)["host"].outcome == "pass"
    stage = Stage()
    stage.read("host", "host", "cpu.steal", 0.01, "ratio")
    stage.read("host", "host", "cpu.utilization", 0.6, "ratio")
    verdict = judge_stage(stage.evidence(), 0)
    assert faults(verdict) == {}
    assert verdict.audit is not None
    assert (verdict.audit.steal, verdict.audit.host_cpu) == (pytest.approx(0.01), pytest.approx(0.6))


@pytest.mark.parametrize(("steal", "wanted"), [(0.0, "rollback"), (0.3, "inconclusive")])
def test_an_absolute_limit_that_broke_while_the_host_withheld_its_cpu_is_not_the_builds(
    steal: float, wanted: str
) -> None:
    stage = Stage(took=0.1, gates=LIMIT)
    stage.read("host", "host", "cpu.steal", steal, "ratio")
    assert judge_stage(stage.evidence(), 0).verdict == wanted


def test_readings_of_other_stages_are_not_this_ones() -> None:
    stage = Stage()
    stage.readings = [(-S, "generator", "worker0", "cpu", 1.0, "ratio"), (61 * S, "host", "host", "cpu.steal", 0.9, "")]
    verdict = judge_stage(stage.evidence(), 0)
    assert verdict.audit is not None
    assert verdict.audit.cpu is None
    assert verdict.audit.steal is None


def test_a_clock_that_is_hardly_known_cannot_order_requests() -> None:
    for error_s, wanted in ((0.001, None), (0.02, "pass"), (0.8, "inconclusive")):
        stage = Stage(workers=2)
        for worker in range(2):
            stage.read("generator", f"worker{worker}", "clock_error", error_s * worker, "s")
        found = faults(judge_stage(stage.evidence(), 0)).get("clock")
        assert (found.outcome if found else None) == wanted


def test_a_worker_that_says_nothing_of_itself_is_a_fault_where_others_do() -> None:
    stage = Stage(workers=2)
    stage.read("generator", "worker0", "cpu", 0.2, "ratio")
    assert "worker 1 sent requests and recorded nothing" in faults(judge_stage(stage.evidence(), 0))["generator"].reason
    stage.read("generator", "worker1", "cpu", 0.2, "ratio")
    assert faults(judge_stage(stage.evidence(), 0)) == {}


def test_a_deploy_is_no_measurement_of_times() -> None:
    stage = busy(Stage(mode="split", more={"purpose": "deploy", "rate": 50.0}))
    stage.lag[::10] = 0.5
    assert not {"lag", "generator", "rate"} & set(faults(judge_stage(stage.evidence(), 0)))


# ------------------------------------------------------------------------------------------------ lost workers


def test_a_lost_worker_is_told_with_time_and_host() -> None:
    stage = Stage(workers=2)
    stage.kept = (stage.worker == 0) | (stage.due < 20)
    verdict = judge_stage(stage.evidence(workers=[LoadWorker(0, "a"), LoadWorker(1, "b", 20 * S, "was silent")]), 0)
    assert verdict.verdict == "inconclusive"
    assert "Load worker 1 on b was lost 20 s into the stage (was silent)" in verdict.reason


@pytest.mark.parametrize(("more", "wanted"), [({}, True), ({"in_flight_to": 2}, True), ({"in_flight_to": 1}, False)])
def test_a_worker_without_a_slot_is_not_missed(more: dict[str, object], wanted: bool) -> None:
    """Slots are dealt out in turn: while a ramp has one slot only, the second worker has nothing to send."""
    stage = Stage(rate=20.0, took=0.095, in_flight=2, workers=2, more=more)
    stage.kept = (stage.worker == 0) | (stage.due < 20)
    assert ("workers" in faults(judge_stage(stage.evidence(), 0))) == wanted


def test_samples_that_did_not_come_whole_are_no_measurement() -> None:
    for damaged, wanted in ((("outputs-1.arrow",), "promote"), (("samples-1.arrow",), "inconclusive")):
        workers = [LoadWorker(0, "a"), LoadWorker(1, "b", damaged=damaged)]
        verdict = judge_stage(Stage(workers=2).evidence(workers=workers), 0)
        assert verdict.verdict == wanted
        assert ("workers" in faults(verdict)) == (wanted == "inconclusive")


def test_the_clock_of_a_worker_is_known_from_run_json_too() -> None:
    workers = [LoadWorker(0, "a", clock_error_s=0.0), LoadWorker(1, "b", clock_error_s=0.8)]
    verdict = judge_stage(Stage(workers=2).evidence(workers=workers), 0)
    assert "the clock of worker 1 is known to 800.0 ms only" in faults(verdict)["clock"].reason
    assert verdict.audit is not None
    assert verdict.audit.clock_error_s == 0.8


def test_workers_that_were_lost_before_or_not_at_all_do_not_stop_a_stage() -> None:
    none = judge_stage(Stage().evidence(workers=[LoadWorker(0, "a"), LoadWorker(1, "b")]), 0)
    assert faults(none) == {}
    later = judge_stage(Stage().evidence(workers=[LoadWorker(0, "a", 100 * S)]), 0)
    assert faults(later) == {}
    through = judge_stage(Stage().evidence(workers=[LoadWorker(0, "a", 59 * S, "was killed", done=(0,))]), 0)
    assert (through.verdict, faults(through)) == ("promote", {})
    share = Stage(workers=4)
    share.kept = share.worker != 1
    found = faults(judge_stage(share.evidence(workers=[LoadWorker(1, "b", -S)]), 0))
    assert "(25.0 %) were never sent: 37.5/s in place of 50/s; load worker 1 had been lost" in found["rate"].reason
    before = judge_stage(Stage().evidence(workers=[LoadWorker(0), LoadWorker(1, "b", -S)]), 0)
    assert before.verdict == "promote"
    assert faults(before)["workers"].outcome == "pass"


@pytest.mark.parametrize(("lost", "wanted"), [(0, "promote"), (2, "promote"), (60, "inconclusive")])
def test_requests_that_found_no_socket_on_the_generator_are_nobody_s_failure(lost: int, wanted: str) -> None:
    """The word for it is the one of the load's own outcomes."""
    stage = Stage()
    for status in stage.status:
        status[:lost] = "cancelled"
    evidence = stage.evidence()
    samples = evidence.samples
    error = np.where(samples.status == CANCELLED, 1, 0).astype(np.int32)
    evidence = replace(evidence, samples=replace(samples, error=error, error_names=("", GENERATOR)))
    verdict = judge_stage(evidence, 0)
    assert verdict.verdict == wanted
    if lost > 10:
        assert f"{2 * lost} of 6000 requests found no socket free" in faults(verdict)["generator"].reason
    else:
        assert "generator" not in faults(verdict)
