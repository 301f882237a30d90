"""The machine that this program runs on, and the processes of a server on it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import psutil

from harness.telemetry.source import SourceUnavailable, Value

_MODEL_FILE = re.compile(r"/([^/]+)/([1-9]\d*)/[^/]+\.py$")


class Host:
    """Source "host". CPU figures are over the time since the last reading; the first reading has none.

    cpu.utilization ratio of all cores; cpu.steal ratio, also for each core (device host/cpu0): time in which
    another guest of the same machine had it. load.1m in runnable tasks. memory.* and swap.used in bytes.
    """

    name = "host"

    def __init__(self) -> None:
        self._before: Sequence[Any] = ()

    def read(self) -> list[Value]:
        memory, swap = psutil.virtual_memory(), psutil.swap_memory()
        values = [
            Value(self.name, "host", "memory.total", float(memory.total), "bytes"),
            Value(self.name, "host", "memory.used", float(memory.used), "bytes"),
            Value(self.name, "host", "memory.available", float(memory.available), "bytes"),
            Value(self.name, "host", "swap.used", float(swap.used), "bytes"),
            Value(self.name, "host", "load.1m", psutil.getloadavg()[0], "1"),
        ]
        now = psutil.cpu_times(percpu=True)
        spent = [_spent(a, b) for a, b in zip(self._before, now, strict=False)]
        self._before = now
        total = sum(core["total"] for core in spent)
        if total <= 0:
            return values
        idle = sum(core["idle"] for core in spent)
        values.append(Value(self.name, "host", "cpu.utilization", 1 - idle / total, "ratio"))
        if all("steal" in core for core in spent):
            steal = sum(core["steal"] for core in spent)
            values.append(Value(self.name, "host", "cpu.steal", steal / total, "ratio"))
            values += [
                Value(self.name, f"host/cpu{number}", "cpu.steal", core["steal"] / core["total"], "ratio")
                for number, core in enumerate(spent)
                if core["total"] > 0
            ]
        return values

    def close(self) -> None:
        pass


class Process:
    """Source "process": a process with everything below it, as device `name`.

    memory.rss in bytes (pages that several of them share are counted for each), cpu.time in seconds (kept for
    those that ended), processes. A Python-backend instance is also in the sums of its device `model/version`.
    """

    name = "process"

    def __init__(self, pid: int, name: str) -> None:
        self._pid, self._device = pid, name
        self._root: psutil.Process | None = None
        self._seen: dict[psutil.Process, tuple[str, float]] = {}

    def read(self) -> list[Value]:
        try:
            if self._root is None:
                self._root = psutil.Process(self._pid)
            alive = [self._root, *self._root.children(recursive=True)]
            self._measure(self._root)
        except psutil.Error as error:
            raise SourceUnavailable(f"{self._device}: process {self._pid} cannot be read: {error}") from error
        memory: dict[str, float] = {}
        count: dict[str, int] = {}
        for process in alive:
            try:
                rss = self._measure(process)
            except psutil.Error:
                continue  # it ended between the two questions; its CPU time so far is kept
            for device in {self._device, self._seen[process][0]}:
                memory[device] = memory.get(device, 0.0) + rss
                count[device] = count.get(device, 0) + 1
        values = []
        for device, rss in memory.items():
            cpu_s = sum(spent for label, spent in self._seen.values() if device in (label, self._device))
            values += [
                Value(self.name, device, "memory.rss", rss, "bytes"),
                Value(self.name, device, "cpu.time", cpu_s, "s"),
                Value(self.name, device, "processes", float(count[device]), "1"),
            ]
        return values

    def close(self) -> None:
        pass

    def _measure(self, process: psutil.Process) -> float:
        with process.oneshot():
            label = self._seen.get(process, (self._device, 0.0))[0]
            if label == self._device:  # asked again: a child is seen before it became the stub, too
                label = self._label(process)
            times = process.cpu_times()
            self._seen[process] = (label, times.user + times.system)
            return float(process.memory_info().rss)

    def _label(self, process: psutil.Process) -> str:
        """`model/version` of a Python-backend stub, whose arguments name its model's file."""
        for argument in process.cmdline():
            if found := _MODEL_FILE.search(argument):
                return f"{found[1]}/{found[2]}"
        return self._device


def _spent(before: Any, after: Any) -> dict[str, float]:
    """Seconds between two readings of one core. Guest time is part of user time already."""
    fields = {name: getattr(after, name) - getattr(before, name) for name in after._fields}
    counted = {name: max(0.0, spent) for name, spent in fields.items() if not name.startswith("guest")}
    result = {"total": sum(counted.values()), "idle": counted["idle"] + counted.get("iowait", 0.0)}
    if "steal" in counted:
        result["steal"] = counted["steal"]
    return result
