"""An engine that does not tell of itself, and the setting that the note names."""

from __future__ import annotations

from typing import Any

import pytest

from harness.telemetry import unsaid
from harness.telemetry.pages import parse
from tests.telemetry.serving import recorded

VLLM: dict[str, Any] = {"name": "vllm_model", "backend": "vllm"}
ON = {"parameters": {"REPORT_CUSTOM_METRICS": {"string_value": "true"}}}
TRTLLM: dict[str, Any] = {"name": "tensorrt_llm", "backend": "tensorrtllm"}
PYTHON = {"backend": "python", "parameters": {"gpt_model_path": {"string_value": "/engines/llm"}}}
TRITON = recorded("triton-gpus")


def note(config: dict[str, Any], device: str, *pages: str) -> str | None:
    return unsaid(config, device, [value for page in pages for value in parse(page)])


@pytest.mark.parametrize(
    "config", [{"backend": "python"}, {"backend": "onnxruntime"}, {"platform": "ensemble"}, {"backend": ""}, {}]
)
def test_nothing_is_said_where_no_engine_is(config: dict[str, Any]) -> None:
    assert note(config, "m/1", TRITON) is None
    assert unsaid(config, "m/1", None) is None


def test_vllm_that_is_off_names_both_of_its_settings() -> None:
    said = note(VLLM, "vllm_model/1", TRITON)
    assert said is not None
    assert said.startswith("vllm_model/1 is served by vLLM, whose metrics are off: ")
    assert 'key: "REPORT_CUSTOM_METRICS" value: { string_value: "true" }' in said
    assert '"disable_log_stats"' in said
    assert "\n" not in said
    off = {"parameters": {"REPORT_CUSTOM_METRICS": {"string_value": "false"}}}
    assert note({**VLLM, **off}, "vllm_model/1", TRITON) == said


def test_vllm_that_is_switched_on_and_still_silent_leaves_its_other_setting() -> None:
    said = note({**VLLM, **ON}, "vllm_model/1", TRITON)
    assert said is not None
    assert said.endswith('REPORT_CUSTOM_METRICS is "true"; is "disable_log_stats" set in its model.json?')


def test_vllm_of_another_version_or_model_does_not_speak_for_this_one() -> None:
    page = recorded("vllm-triton")
    for device in ("vllm_model/2", "other/1"):
        said = note({**VLLM, **ON}, device, page)
        assert said is not None
        assert "whose metrics are off" in said


def test_vllm_on_tritons_page_says_nothing_of_its_kv_cache() -> None:
    said = note({**VLLM, **ON}, "vllm_model/1", recorded("vllm-triton"))
    assert said is not None
    assert "shows tokens and times, and not its KV cache, preemptions or queue" in said
    assert "off" not in said


@pytest.mark.parametrize("name", ["vllm-v0", "vllm-v1-0.9", "vllm-v1-two-engines"])
def test_vllms_own_page_beside_tritons_tells_all(name: str) -> None:
    assert note(VLLM, "vllm_model/1", TRITON, recorded(name)) is None


@pytest.mark.parametrize("config", [TRTLLM, PYTHON])
def test_tensorrt_llm_that_is_not_on_the_page(config: dict[str, Any]) -> None:
    said = note(config, "tensorrt_llm/1", TRITON, recorded("vllm-v0"))
    assert said is not None
    assert said.startswith("tensorrt_llm/1 is served by TensorRT-LLM, whose metrics are off: ")
    assert "23.11" in said
    assert note(config, "tensorrt_llm/1", recorded("trtllm-triton")) is None
    assert note(config, "tensorrt_llm/1", TRITON, recorded("trtllm-serve")) is None


def test_an_engine_without_any_page() -> None:
    said = unsaid(VLLM, "vllm_model/1", None)
    assert said is not None
    assert "target.metrics_url" in said
