"""Triton's own families: nv_inference_*, nv_cache_*, nv_gpu_*, nv_cpu_*, nv_pinned_*.

Names and units: triton-inference-server/server, docs/user_guide/metrics.md (measured on release 24.10). Counters of an
unloaded version vanish, and begin at 0 when it is loaded again. Its GPU memory is DCGM's, in bytes.
"""

from __future__ import annotations

from harness.telemetry.pages.family import Family, Labels, Table, served


def _device(labels: Labels) -> str:
    return served(labels) or labels.get("gpu_uuid", "server")


def _of(metric: str, unit: str = "1", factor: float = 1.0, each: str = "") -> Family:
    return Family("triton", metric, unit, factor, each=each)


TABLE = Table(
    _device,
    {
        "nv_inference_request_success": _of("inference.request_success"),
        "nv_inference_request_failure": _of("inference.request_failure", each="reason"),
        "nv_inference_count": _of("inference.count"),
        "nv_inference_exec_count": _of("inference.executions"),
        # Sums since the version was loaded.
        "nv_inference_request_duration_us": _of("inference.request_duration", "s", 1e-6),
        "nv_inference_queue_duration_us": _of("inference.queue_duration", "s", 1e-6),
        "nv_inference_compute_input_duration_us": _of("inference.compute_input_duration", "s", 1e-6),
        "nv_inference_compute_infer_duration_us": _of("inference.compute_infer_duration", "s", 1e-6),
        "nv_inference_compute_output_duration_us": _of("inference.compute_output_duration", "s", 1e-6),
        "nv_inference_pending_request_count": _of("inference.pending_requests"),
        # Look-ups in Triton's own response cache.
        "nv_cache_num_hits_per_model": _of("cache.hits"),
        "nv_cache_num_misses_per_model": _of("cache.misses"),
        "nv_gpu_utilization": _of("gpu.utilization", "ratio"),
        "nv_gpu_memory_total_bytes": _of("gpu.memory.total", "bytes"),
        "nv_gpu_memory_used_bytes": _of("gpu.memory.used", "bytes"),
        "nv_gpu_power_usage": _of("gpu.power", "W"),
        "nv_gpu_power_limit": _of("gpu.power.limit", "W"),
        "nv_energy_consumption": _of("gpu.energy", "J"),
        "nv_cpu_utilization": _of("cpu.utilization", "ratio"),
        "nv_cpu_memory_total_bytes": _of("memory.total", "bytes"),
        "nv_cpu_memory_used_bytes": _of("memory.used", "bytes"),
        "nv_pinned_memory_pool_total_bytes": _of("memory.pinned.total", "bytes"),
        "nv_pinned_memory_pool_used_bytes": _of("memory.pinned.used", "bytes"),
    },
)
