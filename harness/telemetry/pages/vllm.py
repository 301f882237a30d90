"""vLLM's families: vllm:*, of its own server (`vllm serve`) or on Triton's page.

Names and meaning: vllm-project/vllm, vllm/engine/metrics.py (V0) and vllm/v1/metrics/loggers.py (V1; 0.9 to 0.10 say
each thing twice, by its old and its new name). Triton's backend for vLLM, releases 24.08 to 26.01, shows of all these
the tokens alone (src/utils/metrics.py). Of several engines of one model (data parallel) counts add up, and the fullest
KV cache counts.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.telemetry.pages.family import Family, Labels, Meaning, Table, served

SOURCE = "vllm"
# What the configuration of the KV cache says, in labels: those of V0 name no model.
_SIZES = {
    "num_gpu_blocks": Family(SOURCE, "kv_cache.blocks.total"),
    "block_size": Family(SOURCE, "kv_cache.tokens_per_block", join="max"),
}


def _of(metric: str, choice: int = 0) -> Family:
    return Family(SOURCE, metric, choice=choice)


def _usage(choice: int = 0) -> Family:
    """In the name it is a per cent; 1 is full."""
    return Family(SOURCE, "kv_cache.usage", "ratio", join="max", choice=choice)


def _sizes(labels: Labels, _: float) -> Iterable[Meaning]:
    known = ((family, labels.get(label, "")) for label, family in _SIZES.items())
    return [(family, float(text)) for family, text in known if text.isdecimal()]


TABLE = Table(
    served,
    {
        "vllm:num_requests_running": _of("requests.running"),
        "vllm:num_requests_waiting": _of("requests.waiting"),
        "vllm:num_preemptions": _of("requests.preempted"),
        "vllm:kv_cache_usage_perc": _usage(),
        "vllm:gpu_cache_usage_perc": _usage(choice=1),
        # Prompt tokens that were looked up in the prefix cache.
        "vllm:prefix_cache_hits": _of("prefix_cache.hits"),
        "vllm:prefix_cache_queries": _of("prefix_cache.queries"),
        "vllm:gpu_prefix_cache_hits": _of("prefix_cache.hits", choice=1),
        "vllm:gpu_prefix_cache_queries": _of("prefix_cache.queries", choice=1),
        "vllm:prompt_tokens": _of("tokens.input"),
        "vllm:generation_tokens": _of("tokens.output"),
    },
    special={"vllm:cache_config_info": _sizes},
)
