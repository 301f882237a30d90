"""TensorRT-LLM's families: nv_trt_llm_* and nv_llm_* of its backend on Triton's page, trtllm_* of trtllm-serve.

Names and meaning: NVIDIA/TensorRT-LLM, triton_backend/inflight_batcher_llm/src/custom_metrics_reporter and
model_instance_state.cc; tensorrt_llm/metrics/collector.py (page: /prometheus/metrics, with `return_perf_metrics`).
"""

from __future__ import annotations

from harness.telemetry.pages.family import Family, Table, served

SOURCE = "trtllm"


def _of(metric: str, unit: str = "1") -> Family:
    return Family(SOURCE, metric, unit)


# Full is what the blocks say, where they are told.
_USAGE = Family(SOURCE, "kv_cache.usage", "ratio", join="max", choice=1)
_PER_BLOCK = Family(SOURCE, "kv_cache.tokens_per_block", join="max")

TABLE = Table(
    served,
    {
        # Histograms of the backend in Triton, of which the sums are taken.
        "nv_llm_input_token_len_sum": _of("tokens.input"),
        "nv_llm_output_token_len_sum": _of("tokens.output"),
        "trtllm_prompt_tokens": _of("tokens.input"),
        "trtllm_generation_tokens": _of("tokens.output"),
        "trtllm_num_requests_running": _of("requests.running"),
        "trtllm_num_requests_waiting": _of("requests.waiting"),
        "trtllm_num_scheduled_requests": _of("requests.scheduled"),
        "trtllm_num_context_requests": _of("requests.context"),
        "trtllm_num_generation_requests": _of("requests.generation"),
        "trtllm_num_paused_requests": _of("requests.paused"),
        "trtllm_max_num_active_requests": _of("requests.max"),
        "trtllm_kv_cache_utilization": _USAGE,
        "trtllm_kv_cache_max_blocks": _of("kv_cache.blocks.total"),
        "trtllm_kv_cache_free_blocks": _of("kv_cache.blocks.free"),
        "trtllm_kv_cache_used_blocks": _of("kv_cache.blocks.used"),
        "trtllm_kv_cache_tokens_per_block": _PER_BLOCK,
        "trtllm_kv_cache_reused_blocks": _of("kv_cache.reused_blocks"),
        "trtllm_kv_cache_missed_blocks": _of("kv_cache.missed_blocks"),
        "trtllm_gpu_memory_usage_bytes": _of("engine.memory.gpu", "bytes"),
        "trtllm_cpu_memory_usage_bytes": _of("engine.memory.cpu", "bytes"),
        "trtllm_pinned_memory_usage_bytes": _of("engine.memory.pinned", "bytes"),
    },
    by_label={
        "nv_trt_llm_request_metrics": (
            "request_type",
            {
                "active": _of("requests.running"),
                "waiting": _of("requests.waiting"),
                "scheduled": _of("requests.scheduled"),
                "context": _of("requests.context"),
                "max": _of("requests.max"),
            },
        ),
        "nv_trt_llm_inflight_batcher_metrics": (
            "inflight_batcher_specific_metric",
            {"generation_requests": _of("requests.generation"), "paused_requests": _of("requests.paused")},
        ),
        "nv_trt_llm_kv_cache_block_metrics": (
            "kv_cache_block_type",
            {
                "max": _of("kv_cache.blocks.total"),
                "free": _of("kv_cache.blocks.free"),
                "used": _of("kv_cache.blocks.used"),
                "reused": _of("kv_cache.reused_blocks"),
                "tokens_per": _PER_BLOCK,
                "fraction": _USAGE,
            },
        ),
        "nv_trt_llm_runtime_memory_metrics": (
            "memory_type",
            {kind: _of(f"engine.memory.{kind}", "bytes") for kind in ("gpu", "cpu", "pinned")},
        ),
    },
)
