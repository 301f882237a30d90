"""Pages of Triton, the DCGM exporter, vLLM and TensorRT-LLM as the same readings: one name and one unit a quantity."""

from __future__ import annotations

import random

import pytest

from harness.telemetry import Value
from harness.telemetry.pages import parse
from harness.telemetry.pages.dcgm import REASONS
from harness.telemetry.pages.parse import TABLES
from tests.telemetry.serving import PAGES, recorded

FIRST, SECOND = "GPU-5fd4f087-86f3-7a43-b711-4771313afc50", "GPU-0b1c3c7d-92a4-4b1e-8d8e-6e9a7f1d2c33"
MIB = 2**20
UNITS = {
    "gpu.memory.used": "bytes", "gpu.memory.free": "bytes", "gpu.memory.total": "bytes", "gpu.memory.reserved": "bytes",
    "gpu.utilization": "ratio", "gpu.memory.utilization": "ratio", "gpu.sm.active": "ratio", "gpu.power": "W",
    "gpu.power.limit": "W", "gpu.energy": "J", "gpu.temperature": "C", "gpu.temperature.memory": "C",
    "gpu.clock.sm": "Hz", "gpu.clock.memory": "Hz", "gpu.pcie.rx": "bytes/s", "gpu.pcie.tx": "bytes/s",
    "kv_cache.usage": "ratio", "engine.memory.gpu": "bytes", "engine.memory.cpu": "bytes",
    "engine.memory.pinned": "bytes", "inference.queue_duration": "s",
}  # fmt: skip
"""The contract; all else is a number."""


def of(page: str, source: str) -> dict[tuple[str, str], float]:
    """By device and metric, after a look at units and at doubles."""
    values = parse(page)
    assert len({value[:3] for value in values}) == len(values)
    for value in values:
        assert value.unit == UNITS.get(value.metric, "1"), value
    return {(value.device, value.metric): value.value for value in values if value.source == source}


def by_metric(name: str, source: str, device: str) -> dict[str, float]:
    found = of(recorded(name), source)
    return {metric: value for (whose, metric), value in found.items() if whose == device}


def test_triton_says_of_its_gpus() -> None:
    assert of(recorded("triton-gpus"), "triton") == {
        ("llm/1", "inference.request_success"): 7,
        ("llm/1", "inference.request_failure"): 5,
        ("llm/1", "inference.request_failure.other"): 2,
        ("llm/1", "inference.request_failure.rejected"): 3,
        ("llm/1", "inference.queue_duration"): 2.5,
        (FIRST, "gpu.utilization"): 0.37,
        (FIRST, "gpu.memory.total"): 80 * 2**30,
        (SECOND, "gpu.memory.total"): 80 * 2**30,
        (FIRST, "gpu.memory.used"): 41 * 2**30,
        (SECOND, "gpu.memory.used"): 2**30,
        (FIRST, "gpu.power"): 301.5,
        (FIRST, "gpu.power.limit"): 700,
        (FIRST, "gpu.energy"): 98765.432,
    }


def test_dcgm_says_the_same_of_the_same_gpu_in_other_units() -> None:
    triton, dcgm = of(recorded("triton-gpus"), "triton"), of(recorded("dcgm"), "dcgm")
    both = {key for key in triton if key in dcgm}
    assert {metric for _, metric in both} == {
        "gpu.utilization", "gpu.memory.total", "gpu.memory.used", "gpu.power", "gpu.energy",
    }  # fmt: skip
    assert {key: dcgm[key] for key in both} == pytest.approx({key: triton[key] for key in both})


def test_dcgm_in_full() -> None:
    assert by_metric("dcgm", "dcgm", FIRST) == pytest.approx(
        {
            "gpu.memory.used": 41984 * MIB, "gpu.memory.free": 39335 * MIB, "gpu.memory.reserved": 601 * MIB,
            "gpu.memory.total": 81920 * MIB, "gpu.utilization": 0.37, "gpu.sm.active": 0.287,
            "gpu.memory.utilization": 0.12, "gpu.power": 301.5, "gpu.energy": 98765.432, "gpu.temperature": 63,
            "gpu.temperature.memory": 71, "gpu.clock.sm": 1.98e9, "gpu.clock.memory": 2.619e9,
            "gpu.pcie.tx": 1.25e6, "gpu.pcie.rx": 2.5e6, "gpu.ecc.corrected": 4, "gpu.ecc.uncorrected": 0,
            "gpu.xid": 0, "gpu.throttle.power_cap": 1, "gpu.throttle.sw_thermal": 1,
            "gpu.throttle.hw_slowdown": 0, "gpu.throttle.sync_boost": 0, "gpu.throttle.thermal_slowdown": 0,
            "gpu.throttle.power_brake": 0, "gpu.throttle.idle": 0, "gpu.throttle.clocks_setting": 0,
            "gpu.throttle.display_clocks": 0,
        }
    )  # fmt: skip


