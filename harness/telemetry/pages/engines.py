"""Whether an engine that serves a model tells of itself, and what turns that on.

vLLM: triton-inference-server/vllm_backend r26.01, README.md ("Triton Metrics") and src/model.py. TensorRT-LLM:
triton-inference-server/tensorrtllm_backend, README.md ("Triton Metrics"); NVIDIA/TensorRT-LLM, triton_backend/.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from harness.telemetry.pages import trtllm, vllm
from harness.telemetry.source import Value

ENGINES = {vllm.SOURCE: "vLLM", trtllm.SOURCE: "TensorRT-LLM"}
_SWITCH = "REPORT_CUSTOM_METRICS"
_OFF = {
    vllm.SOURCE: f'config.pbtxt turns them on: parameters: {{ key: "{_SWITCH}" value: {{ string_value: "true" }} }}; '
    'and its model.json must not set "disable_log_stats"',
    trtllm.SOURCE: "its C++ backend (tensorrtllm) shows them from release 23.11 on; its models for the Python backend "
    "and the LLM API do not",
}
_STATS_OFF = f'{_SWITCH} is "true"; is "disable_log_stats" set in its model.json?'
_NO_CACHE = (
    "Triton's backend for vLLM shows tokens and times, and not its KV cache, preemptions or queue; vLLM's own server "
    "(vllm serve) shows them on its /metrics, a further page for metrics_url"
)


def engine_of(config: Mapping[str, Any]) -> str | None:
    """The source whose families tell of a model with this configuration (in its JSON form); None: no engine."""
    backend = config.get("backend")
    if backend == "vllm":
        return vllm.SOURCE
    # TensorRT-LLM's model repository has one configuration for both of its backends.
    if backend == "tensorrtllm" or (backend == "python" and "gpt_model_path" in config.get("parameters", {})):
        return trtllm.SOURCE
    return None


def unsaid(config: Mapping[str, Any], device: str, shown: Collection[Value] | None) -> str | None:
    """What an engine does not tell of `device` (`model/version`), in one line that names the setting; None where there
    is no engine, or all is told. `shown`: the readings of all pages; None where no page is known.
    """
    source = engine_of(config)
    if source is None:
        return None
    engine = ENGINES[source]
    if shown is None:
        return f"{device} is served by {engine}, and no page tells of its KV cache: give target.metrics_url"
    # An engine's own server does not know what Triton calls the model.
    told = {one.metric for one in shown if one.source == source and (one.device == device or one.device[-1:] == "/")}
    if not told:
        on = config.get("parameters", {}).get(_SWITCH, {}).get("string_value", "").lower() == "true"
        why = _STATS_OFF if source == vllm.SOURCE and on else _OFF[source]
        return f"{device} is served by {engine}, whose metrics are off: {why}"
    if source == vllm.SOURCE and "kv_cache.usage" not in told:
        return f"{device} is served by {engine}: {_NO_CACHE}"
    return None
