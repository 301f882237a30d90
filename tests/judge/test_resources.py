"""Peaks of memory: whose they are, how often was read, and what a gap proves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.judge import Evidence, judge, judge_stage
from harness.types import Finding, Gate
from tests.judge.measured import Stage

GIB = 2**30
MARGIN, LIMIT = Gate("memory.peak", 0.10), Gate("memory.peak", limit=40.0 * GIB)
OWN = {"baseline": ("gpu0",), "candidate": ("gpu1",)}


def world(*gates: Gate, own: bool = True, **gib: Any) -> Evidence:
    """A stage of 60 s; `gib`: memory used of each GPU, one value or one a second."""
    stage = Stage(gates=gates or (MARGIN,))
    for device, values in gib.items():
        each = np.asarray(values, float) * GIB + np.zeros(60)
        stage.read("nvml", device, "gpu.memory.used", each.tolist(), "bytes")
    return replace(stage.evidence(), gpus=OWN if own else {})


def of(evidence: Evidence, now_ns: int | None = None) -> Finding:
    (one,) = (f for f in judge_stage(evidence, 0, now_ns=now_ns).findings if f.metric == "memory.peak")
    return one


def without(evidence: Evidence, first_s: int, last_s: int) -> Evidence:
    """Nobody read between these seconds."""
    assert evidence.readings is not None
    seconds = evidence.readings["t_ns"].to_numpy() / 1e9
    kept = np.flatnonzero((seconds < first_s) | (seconds > last_s))
    return replace(evidence, readings=evidence.readings.take(kept))


def test_each_arms_own_gpu_is_compared() -> None:
    one = of(world(gpu0=20.0, gpu1=21.0))
    assert one.outcome == "pass"
    assert one.reason == (
        "peak memory is 5.0 % higher on v2 than on v1 (21 GiB of gpu1 against 20 GiB of gpu0; read every 1.00 s, what "
        "rose and fell in between is not seen); 95 % sure it is at most 5.0 % higher, margin 10 %"
    )
    assert (one.baseline, one.candidate, one.margin) == (20 * GIB, 21 * GIB, 1.10)
    assert one.effect == pytest.approx(1.05)
    worse = of(world(gpu0=20.0, gpu1=24.0))
    assert worse.outcome == "fail"
    assert worse.reason.endswith("99 % sure it is at least 20.0 % higher, margin 10 %")
    assert of(world(gpu0=20.0, gpu1=10.0)).outcome == "pass"


def test_one_spike_does_not_pass_and_is_not_called_a_difference_of_builds() -> None:
    spiked = np.full(60, 20.0)
    spiked[33] = 30.0
    one = of(world(gpu0=20.0, gpu1=spiked))
    assert one.outcome == "inconclusive"
    assert one.effect == pytest.approx(1.5)


def test_what_both_share_cannot_be_compared() -> None:
    one = of(world(gpu0=20.0, own=False))
    assert (one.outcome, one.reason) == (
        "no data",
        "the scenario does not say which of the GPUs (gpu0) serves v1 or v2 alone (as in candidate: {gpus: [1]}), and "
        "what both arms share cannot be told apart",
    )
    assert judge(world(gpu0=20.0, own=False)).verdict == "inconclusive"


def test_a_gpu_that_gave_no_readings() -> None:
    one = of(world(gpu0=20.0))
    assert (one.outcome, one.reason) == ("no data", "gpu1 gave no readings (gpu.memory.used) in this stage")
    assert of(world()).outcome == "no data"
    assert of(world(LIMIT)).reason == (
        "no memory was read in this stage: neither of a GPU (NVML) nor of the server's processes"
    )
    assert of(world(LIMIT, gpu0=20.0)).outcome == "no data", "the candidate's is gpu1"


@pytest.mark.parametrize("gap", [(10, 18), (-1, 9), (52, 99)])
def test_a_gap_in_the_readings_is_no_data(gap: tuple[int, int]) -> None:
    for gate in (MARGIN, LIMIT):
        one = of(without(world(gate, gpu0=20.0, gpu1=20.0), *gap))
        assert one.outcome == "no data", one.reason
        assert "nobody read gpu" in one.reason
        assert "of the stage (it is read every 1.00 s)" in one.reason
    assert of(without(world(gpu0=20.0, gpu1=20.0), 10, 13)).outcome == "pass", "a poll or two may be late"


def test_what_broke_the_limit_in_spite_of_a_gap_has_broken_it() -> None:
    assert of(without(world(LIMIT, gpu0=20.0, gpu1=41.0), 10, 30)).outcome == "fail"


def test_a_limit_holds_for_what_both_share() -> None:
    one = of(world(LIMIT, gpu0=39.0, own=False))
    assert (one.outcome, one.unit, one.margin) == ("pass", "bytes", 40 * GIB)
    assert one.reason == (
        "peak memory of gpu0 was 39 GiB, limit 40 GiB; read every 1.00 s, what rose and fell in between is not seen"
    )
    spiked = np.full(60, 20.0)
    spiked[50] = 41.5
    assert of(world(LIMIT, gpu0=spiked, own=False)).outcome == "fail"
    assert judge(world(LIMIT, gpu0=spiked, own=False)).verdict == "rollback"
    assert of(world(LIMIT, gpu0=30.0, gpu1=41.0, own=False)).outcome == "fail", "any of them"
    assert of(world(LIMIT, gpu0=41.0, gpu1=30.0)).outcome == "pass", "the candidate's own is gpu1"


def test_a_limit_is_broken_at_once_and_kept_at_the_end_only() -> None:
    rising = np.linspace(20, 50, 60)
    evidence = world(LIMIT, gpu0=20.0, gpu1=rising)
    assert of(evidence, now_ns=20 * 10**9).outcome == "inconclusive"
    assert of(evidence, now_ns=50 * 10**9).outcome == "fail"


def test_a_split_holds_the_limit_and_has_no_margin() -> None:
    evidence = world(LIMIT, gpu0=20.0, gpu1=41.0)
    record = evidence.stages[0]
    split = (replace(record, plan=replace(record.plan, mode="split", candidate_share=0.1)),)
    assert of(replace(evidence, stages=split)).outcome == "fail"
    margin = judge_stage(replace(world(MARGIN, gpu0=20.0, gpu1=41.0), stages=split), 0)
    assert all(f.metric != "memory.peak" for f in margin.findings)


def processes(gate: Gate, **mib: float) -> Evidence:
    stage = Stage(gates=(gate,))
    for device, value in mib.items():
        stage.read("process", device.replace("_", "/"), "memory.rss", value * 2**20, "bytes")
    return stage.evidence()


def test_without_a_gpu_the_processes_of_either_model_are_compared() -> None:
    one = of(processes(MARGIN, server=900.0, m_1=100.0, m_2=130.0))
    assert one.outcome == "fail"
    assert "(130 MiB of the processes of m/2 against 100 MiB of the processes of m/1; read every" in one.reason
    shared = of(processes(MARGIN, server=900.0))
    assert (shared.outcome, shared.reason) == (
        "no data",
        "both arms are served by the same processes, whose memory cannot be told apart",
    )
    assert "of the server's processes was 900 MiB" in of(processes(LIMIT, server=900.0)).reason
    assert "of the processes of m/2 was 130 MiB" in of(processes(LIMIT, server=900.0, m_2=130.0)).reason


def test_several_gpus_of_an_arm_count_together_against_the_baseline_and_each_against_a_limit() -> None:
    two = {"baseline": ("gpu0",), "candidate": ("gpu1", "gpu2")}
    evidence = replace(world(MARGIN, gpu0=40.0, gpu1=21.0, gpu2=22.0), gpus=two)
    assert of(evidence).effect == pytest.approx(43 / 40)
    assert "43 GiB of gpu1 and gpu2" in of(evidence).reason
    limited = replace(world(LIMIT, gpu0=40.0, gpu1=21.0, gpu2=22.0), gpus=two)
    assert of(limited).effect == 22 * GIB


def test_triton_tells_of_its_gpus_where_nvml_is_on_another_machine() -> None:
    stage = Stage(gates=(LIMIT,))
    stage.read("triton", "GPU-aa", "gpu.memory.used", 41.0 * GIB, "bytes")
    assert of(stage.evidence()).outcome == "fail"