def test_what_dcgm_does_not_know_is_absent_and_not_a_number() -> None:
    second = by_metric("dcgm", "dcgm", SECOND)
    assert set(second) == {
        "gpu.memory.used", "gpu.memory.free", "gpu.memory.reserved", "gpu.memory.total", "gpu.utilization",
        "gpu.temperature", "gpu.clock.sm", "gpu.xid",
    }  # fmt: skip
    assert second["gpu.utilization"] == 0, "idle is not unknown"


def test_instances_of_a_gpu_are_devices_of_their_own() -> None:
    found = of(recorded("dcgm-mig"), "dcgm")
    assert found == {
        (f"{FIRST}/mig1", "gpu.memory.used"): 20480 * MIB,
        (f"{FIRST}/mig1", "gpu.memory.free"): 20480 * MIB,
        (f"{FIRST}/mig1", "gpu.memory.total"): 40960 * MIB,
        (f"{FIRST}/mig1", "gpu.utilization"): 0.81,
        (f"{FIRST}/mig2", "gpu.memory.used"): 36 * MIB,
        (f"{FIRST}/mig2", "gpu.memory.free"): 40924 * MIB,
        (f"{FIRST}/mig2", "gpu.memory.total"): 40960 * MIB,
        (FIRST, "gpu.pcie.tx"): 1.25e6,
    }


def test_tensorrt_llm_in_triton_and_its_own_server_say_the_same() -> None:
    in_triton, own = (
        by_metric("trtllm-triton", "trtllm", "tensorrt_llm/1"), by_metric("trtllm-serve", "trtllm", "llm/")
    )  # fmt: skip
    assert in_triton == {
        "requests.running": 8, "requests.waiting": 5, "requests.scheduled": 7, "requests.context": 1,
        "requests.generation": 6, "requests.paused": 2, "requests.max": 512,
        "kv_cache.usage": 0.25, "kv_cache.blocks.used": 1560, "kv_cache.blocks.free": 4680,
        "kv_cache.blocks.total": 6240, "kv_cache.tokens_per_block": 64, "kv_cache.reused_blocks": 90,
        "engine.memory.gpu": 1610236, "engine.memory.cpu": 0, "engine.memory.pinned": 4096,
        "tokens.input": 1100, "tokens.output": 352,
    }  # fmt: skip
    assert own == {**in_triton, "kv_cache.missed_blocks": 60}
    assert of(recorded("trtllm-triton"), "triton") == {("tensorrt_llm/1", "inference.request_success"): 11}


def test_the_blocks_say_how_full_a_kv_cache_is_where_a_page_contradicts_itself() -> None:
    """As the example in the backend's README does: a fraction of 0.4875, and 1 of 6239 blocks in use."""
    family = 'nv_trt_llm_kv_cache_block_metrics{{kv_cache_block_type="{}",model="m",version="1"}} {}\n'
    page = family.format("fraction", 0.4875) + family.format("used", 1) + family.format("max", 6239)
    assert of(page, "trtllm")["m/1", "kv_cache.usage"] == pytest.approx(1 / 6239)
    assert of(family.format("fraction", 0.4875), "trtllm")["m/1", "kv_cache.usage"] == 0.4875


@pytest.mark.parametrize("name", ["vllm-v0", "vllm-v1-0.9", "vllm-v1-two-engines"])
def test_vllm_says_the_same_in_each_generation_of_its_names(name: str) -> None:
    found = by_metric(name, "vllm", "org/llm/")
    cached = {} if name == "vllm-v0" else {"prefix_cache.queries": 1000, "prefix_cache.hits": 250}
    assert found == {
        "requests.running": 8, "requests.waiting": 5, "requests.preempted": 3, "kv_cache.usage": 0.25,
        "kv_cache.blocks.total": 27904, "kv_cache.tokens_per_block": 16,
        "tokens.input": 1100, "tokens.output": 352, **cached,
    }  # fmt: skip


def test_vllm_on_tritons_page_is_of_a_version_and_says_tokens_alone() -> None:
    assert of(recorded("vllm-triton"), "vllm") == {
        ("vllm_model/1", "tokens.input"): 10,
        ("vllm_model/1", "tokens.output"): 16,
    }


def test_what_names_no_model_is_of_nobody_where_there_are_two() -> None:
    page = recorded("vllm-v0") + 'vllm:num_requests_running{model_name="other"} 1.0\n'
    found = of(page, "vllm")
    assert found["other/", "requests.running"] == 1
    assert {metric for _, metric in found} >= {"requests.waiting"}
    assert not [metric for _, metric in found if metric.startswith("kv_cache.blocks")]


