"""The machine that this program runs on, and the processes of a server on it."""

from __future__ import annotations

import re
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from harness.telemetry.source import SourceUnavailable, Value

_MODEL_FILE = re.compile(r"/([^/]+)/([1-9]\d*)/[^/]+\.py$")
_RESET_HIGH_WATER = "5"  # see proc(5), clear_refs
_HIGH_WATER = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


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

    Of an instance with a hard limit of its own (RLIMIT_DATA) also, in bytes: memory.limit; memory.data, what it has
    allocated of it, used or not; memory.resident.peak, the kernel's high-water mark of what was used since it started.
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
        return values + [value for process in alive for value in self._limited(process)]

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
        return stub_of(process.cmdline()) or self._device

    def _limited(self, process: psutil.Process) -> list[Value]:
        """Asked again as long as it has no limit: an instance sets its own once its weights are loaded."""
        device = self._seen[process][0] if process in self._seen else self._device
        if device == self._device:
            return []
        try:
            limit = process.rlimit(resource.RLIMIT_DATA)[0]
            if limit == resource.RLIM_INFINITY:
                return []
            peak = _HIGH_WATER.search(Path(f"/proc/{process.pid}/status").read_text())
            found = [("memory.limit", limit), ("memory.data", process.memory_info().data)]
        except (psutil.Error, OSError):
            return []
        if peak:
            found.append(("memory.resident.peak", int(peak[1]) * 1024))
        return [Value(self.name, device, metric, float(value), "bytes") for metric, value in found]


class HighWater:
    """The kernel's high-water mark of the resident memory of one Python-backend instance, bytes: nothing that rose and
    fell between two polls is missed. Of a process of the same user, on this machine.
    """

    def __init__(self, server_pid: int, device: str) -> None:
        """`device`: `model/version`. Looks for its process once."""
        self._pid = 0
        try:
            for process in psutil.Process(server_pid).children(recursive=True):
                if stub_of(process.cmdline()) == device:
                    self._pid = process.pid
        except psutil.Error:
            return

    def restart(self) -> bool:
        """The mark falls to what is resident now. False where that may not be done here."""
        try:
            Path(f"/proc/{self._pid}/clear_refs").write_text(_RESET_HIGH_WATER)
        except OSError:
            return False
        return True

    def read(self) -> tuple[float, float, float] | None:
        """(the mark, what is resident now, what is allocated now, touched or not); None where it is gone."""
        try:
            memory = psutil.Process(self._pid).memory_info()
            mark = _HIGH_WATER.search(Path(f"/proc/{self._pid}/status").read_text())
        except (psutil.Error, OSError):
            return None
        return None if mark is None else (int(mark[1]) * 1024.0, float(memory.rss), float(memory.data))


def stub_of(arguments: Sequence[str]) -> str | None:
    """`model/version` of a Python-backend instance, whose arguments name its model's file; None of anything else."""
    for argument in arguments:
        if found := _MODEL_FILE.search(argument):
            return f"{found[1]}/{found[2]}"
    return None


def _spent(before: Any, after: Any) -> dict[str, float]:
    """Seconds between two readings of one core. Guest time is part of user time already."""
    fields = {name: getattr(after, name) - getattr(before, name) for name in after._fields}
    counted = {name: max(0.0, spent) for name, spent in fields.items() if not name.startswith("guest")}
    result = {"total": sum(counted.values()), "idle": counted["idle"] + counted.get("iowait", 0.0)}
    if "steal" in counted:
        result["steal"] = counted["steal"]
    return result
