"""Gates on memory where a metrics page is all that tells of a GPU."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.judge import Evidence, judge_stage
from harness.types import Finding, Gate
from tests.judge.measured import Stage

GIB = 2**30
ONE, TWO = "GPU-aa", "GPU-bb"
SHARE = Gate("memory.peak", limit=0.9, limit_kind="share")


def world(gate: Gate, source: str, **gib: float) -> Evidence:
    """A stage in which a page of `source` tells of two GPUs of 80 GiB: `one` and `two` are used."""
    stage = Stage(gates=(gate,))
    for device, used in zip((ONE, TWO), gib.values(), strict=True):
        stage.read(source, device, "gpu.memory.used", used * GIB, "bytes")
        stage.read(source, device, "gpu.memory.free", (80.0 - used) * GIB, "bytes")
        stage.read(source, device, "gpu.memory.total", 80.0 * GIB, "bytes")
    return replace(stage.evidence(), gpus={"baseline": (ONE,), "candidate": (TWO,)})


def of(evidence: Evidence) -> Finding:
    (one,) = (f for f in judge_stage(evidence, 0).findings if f.metric == "memory.peak")
    return one


@pytest.mark.parametrize("source", ["dcgm", "triton"])
@pytest.mark.parametrize(
    ("gate", "used", "outcome"),
    [
        (Gate("memory.peak", limit=40.0 * GIB), 39.0, "pass"),
        (Gate("memory.peak", limit=40.0 * GIB), 41.0, "fail"),
        (SHARE, 71.0, "pass"),
        (SHARE, 73.0, "fail"),
        (Gate("memory.peak", 0.10), 31.0, "pass"),
        (Gate("memory.peak", 0.10), 36.0, "fail"),
    ],
)
def test_a_page_feeds_every_kind_of_memory_gate(source: str, gate: Gate, used: float, outcome: str) -> None:
    found = of(world(gate, source, one=30.0, two=used))
    assert found.outcome == outcome
    assert TWO in found.reason


def test_nvml_is_asked_first_and_then_dcgm_and_triton_last() -> None:
    stage = Stage(gates=(Gate("memory.peak", limit=40.0 * GIB),))
    outcomes = []
    for source, device, used in (("triton", ONE, 45.0), ("dcgm", ONE, 39.0), ("nvml", "gpu0", 46.0)):
        stage.read(source, device, "gpu.memory.used", used * GIB, "bytes")
        outcomes.append(of(stage.evidence()).outcome)
    assert outcomes == ["fail", "pass", "fail"]