def test_engines_and_gpus_of_one_page_are_told_apart() -> None:
    page = recorded("triton-gpus") + recorded("trtllm-triton") + recorded("vllm-triton") + recorded("dcgm")
    found = {(value.source, value.device) for value in parse(page)}
    assert found == {
        ("triton", "llm/1"), ("triton", "tensorrt_llm/1"), ("triton", "vllm_model/1"), ("triton", FIRST),
        ("triton", SECOND), ("trtllm", "tensorrt_llm/1"), ("vllm", "vllm_model/1"), ("dcgm", FIRST), ("dcgm", SECOND),
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_bytes_joules_and_ratios_are_the_same_whoever_says_them(seed: int) -> None:
    chance = random.Random(seed)
    page, expected = [], {}
    for gpu in range(8):
        uuid, used, free, millijoules, percent = (
            f"GPU-{gpu}", chance.randrange(0, 10**6), chance.randrange(0, 10**6), chance.randrange(10**12),
            chance.randrange(0, 101),
        )  # fmt: skip
        page += [
            f'nv_gpu_memory_used_bytes{{gpu_uuid="{uuid}"}} {used * MIB}',
            f'nv_gpu_memory_total_bytes{{gpu_uuid="{uuid}"}} {(used + free) * MIB}',
            f'nv_energy_consumption{{gpu_uuid="{uuid}"}} {millijoules / 1000}',
            f'nv_gpu_utilization{{gpu_uuid="{uuid}"}} {percent / 100}',
            f'DCGM_FI_DEV_FB_USED{{gpu="{gpu}",UUID="{uuid}"}} {used}',
            f'DCGM_FI_DEV_FB_FREE{{gpu="{gpu}",UUID="{uuid}"}} {free}',
            f'DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{gpu="{gpu}",UUID="{uuid}"}} {millijoules}',
            f'DCGM_FI_DEV_GPU_UTIL{{gpu="{gpu}",UUID="{uuid}"}} {percent}',
        ]
        expected[uuid] = used * MIB
    chance.shuffle(page)
    text = "\n".join(page)
    triton, dcgm = of(text, "triton"), of(text, "dcgm")
    assert {uuid: dcgm[uuid, "gpu.memory.used"] for uuid in expected} == expected, "whole MiB are exact"
    assert {key: dcgm[key] for key in triton} == pytest.approx(triton)
    assert set(dcgm) - set(triton) == {(uuid, "gpu.memory.free") for uuid in expected}


@pytest.mark.parametrize("seed", range(3))
def test_every_combination_of_reasons_is_told_bit_by_bit(seed: int) -> None:
    chance = random.Random(seed)
    for bits in chance.sample(range(512), 20):
        found = of(f'DCGM_FI_DEV_CLOCK_THROTTLE_REASONS{{gpu="0",UUID="GPU-a"}} {bits}\n', "dcgm")
        told = sum(bit for bit, reason in REASONS.items() if found["GPU-a", f"gpu.throttle.{reason}"])
        assert told == bits


def test_one_quantity_has_one_unit_in_every_table() -> None:
    units: dict[str, set[str]] = {}
    for table in {id(table): table for table in TABLES.values()}.values():
        families = [*table.plain.values(), *(one for _, kinds in table.by_label.values() for one in kinds.values())]
        for family in families:
            units.setdefault(family.metric, set()).add(family.unit)
    assert {metric: found for metric, found in units.items() if len(found) > 1} == {}
    for metric, unit in UNITS.items():
        assert units[metric] == {unit}, metric


def test_what_is_no_page_and_what_is_of_others() -> None:
    assert parse("") == parse("some_other_metric 1\n") == parse("<html>{</html>") == []
    for broken in ("nv_gpu_utilization{ 1\n", "nv_gpu_utilization seven\n", 'nv_gpu_utilization{a="b} 1\n'):
        with pytest.raises(ValueError, match=r"."):
            parse(broken)
    for value in ("NaN", "+Inf", "-Inf"):
        assert parse(f'nv_gpu_utilization{{gpu_uuid="GPU-a"}} {value}\n') == []
    tolerant = 'nv_gpu_utilization{gpu_uuid="GPU-a",more="a \\"b\\" c"} 0.5 1700000000000\n'
    assert parse(tolerant) == [Value("triton", "GPU-a", "gpu.utilization", 0.5, "ratio")]


@pytest.mark.parametrize("mark", ["\u2028", "\x85", "\x0b", "\x1e", "}", " # {", "=", ","])
def test_a_label_may_hold_any_character(mark: str) -> None:
    page = f'vllm:num_requests_waiting{{model_name="a{mark}b"}} 2\r\nvllm:num_requests_running{{model_name="c"}} 1\n'
    assert {(value.device, value.value) for value in parse(page)} == {(f"a{mark}b/", 2.0), ("c/", 1.0)}


def test_every_page_here_says_what_it_is() -> None:
    pages = sorted(PAGES.glob("*.txt"))
    assert len(pages) >= 9
    for page in pages:
        first = page.read_text().splitlines()[0]
        assert first.startswith(("# Built from ", "# Recorded from ")), page.name
