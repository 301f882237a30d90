"""What a metrics page tells, for `doctor --metrics`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table

from harness.telemetry import Page, SourceUnavailable, Value

SOURCES = {"triton": "Triton", "dcgm": "DCGM exporter", "vllm": "vLLM", "trtllm": "TensorRT-LLM"}
# What a judgement of memory asks for, by source, and what to do where it is not there.
_WANTED = {
    "triton": (("gpu.memory.used", "GPUs: its --allow-gpu-metrics is false, or it sees no GPU and no DCGM"),),
    "dcgm": (
        ("gpu.memory.used", "memory: DCGM_FI_DEV_FB_USED and _FREE are not among the exporter's counters"),
        ("gpu.energy", "energy: DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION is not among the exporter's counters"),
    ),
    "vllm": (
        ("kv_cache.usage", "the KV cache: Triton's backend for vLLM does not show it, vLLM's own server does"),
        ("requests.preempted", "preemptions: Triton's backend for vLLM does not show them, vLLM's own server does"),
    ),
    "trtllm": (("kv_cache.usage", "the KV cache: its blocks are shown from release 23.11 on"),),
}


@dataclass(frozen=True)
class Told:
    """`silent`: there is no page, or nothing on it is known."""

    table: Table
    silent: bool


def told(url: str) -> Told:
    """The page, read once."""
    table = Table(url, "", box=None, pad_edge=False)
    page = Page(url)
    try:
        values = page.shown()
    except SourceUnavailable as error:
        table.add_row("not read", str(error).removeprefix(f"{url}: "))
        return Told(table, True)
    finally:
        page.close()
    for source, name in SOURCES.items():
        mine = [value for value in values if value.source == source]
        if mine:
            table.add_row(name, _holds(mine))
        for metric, words in _WANTED[source]:
            if mine and all(value.metric != metric for value in mine):
                table.add_row("", f"nothing of {words}")
    absent = [name for source, name in SOURCES.items() if all(value.source != source for value in values)]
    if absent:
        table.add_row("not there", ", ".join(absent))
    return Told(table, False)


def _holds(values: Sequence[Value]) -> str:
    gpus = _devices(value for value in values if value.metric.startswith("gpu."))
    others = _devices(value for value in values if not value.metric.startswith("gpu."))
    parts = [f"{len({value.metric for value in values})} metrics"]
    parts += [f"of {', '.join(others)}"] if others else []
    parts += [f"{len(gpus)} GPU{'s' if len(gpus) > 1 else ''}: {', '.join(gpus)}"] if gpus else []
    return "; ".join(parts)


def _devices(values: Iterable[Value]) -> list[str]:
    return sorted({value.device for value in values if value.device != "server"})
