"""What memory is watched of a version that is loaded alone, and what it needed between two moments.

The first of these that can be read: the engine's own KV cache, where it took its memory at the load and the device says
nothing more; the GPUs; an instance with a hard limit of its own; the instance, within the memory of this machine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc

from harness.recording import PartsTail
from harness.telemetry import memory_room

PATIENCE_S = 10.0
MOMENT_S = 1.5
"""Long enough for every source to be read, and written."""
GROWN = 64 * 2**20
"""A GPU whose use grew by less when the version was loaded has nothing to do with it."""
RENEWED_S = {"triton": 2.0, "dcgm": 30.0}
"""How old the memory on a page may be, as its server comes (--metrics-interval-ms, --collect-interval)."""
ENGINES, GPUS = ("vllm", "trtllm"), ("nvml", "dcgm", "triton")


@dataclass(frozen=True)
class Watched:
    """`capacity` of each device, in the unit of `metric`; `others`: what was in use there before it was loaded, which
    is not its own. `what`: in words, for the report; `of`: what the capacity is that of.
    """

    what: str
    of: str
    source: str
    metric: str
    capacity: Mapping[str, float]
    preallocated: bool = False
    others: Mapping[str, float] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        return {
            "what": self.what, "of": self.of, "source": self.source, "metric": self.metric,
            "capacity": dict(self.capacity), "preallocated": self.preallocated, "others": dict(self.others),
        }  # fmt: skip


class Readings:
    """The readings of the run, as they are written. Times are on their clock, in ns."""

    def __init__(self, folder: Path, t0_ns: int, every_s: float) -> None:
        self._tail, self._t0_ns, self.every_s = PartsTail(folder, "readings", keep=False), t0_ns, every_s
        self._recent: list[pa.Table] = [self._tail.table]

    def now_ns(self) -> int:
        return time.monotonic_ns() - self._t0_ns

    def close(self) -> None:
        self._tail.close()

    def between(self, begin_ns: int, end_ns: int, source: str = "") -> pa.Table:
        """Once `source` (any without one) was read at a later moment, so that nothing is missing; or patience ends.

        What is older than `begin_ns` is let go: hours of several GPUs are more than fits. Later calls begin later.
        """
        deadline = time.monotonic() + PATIENCE_S
        empty, *kept = self._recent
        self._recent = [empty, *(piece for piece in kept if pc.max(piece["t_ns"]).as_py() >= begin_ns)]
        while True:
            if (fresh := self._tail.poll()).num_rows:
                self._recent.append(fresh)
            table = pa.concat_tables(self._recent)
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


def choose(before: pa.Table, loaded: pa.Table, instance: str, server_pid: int | None = None) -> Watched | None:
    """By readings `before` and after a version, called `instance` (`model/version`), was `loaded`. None: of nothing."""
    for source in ENGINES:
        there, then = (highest(table, source, "kv_cache.usage") for table in (loaded, before))
        # Engines of other models may be on the page, too; an ensemble's engine has another name than the ensemble.
        if caches := [name for name in there if name == instance] or [name for name in there if name not in then]:
            one = dict.fromkeys(caches, 1.0)
            return Watched(
                "the engine's KV cache, taken when it was loaded", "its KV cache", source, "kv_cache.usage", one, True
            )
    for source in GPUS:
        if totals := highest(loaded, source, "gpu.memory.total"):
            capacity, then = _gpus(before, loaded, source, totals), highest(before, source, "gpu.memory.used")
            others = {gpu: then[gpu] for gpu in capacity if gpu in then}
            return Watched("GPU memory", "GPU memory", source, "gpu.memory.used", capacity, others=others)
    if limits := highest(loaded, "process", "memory.limit", instance):
        what = "what the instance has allocated, within its hard limit"
        return Watched(what, "the instance's hard limit", "process", "memory.data", limits)
    if highest(loaded, "process", "memory.rss", instance):
        room = memory_room(server_pid) if server_pid is not None else None
        total = {instance: min(float(psutil.virtual_memory().total), room.limit if room else math.inf)}
        what = "resident memory of the instance, within that of this machine"
        return Watched(what, "this machine's memory", "process", "memory.rss", total)
    return None


def _gpus(before: pa.Table, loaded: pa.Table, source: str, totals: dict[str, float]) -> dict[str, float]:
    """Of those on which the version lies, all if that cannot be told: what is there for use."""
    then, now = (highest(table, source, "gpu.memory.used") for table in (before, loaded))
    its = [gpu for gpu in totals if now.get(gpu, 0.0) - then.get(gpu, 0.0) >= GROWN]
    reserved = highest(loaded, source, "gpu.memory.reserved")
    return {gpu: totals[gpu] - reserved.get(gpu, 0.0) for gpu in its or totals}


def seen_in(source: str, seconds: float) -> bool:
    """Whether what was needed for so long is sure to have been on the page; all else is read when it is asked."""
    return seconds >= 2 * RENEWED_S.get(source, 0.0)


def highest(table: pa.Table, source: str, metric: str, device: str = "") -> dict[str, float]:
    """By device, of those that are no process on another; of `device` alone where it is named."""
    wanted = pc.and_(pc.equal(table["source"], source), pc.equal(table["metric"], metric))
    rows = table.filter(wanted)
    found: dict[str, float] = {}
    for name, value in zip(rows["device"].to_pylist(), rows["value"].to_pylist(), strict=True):
        if device in ("", name):
            found[name] = max(value, found.get(name, value))
    return found


def of_devices(table: pa.Table, devices: Iterable[str]) -> pa.Table:
    return table.filter(pc.is_in(table["device"], pa.array(list(devices), pa.string())))


def polls(table: pa.Table, source: str, metric: str) -> int:
    """At how many moments it was read."""
    rows = table.filter(pc.and_(pc.equal(table["source"], source), pc.equal(table["metric"], metric)))
    return len(pc.unique(rows["t_ns"]))


def grown(table: pa.Table, source: str, metric: str) -> float:
    """How much a counter grew, over all devices."""
    rows = table.filter(pc.and_(pc.equal(table["source"], source), pc.equal(table["metric"], metric)))
    total = 0.0
    for device in pc.unique(rows["device"]).to_pylist():
        values = rows.filter(pc.equal(rows["device"], device))["value"].to_numpy()
        total += float(np.maximum(np.diff(values), 0).sum())
    return total
