"""What a load generator said of itself in one span of time: the facts by which it is told from the server."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

FIGURES = ("cpu", "stall_max", "unsent")
"""Of each worker, once a second: cores in use, the longest turn of its loop, requests that wait for a connection."""
HOST = {"cpu.utilization": "host_cpu", "cpu.steal": "steal"}


def generator(readings: pa.Table | None, begin_ns: int, seconds: float) -> dict[str, Any]:
    """In the order of time: `workers`, by name their FIGURES; `host_cpu` and `steal`, the shares of this machine's CPU
    that were used, and that other guests of its host took. Empty where nobody said.

    `readings` has the columns of recording.schema.READINGS.
    """
    found: dict[str, Any] = {"workers": {}, "host_cpu": [], "steal": []}
    if readings is None:
        return found
    end_ns = begin_ns + round(seconds * 1e9)
    t = readings["t_ns"].to_numpy()
    rows = readings.filter(pa.array((t > begin_ns) & (t <= end_ns))).sort_by("t_ns")
    columns = (rows[name].to_pylist() for name in ("source", "device", "metric", "value"))
    for source, device, metric, value in zip(*columns, strict=True):
        if source == "generator" and metric in FIGURES:
            found["workers"].setdefault(device, {name: [] for name in FIGURES})[metric].append(round(value, 6))
        elif (source, device) == ("host", "host") and metric in HOST:
            found[HOST[metric]].append(round(value, 6))
    return found


def held(due_ns: Any, done_ns: Any, begin_ns: int, seconds: float) -> float:
    """How many requests were under way on average: in a closed loop its slots in use."""
    end_ns = begin_ns + round(seconds * 1e9)
    inside = np.minimum(done_ns, end_ns) - np.maximum(due_ns, begin_ns)
    return round(float(np.maximum(inside, 0).sum()) / 1e9 / seconds, 6)
