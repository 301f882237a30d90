"""Joules a request, and throughput per GPU: of GPUs that an arm has to itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from harness.judge import Evidence, judge_stage
from harness.types import Finding, Gate
from tests.judge.measured import Stage

ENERGY = Gate("energy", 0.10)
OWN = {"baseline": ("gpu0",), "candidate": ("gpu1",)}


def world(
    watts: Mapping[str, float], *, metric: str = "gpu.energy", gates: tuple[Gate, ...] = (ENERGY,), **more: object
) -> Stage:
    """50 answers a second of either arm; each GPU draws so many watts, with some noise of its own."""
    stage = Stage(gates=gates, **more)  # type: ignore[arg-type]
    for number, (device, power) in enumerate(watts.items()):
        drawn = power * (1 + np.random.default_rng(number).normal(0, 0.05, 60))
        values = 1e6 + np.cumsum(drawn) if metric == "gpu.energy" else drawn
        stage.read("nvml", device, metric, values.tolist(), "J" if metric == "gpu.energy" else "W")
    return stage


def evidence(stage: Stage, own: Mapping[str, tuple[str, ...]] = OWN) -> Evidence:
    return replace(stage.evidence(), gpus=own)


def of(known: Evidence, metric: str = "energy") -> Finding:
    (one,) = (f for f in judge_stage(known, 0).findings if f.metric == metric)
    return one


@pytest.mark.parametrize("metric", ["gpu.energy", "gpu.power"])
@pytest.mark.parametrize(("watts", "outcome"), [(250.0, "pass"), (300.0, "fail"), (200.0, "pass")])
def test_joules_for_each_answer(metric: str, watts: float, outcome: str) -> None:
    one = of(evidence(world({"gpu0": 250.0, "gpu1": watts}, metric=metric)))
    assert one.outcome == outcome, one.reason
    assert one.baseline == pytest.approx(250 / 50, rel=0.03)
    assert one.candidate == pytest.approx(watts / 50, rel=0.03)
    assert one.effect == pytest.approx(watts / 250, rel=0.03)
    assert ("summed up from power" in one.reason) == (metric == "gpu.power")


def test_the_sentence() -> None:
    one = of(evidence(world({"gpu0": 250.0, "gpu1": 300.0})))
    assert one.reason.startswith("energy a request is ")
    assert " J of gpu1 against " in one.reason
    assert "J of gpu0), idle power included; 99 % sure it is at least " in one.reason
    assert one.reason.endswith("higher, margin 10 %")


def test_failed_requests_cost_energy_and_answer_nothing() -> None:
    stage = world({"gpu0": 250.0, "gpu1": 250.0})
    stage.status[1][::4] = "error"
    one = of(evidence(stage))
    assert one.effect == pytest.approx(4 / 3, rel=0.03)
    assert one.outcome == "fail"


def test_without_gpus_of_its_own_an_arm_has_no_energy() -> None:
    shared = of(evidence(world({"gpu0": 250.0}), {}))
    assert (shared.outcome, shared.reason) == (
        "no data",
        "the scenario does not say which of the GPUs (gpu0) serves v1 or v2 alone (as in candidate: {gpus: [1]}), and "
        "what both arms share cannot be told apart",
    )
    half = of(evidence(world({"gpu0": 250.0}), {"baseline": ("gpu0",)}))
    assert "serves v2 alone" in half.reason
    assert of(evidence(world({}))).outcome == "no data"
    assert of(evidence(world({}))).reason == "no GPU gave readings (gpu.energy) in this stage"
    assert of(evidence(world({"gpu0": 250.0}))).reason == "gpu1 gave no readings (gpu.energy) in this stage"


def test_a_counter_that_began_anew() -> None:
    stage = Stage(gates=(ENERGY,))
    for device in ("gpu0", "gpu1"):
        counter = np.cumsum(np.full(60, 250.0))
        counter[30:] -= counter[30]
        stage.read("nvml", device, "gpu.energy", counter.tolist(), "J")
    assert of(evidence(stage)).outcome == "no data"
    assert "began anew" in of(evidence(stage)).reason


def test_a_gap_and_a_silent_arm() -> None:
    known = evidence(world({"gpu0": 250.0, "gpu1": 250.0}))
    assert known.readings is not None
    seconds = known.readings["t_ns"].to_numpy() / 1e9
    gap = replace(known, readings=known.readings.take(np.flatnonzero((seconds < 20) | (seconds > 40))))
    assert of(gap).outcome == "no data"
    stage = world({"gpu0": 250.0, "gpu1": 250.0})
    stage.status[1][:] = "error"
    assert of(evidence(stage)).reason == "v2 answered nothing: no answer to share the energy among"


def test_throughput_per_gpu() -> None:
    gate = Gate("throughput_per_gpu", 0.10)
    stage = Stage(in_flight=4, ratio=0.6, gates=(gate,))
    for device in ("gpu0", "gpu1", "gpu2"):
        stage.read("nvml", device, "gpu.memory.used", 2.0**34, "bytes")
    one = of(evidence(stage, {"baseline": ("gpu0",), "candidate": ("gpu1", "gpu2")}), gate.metric)
    assert one.outcome == "fail"
    assert one.effect == pytest.approx(1 / 0.6 / 2, rel=0.02)
    assert "answers a second and GPU (on 2 against 1), for each request in flight" in one.reason
    same = of(evidence(stage), gate.metric)
    assert same.outcome == "pass", "on one GPU each, v2 is the faster one"
    assert of(evidence(stage, {}), gate.metric).outcome == "no data"
    assert of(evidence(stage, {"baseline": ("gpu0",), "candidate": ("gpu7",)}), gate.metric).outcome == "no data"
