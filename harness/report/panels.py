"""Which readings a page draws, under which title, and which it only lists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from harness.report import words
from harness.report.facts import Series
from harness.types import Finding

MOST_LINES = 4
# (source, metric, title, unit where it is not the reading's). Counters are drawn as their speed: CPU seconds
# a second are cores; seconds queued a second are, by Little's law, how many wait in the queue on average.
MEMORY = (
    ("nvml", "gpu.memory.used", "GPU memory used", ""),
    ("dcgm", "gpu.memory.used", "GPU memory used, says DCGM", ""),
    ("triton", "gpu.memory.used", "GPU memory used, says Triton", ""),
    ("vllm", "kv_cache.usage", "KV cache in use (vLLM)", ""),
    ("trtllm", "kv_cache.usage", "KV cache in use (TensorRT-LLM)", ""),
    ("process", "memory.rss", "Memory of the server's processes (RSS)", ""),
    ("host", "memory.used", "Memory used on the host", ""),
)
USE = (
    ("nvml", "gpu.utilization", "GPU utilization", ""),
    ("nvml", "gpu.power", "GPU power", ""),
    ("dcgm", "gpu.utilization", "GPU utilization, says DCGM", ""),
    ("dcgm", "gpu.power", "GPU power, says DCGM", ""),
    ("process", "cpu.time", "CPU of the server's processes, cores", "1"),
)
REST = (
    ("generator", "cpu", "CPU of the load's workers, cores", "1"),
    ("host", "cpu.utilization", "CPU utilization of the host", ""),
    ("host", "cpu.steal", "CPU time that the host withheld", ""),
    ("triton", "inference.queue_duration", "Requests waiting in Triton's queue, mean", "1"),
    ("triton", "inference.pending_requests", "Requests pending in Triton", ""),
    ("vllm", "requests.waiting", "Requests waiting in vLLM", ""),
    ("vllm", "requests.preempted", "Requests that vLLM preempted", ""),
    ("trtllm", "requests.waiting", "Requests waiting in TensorRT-LLM", ""),
    ("trtllm", "requests.paused", "Requests that TensorRT-LLM paused", ""),
)
_WHOLE = {"gpu.memory.used": "gpu.memory.total", "memory.used": "memory.total"}
"""What there is of a thing, by what is used of it."""
# What only ever grows: its speed is what can be read.
_COUNTER = re.compile(
    r"^inference\.(request_success|request_failure|count|executions|\w+_duration)$|^(cpu\.time|gpu\.energy|stalls)$"
    r"|^(prefix_)?cache\.(hits|misses|queries)$|^kv_cache\.(reused|missed)_blocks$|^prompt\.(cached_)?tokens$"
    r"|^tokens\.(input|output)$|^requests\.preempted$|^gpu\.ecc\.(un)?corrected$"
)


class Panel(NamedTuple):
    """One panel of a figure, a line a device. `bounds`: what the lines may not reach, in their unit, and its name."""

    title: str
    unit: str
    lines: Sequence[Series]
    bounds: Sequence[tuple[str, float]] = ()


@dataclass(frozen=True)
class Row:
    """A series in figures, for the table."""

    source: str
    device: str
    metric: str
    samples: int
    low: str
    middle: str
    high: str
    last: str


def panels(series: Sequence[Series], wanted: Sequence[tuple[str, str, str, str]]) -> list[Panel]:
    """For a figure: one panel a metric that was measured, one line a device."""
    found: list[Panel] = []
    shown: set[str] = set()
    for source, metric, title, unit in wanted:
        if title.endswith(("says DCGM", "says Triton")) and metric in shown:
            continue  # what is named before says it better
        lines = [one for one in series if (one.source, one.metric) == (source, metric)]
        lines = [_speed(one) if is_counter(one) else one for one in lines]
        lines = [one for one in lines if len(one.value)]
        if not lines or (metric == "cpu.steal" and max(float(one.value.max()) for one in lines) < 0.01):
            continue
        # Of many devices those that move most are told apart; the table has them all.
        lines = sorted(lines, key=lambda one: -float(np.ptp(one.value)))[:MOST_LINES]
        lines = sorted(lines, key=lambda one: one.device)
        found.append(Panel(title, unit or lines[0].unit, lines, _whole(series, source, metric, lines)))
        shown.add(metric)
    return found


def limited(found: Sequence[Panel], findings: Iterable[Finding]) -> list[Panel]:
    """The limits of memory.peak, drawn into the first panel of memory: the judge holds them against the same thing."""
    limits = {f.margin for f in findings if f.metric == "memory.peak" and f.unit == "bytes" and f.margin is not None}
    bounds = [("limit of memory.peak", limit) for limit in sorted(limits)]
    first = next((n for n, panel in enumerate(found) if panel.unit == "bytes"), -1)
    return [p._replace(bounds=(*p.bounds, *bounds)) if n == first else p for n, p in enumerate(found)]


def rows(series: Sequence[Series]) -> list[Row]:
    """Every series; counters by how much they grew a second."""
    found = []
    for one in series:
        line = _speed(one) if is_counter(one) else one
        if not len(line.value):
            continue
        low, middle, high = (float(x) for x in np.quantile(line.value, [0, 0.5, 1]))
        values = [words.size(value, line.unit) for value in (low, middle, high, float(line.value[-1]))]
        found.append(Row(one.source, one.device, line.metric, len(one.value), *values))
    return found


def _whole(series: Sequence[Series], source: str, metric: str, lines: Sequence[Series]) -> list[tuple[str, float]]:
    """All that there is on the devices drawn, where it was read and is the same on all of them."""
    devices = {line.device for line in lines}
    told = [one for one in series if (one.source, one.metric) == (source, _WHOLE.get(metric))]
    sizes = {float(one.value[-1]) for one in told if one.device in devices}
    return [("all there is", sizes.pop())] if len(sizes) == 1 else []


def is_counter(series: Series) -> bool:
    """Whether the speed of the series is shown in its place."""
    return len(series.value) > 1 and bool(_COUNTER.search(series.metric))


def _speed(series: Series) -> Series:
    steps, grown = np.diff(series.t_s), np.diff(series.value)
    keep = (steps > 0) & (grown >= 0)  # a counter that falls began anew: its server did
    unit = {"s": "1", "1": "/s", "": "/s", "J": "W"}.get(series.unit, f"{series.unit}/s")
    name = f"{series.metric}, per second"
    return Series(series.source, series.device, name, unit, series.t_s[1:][keep], grown[keep] / steps[keep])
