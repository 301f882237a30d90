"""What memory is watched of a version that is loaded alone, and what it needed between two moments.

The first of these that can be read: the engine's own KV cache, where it took its memory at the load and the device says
nothing more; the GPUs; an instance with a hard limit of its own; the instance, within the memory of this machine.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc

from harness.recording import PartsTail

PATIENCE_S = 10.0
MOMENT_S = 1.5
"""Long enough for every source to be read, and written."""
GROWN = 64 * 2**20
"""A GPU whose use grew by less when the version was loaded has nothing to do with it."""
ENGINES, GPUS = ("vllm", "trtllm"), ("nvml", "dcgm", "triton")


@dataclass(frozen=True)
class Watched:
    """`capacity` of each device, in the unit of `metric`. `what`: in words, for the report."""

    what: str
    source: str
    metric: str
    capacity: Mapping[str, float]
    preallocated: bool = False

    def facts(self) -> dict[str, Any]:
        return {
            "what": self.what, "source": self.source, "metric": self.metric, "capacity": dict(self.capacity),
            "preallocated": self.preallocated,
        }  # fmt: skip


class Readings:
    """The readings of the run, as they are written. Times are on their clock, in ns."""

    def __init__(self, folder: Path, t0_ns: int, every_s: float) -> None:
        self._tail, self._t0_ns, self.every_s = PartsTail(folder, "readings"), t0_ns, every_s

    def now_ns(self) -> int:
        return time.monotonic_ns() - self._t0_ns

    def close(self) -> None:
        self._tail.close()

    def between(self, begin_ns: int, end_ns: int, source: str = "") -> pa.Table:
        """Once `source` (any without one) was read at a later moment, so that nothing is missing; or patience ends."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            self._tail.poll()
            table = self._tail.table
            late = table.filter(pc.equal(table["source"], source)) if source else table
            if (late.num_rows and pc.max(late["t_ns"]).as_py() > end_ns) or time.monotonic() > deadline:
                return table.filter(
                    pc.and_(pc.greater_equal(table["t_ns"], begin_ns), pc.less_equal(table["t_ns"], end_ns))
                )
            time.sleep(self.every_s)

    def moment(self) -> pa.Table:
        """What is read from now on, for a few polls."""
        begin_ns = self.now_ns()
        time.sleep(max(4 * self.every_s, MOMENT_S))
        return self.between(begin_ns, self.now_ns())


@contextmanager
def reading(folder: Path, t0_ns: int, every_s: float) -> Iterator[Readings]:
    found = Readings(folder, t0_ns, every_s)
    try:
        yield found
    finally:
        found.close()


def choose(before: pa.Table, loaded: pa.Table, instance: str) -> Watched | None:
    """By readings `before` and after a version, called `instance` (`model/version`), was `loaded`. None: of nothing."""
    for source in ENGINES:
        if caches := highest(loaded, source, "kv_cache.usage"):
            one = dict.fromkeys(caches, 1.0)
            return Watched("the engine's KV cache, taken when it was loaded", source, "kv_cache.usage", one, True)
    for source in GPUS:
        if totals := highest(loaded, source, "gpu.memory.total"):
            return Watched("GPU memory", source, "gpu.memory.used", _gpus(before, loaded, source, totals))
    if limits := highest(loaded, "process", "memory.limit", instance):
        return Watched("what the instance has allocated, within its hard limit", "process", "memory.data", limits)
    if highest(loaded, "process", "memory.rss", instance):
        total = {instance: float(psutil.virtual_memory().total)}
        return Watched("resident memory of the instance, within that of this machine", "process", "memory.rss", total)
    return None


def _gpus(before: pa.Table, loaded: pa.Table, source: str, totals: dict[str, float]) -> dict[str, float]:
    """Of those on which the version lies, all if that cannot be told: what is there for use."""
    then, now = (highest(table, source, "gpu.memory.used") for table in (before, loaded))
    its = [gpu for gpu in totals if now.get(gpu, 0.0) - then.get(gpu, 0.0) >= GROWN]
    reserved = highest(loaded, source, "gpu.memory.reserved")
    return {gpu: totals[gpu] - reserved.get(gpu, 0.0) for gpu in its or totals}


def highest(table: pa.Table, source: str, metric: str, device: str = "") -> dict[str, float]:
    """By device, of those that are no process on another; of `device` alone where it is named."""
    wanted = pc.and_(pc.equal(table["source"], source), pc.equal(table["metric"], metric))
    rows = table.filter(wanted)
    found: dict[str, float] = {}
    for name, value in zip(rows["device"].to_pylist(), rows["value"].to_pylist(), strict=True):
        if device in ("", name):
            found[name] = max(value, found.get(name, value))
    return found


def grown(table: pa.Table, source: str, metric: str) -> float:
    """How much a counter grew, over all devices."""
    rows = table.filter(pc.and_(pc.equal(table["source"], source), pc.equal(table["metric"], metric)))
    total = 0.0
    for device in pc.unique(rows["device"]).to_pylist():
        values = rows.filter(pc.equal(rows["device"], device))["value"].to_numpy()
        total += float(np.maximum(np.diff(values), 0).sum())
    return total
