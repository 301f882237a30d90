"""Gates on throughput, goodput, memory and energy: how they are written, and where they can be answered."""

import json
from pathlib import Path

import pytest

from harness.errors import ScenarioError
from harness.scenario import describe, load
from harness.types import Gate
from harness.units import format_bytes, parse_bytes

GPUS = """\
name: two-gpus
target: {url: "grpc://127.0.0.1:8001", metrics_url: "http://127.0.0.1:8002/metrics"}
baseline: {model: llm, version: 1, gpus: [0]}
candidate: {model: llm, version: 2, gpus: [1, GPU-3c2e-aa]}
gates:
  - {metric: request_throughput, margin: 5%}
  - {metric: goodput, margin: 5%, within: {ttft: 500ms, tpot: 50ms}}
  - {metric: memory.peak, max: 40GiB}
  - {metric: energy, margin: 10%}
  - {metric: throughput_per_gpu}
stages:
  - {mode: interleaved, in_flight: 8, for: 2m}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "two-gpus.yaml"
    path.write_text(GPUS)
    return path


def test_they_are_read_and_written_again(file: Path, tmp_path: Path) -> None:
    scenario = load(str(file))
    assert scenario.gates == (
        Gate("request_throughput", 0.05),
        Gate("goodput", 0.05, within={"ttft": 0.5, "tpot": 0.05}),
        Gate("memory.peak", limit=40.0 * 2**30),
        Gate("energy", 0.10),
        Gate("throughput_per_gpu", 0.10),
    )
    assert (scenario.baseline.devices, scenario.candidate.devices) == (("gpu0",), ("gpu1", "GPU-3c2e-aa"))
    again = tmp_path / "again.yaml"
    again.write_text(json.dumps(scenario.model_dump(mode="json")))
    assert load(str(again)) == scenario
    edge = load(str(file), ["gates.2.max=92.5%"])
    assert edge.gates[2] == Gate("memory.peak", limit=0.925, limit_kind="share")
    again.write_text(json.dumps(edge.model_dump(mode="json")))
    assert load(str(again)) == edge
    share = load(str(file), ["gates.1.margin=", "gates.1.min=99%"])
    assert share.gates[1] == Gate("goodput", limit=0.01, within={"ttft": 0.5, "tpot": 0.05})
    again.write_text(json.dumps(share.model_dump(mode="json")))
    assert load(str(again)) == share


def test_what_check_says_of_them(file: Path) -> None:
    facts = describe(load(str(file), ["gates.2.margin=10%", "gates.2.max="])).gates
    assert [gate.rule for gate in facts] == [
        "request_throughput at most 5% below the baseline's",
        "goodput (within ttft 500ms, tpot 50ms) at most 5% below the baseline's",
        "memory.peak at most 10% worse than the baseline's",
        "energy at most 10% worse than the baseline's",
        "throughput_per_gpu at most 10% below the baseline's",
    ]
    closed = "needs 96 requests of each arm: stage 1 (interleaved, 120s) has them if one takes at most 5 s"
    assert facts[0].sentence == closed
    assert facts[2].sentence == (
        "needs readings throughout stage 1 (interleaved, 120s): of the GPUs that http://127.0.0.1:8002/metrics tells of"
    )
    rate = describe(load(str(file), ["stages=[{mode: paired, rate: 20/s, for: 2m}]"])).gates
    assert rate[0].sentence == (
        "needs 96 requests of each arm: stage 1 (paired, 120s) has about 2400; at a given rate the load sets it, "
        "in_flight shows what the model can do"
    )
    share = describe(load(str(file), ["gates=[{metric: goodput, min: 99%, within: {ttft: 2s}}]"])).gates
    assert (share[0].rule, share[0].needs) == ("at least 99% of requests within ttft 2s", 299)
    short = describe(load(str(file), ["stages.0.for=5s"])).gates
    assert short[0].enough is False
    assert "is too short: 12 blocks need 12s" in short[0].sentence


def test_check_says_who_reads_memory_and_where_nobody_can(file: Path) -> None:
    def of_memory(*overrides: str) -> tuple[str, str]:
        facts = describe(load(str(file), ["gates=[{metric: memory.peak, max: 90%}]", *overrides])).gates[0]
        assert facts.enough is None
        return facts.rule, facts.sentence.partition("): ")[2]

    assert of_memory()[0] == "memory.peak at most 90% of what there is"
    assert of_memory("target.metrics_url=")[1] == "of the GPUs of this machine (NVML); without one nobody reads it"
    assert of_memory("target={url: 'grpc://triton:8001'}")[1] == (
        "of triton only where that is this machine, and has a GPU (NVML); else nobody can: then give "
        "target.metrics_url, or there will be no answer"
    )
    assert of_memory("target={server: embedded}", "baseline.build=fp16", "candidate.build=fp8")[1] == (
        "of the GPUs (NVML), or of the server's processes where there is none"
    )


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("gates.0.max=5", "gates.0.max: give margin or max, not both"),
        ("gates.0={metric: request_throughput, max: 5}", "request_throughput takes a margin, not max"),
        ("gates.0.margin=100%", "gates.0.margin: expected a percentage above 0% and below 100%"),
        ("gates.0.within={ttft: 1s}", "gates.0.within: only goodput has within"),
        ("gates.1.within=", "gates.1.within: expected a mapping"),
        ("gates.1={metric: goodput}", "gates.1: goodput needs within"),
        ("gates.1.within={osl: 1s}", "gates.1.within.osl"),
        ("gates.1.min=99%", "gates.1.min: give margin or min, not both"),
        ("gates.1={metric: goodput, min: 100%, within: {ttft: 1s}}", "gates.1.min: expected a share above 0%"),
        ("gates.1={metric: goodput, max: 1%, within: {ttft: 1s}}", "gates.1.max: goodput takes margin, or min"),
        (
            "gates.2.max=40",
            "gates.2.max: expected a size such as 40GiB, or a share of the device's memory such as 90%, found 40",
        ),
        (
            "gates.2.max=100%",
            "gates.2.max: expected a share of the device's memory above 0% and below 100%, found '100%'",
        ),
        ("gates.2.max=0%", "gates.2.max: expected a share of the device's memory above 0% and below 100%, found '0%'"),
        (
            "gates.2.max=90 per cent",
            "gates.2.max: expected a size such as 40GiB, or a share of the device's memory such as",
        ),
        ("gates.3.max=40", "gates.3.max: give margin or max, not both"),
        ("baseline.gpus=", "baseline.gpus: expected a list"),
        ("baseline.gpus=[]", "gates.3.metric: energy needs GPUs that serve the baseline alone (such as baseline: "),
        ("baseline.gpus=[1]", "candidate.gpus: gpu1 serves the baseline, too"),
        ("baseline.gpus=[0, 0]", "baseline.gpus.1: GPU 0 is there twice"),
        ("baseline.gpus=[first]", "baseline.gpus.0: expected the number of a GPU such as 0, or its UUID (GPU-...)"),
        (
            "stages=[{mode: split, candidate: 10%, rate: 5/s, for: 90s}]",
            "gates.0.metric: a margin on request_throughput",
        ),
    ],
)
def test_what_is_wrong_with_them(file: Path, override: str, said: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load(str(file), [override])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "size", "again"),
    [
        ("40GiB", 40 * 2**30, "40GiB"),
        ("1.5 GiB", 3 * 2**29, "1.5GiB"),
        ("512MiB", 2**29, "512MiB"),
        ("80GB", 80 * 10**9, "80GB"),
        ("700B", 700, "700B"),
        ("1025 B", 1025, "1025B"),
        ("2kB", 2000, "2kB"),
    ],
)
def test_sizes(text: str, size: int, again: str | None) -> None:
    assert parse_bytes(text) == size
    assert parse_bytes(format_bytes(size)) == size
    if again is not None:
        assert format_bytes(size) == again


@pytest.mark.parametrize("value", ["40", 40, "40gb", "0GiB", "-1GiB", None, "1e3B", "GiB"])
def test_what_is_no_size(value: object) -> None:
    with pytest.raises(ValueError, match="expected a size above 0"):
        parse_bytes(value)
