"""Triton's `/metrics` page: what the server counts by itself, whoever sends the requests."""

from __future__ import annotations

import math
from collections.abc import Mapping

import httpx
from prometheus_client.parser import text_string_to_metric_families

from harness.telemetry.source import SourceUnavailable, Value

# Triton's name: ours, the factor to our unit, the unit. Durations are sums since the version was loaded.
KNOWN: dict[str, tuple[str, float, str]] = {
    "nv_inference_request_success": ("inference.request_success", 1, "1"),
    "nv_inference_request_failure": ("inference.request_failure", 1, "1"),
    "nv_inference_count": ("inference.count", 1, "1"),
    "nv_inference_exec_count": ("inference.executions", 1, "1"),
    "nv_inference_request_duration_us": ("inference.request_duration", 1e-6, "s"),
    "nv_inference_queue_duration_us": ("inference.queue_duration", 1e-6, "s"),
    "nv_inference_compute_input_duration_us": ("inference.compute_input_duration", 1e-6, "s"),
    "nv_inference_compute_infer_duration_us": ("inference.compute_infer_duration", 1e-6, "s"),
    "nv_inference_compute_output_duration_us": ("inference.compute_output_duration", 1e-6, "s"),
    "nv_inference_pending_request_count": ("inference.pending_requests", 1, "1"),
    # Look-ups in Triton's own response cache.
    "nv_cache_num_hits_per_model": ("cache.hits", 1, "1"),
    "nv_cache_num_misses_per_model": ("cache.misses", 1, "1"),
    # Prompt tokens that vLLM looked up in its prefix cache; its V1 engine once said gpu_ first.
    "vllm:prefix_cache_hits": ("prefix_cache.hits", 1, "1"),
    "vllm:prefix_cache_queries": ("prefix_cache.queries", 1, "1"),
    "vllm:gpu_prefix_cache_hits": ("prefix_cache.hits", 1, "1"),
    "vllm:gpu_prefix_cache_queries": ("prefix_cache.queries", 1, "1"),
    # Blocks of TensorRT-LLM's KV cache: its backend in Triton tells how many there are by kind, its own server counts.
    "nv_trt_llm_kv_cache_block_metrics": ("kv_cache.blocks", 1, "1"),
    "trtllm_kv_cache_reused_blocks": ("kv_cache.reused_blocks", 1, "1"),
    "trtllm_kv_cache_missed_blocks": ("kv_cache.missed_blocks", 1, "1"),
    "nv_gpu_utilization": ("gpu.utilization", 1, "ratio"),
    "nv_gpu_memory_total_bytes": ("gpu.memory.total", 1, "bytes"),
    "nv_gpu_memory_used_bytes": ("gpu.memory.used", 1, "bytes"),
    "nv_gpu_power_usage": ("gpu.power", 1, "W"),
    "nv_gpu_power_limit": ("gpu.power.limit", 1, "W"),
    "nv_energy_consumption": ("gpu.energy", 1, "J"),
    "nv_cpu_utilization": ("cpu.utilization", 1, "ratio"),
    "nv_cpu_memory_total_bytes": ("memory.total", 1, "bytes"),
    "nv_cpu_memory_used_bytes": ("memory.used", 1, "bytes"),
    "nv_pinned_memory_pool_total_bytes": ("memory.pinned.total", 1, "bytes"),
    "nv_pinned_memory_pool_used_bytes": ("memory.pinned.used", 1, "bytes"),
}


class TritonMetrics:
    """Source "triton": devices `model/version`, the UUID of a GPU, or "server".

    Counters of an unloaded version vanish and begin at 0 when it is loaded again. Failures are counted over
    all reasons, and per reason (`inference.request_failure.rejected`) where there were any.
    """

    name = "triton"

    def __init__(self, url: str, timeout_s: float = 1.0) -> None:
        self.url = url
        self._client = httpx.Client(timeout=timeout_s, trust_env=False)

    def read(self) -> list[Value]:
        try:
            response = self._client.get(self.url)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            why = str(error) or type(error).__name__
            raise SourceUnavailable(f"{self.url}: no metrics: {why}") from error
        if not response.is_success:
            raise SourceUnavailable(f"{self.url}: no metrics: HTTP {response.status_code}")
        return self.parse(response.text)

    def close(self) -> None:
        self._client.close()

    def parse(self, page: str) -> list[Value]:
        """The readings on a page. Raises SourceUnavailable where there are none."""
        found: dict[tuple[str, str], Value] = {}
        try:
            families = list(text_string_to_metric_families(page))
        except (ValueError, KeyError, IndexError) as error:
            raise SourceUnavailable(f"{self.url}: is not a metrics page: {error}") from error
        for sample in (sample for family in families for sample in family.samples):
            # The parser appends `_total` to the names of counters.
            known = KNOWN.get(sample.name) or KNOWN.get(sample.name.removesuffix("_total"))
            if known is None or not math.isfinite(sample.value):
                continue
            metric, factor, unit = known
            device, value = _device(sample.labels), sample.value * factor
            kind = sample.labels.get("kv_cache_block_type")
            if kind:
                self._add(found, device, f"{metric}.{kind}", value, unit)
                continue
            reason = sample.labels.get("reason", "").lower()
            if reason and value:
                self._add(found, device, f"{metric}.{reason}", value, unit)
            self._add(found, device, metric, value, unit)
        if not found:
            raise SourceUnavailable(f"{self.url}: holds none of Triton's metrics")
        return list(found.values())

    def _add(self, found: dict[tuple[str, str], Value], device: str, metric: str, value: float, unit: str) -> None:
        so_far = found.get((device, metric))
        total = value + (so_far.value if so_far else 0.0)
        found[device, metric] = Value(self.name, device, metric, total, unit)


def _device(labels: Mapping[str, str]) -> str:
    model = labels.get("model", labels.get("model_name"))
    if model is not None:
        return f"{model}/{labels.get('version', '')}"
    return labels.get("gpu_uuid", "server")
