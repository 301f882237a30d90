"""Those who read the card, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from harness.recording import SCHEMAS, Tail
from tests.telemetry.fake_nvml import FakeNvml

# What people write: every core field once a turn, a line of CSV, and a sleep.
LOOP = """
import signal, sys, time
import pynvml as n
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
n.nvmlInit()
card = n.nvmlDeviceGetHandleByIndex(0)
with open(sys.argv[1], "w", buffering=1 << 16) as file:
    print("ready", flush=True)
    while True:
        begin = time.monotonic_ns()
        memory, rates = n.nvmlDeviceGetMemoryInfo(card), n.nvmlDeviceGetUtilizationRates(card)
        values = [
            memory.used, memory.free, memory.total, rates.gpu, rates.memory, n.nvmlDeviceGetPowerUsage(card),
            n.nvmlDeviceGetTotalEnergyConsumption(card), n.nvmlDeviceGetTemperature(card, 0),
            n.nvmlDeviceGetClockInfo(card, 1), n.nvmlDeviceGetClockInfo(card, 2),
            n.nvmlDeviceGetCurrentClocksThrottleReasons(card),
        ]
        print(begin, *values, sep=",", file=file)
        {rest}
"""
SLEEP = "time.sleep(float(sys.argv[2]))"
# As nvidia-smi --loop-ms and DCGM's collector do: everything a turn, PCIe throughput and processes, too.
EVERYTHING = """for way in (0, 1):
            n.nvmlDeviceGetPcieThroughput(card, way)
        n.nvmlDeviceGetComputeRunningProcesses_v3(card)
        """


def peers() -> dict[str, str]:
    """By name the code of each."""
    return {
        "pynvml and time.sleep": LOOP.format(rest=SLEEP),
        "pynvml, PCIe in the same loop": LOOP.format(rest=EVERYTHING + SLEEP),
    }


@dataclass(frozen=True)
class Figures:
    """p50, p99 and max, in ms: `late`, how late polls began by the schedule that was asked for, which a loop that
    drifts leaves; `gap`, the time between one poll and the next. `missed`: None of a loop that has no schedule.
    """

    polls: int
    a_second: float
    cpu_percent: float
    late: dict[str, float]
    gap: dict[str, float]
    missed: int | None = None

    @classmethod
    def of(cls, t_ns: Any, cpu_s: float, seconds: float, interval_s: float, missed: int | None = None) -> Figures:
        t_s = (np.asarray(t_ns) - t_ns[0]) / 1e9
        late = t_s - np.arange(len(t_s)) * interval_s  # of a loop each is the next poll
        if missed is not None:  # of a schedule it is the one that was due then: no poll begins early
            late = (t_s - _begin(t_s, interval_s) + interval_s / 50) % interval_s
        spreads = (_spread(late - late.min()), _spread(np.diff(t_s)))
        return cls(len(t_s), len(t_s) / t_s[-1], 100 * cpu_s / seconds, *spreads, missed)

    @property
    def about(self) -> dict[str, Any]:
        return {
            "polls": self.polls, "polls_a_second": round(self.a_second, 2), "cpu_percent": round(self.cpu_percent, 2),
            "late_ms": self.late, "gap_ms": self.gap, "missed": self.missed,
        }  # fmt: skip

    def __str__(self) -> str:
        late, gap = (" ".join(f"{value:8.3f}" for value in spread.values()) for spread in (self.late, self.gap))
        missed = "" if self.missed is None else f", {self.missed} missed"
        return f"{self.cpu_percent:5.2f} % of a core, late {late}, gap {gap} ms; {self.a_second:.2f} polls/s{missed}"


def _begin(t_s: Any, interval_s: float) -> float:
    """Of the schedule: where those begin that were on time, which are as good as together, a 50th of an interval."""
    phases = np.sort(t_s % interval_s)
    around = np.concatenate([phases, phases + interval_s])
    within = np.searchsorted(around, phases + interval_s / 50) - np.arange(len(phases))
    return float(phases[within.argmax()])


def _spread(seconds: Any) -> dict[str, float]:
    p50, p99, most = np.quantile(seconds, [0.5, 0.99, 1.0])
    return {name: round(float(value) * 1e3, 3) for name, value in (("p50", p50), ("p99", p99), ("max", most))}


class _Watched:
    """CPU seconds of a process from `_start` to `_stop`."""

    def _start(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._cpu_s, self._began_s = self._spent(), time.monotonic()

    def _stop(self) -> tuple[float, float]:
        return self._spent() - self._cpu_s, time.monotonic() - self._began_s

    def _spent(self) -> float:
        times = self._process.cpu_times()
        return times.user + times.system


CLOCK = """
import sys, time
interval_ns = round(float(sys.argv[1]) * 1e9)
begin, late = time.monotonic_ns(), []
for poll in range(round(float(sys.argv[2]) / float(sys.argv[1]))):
    time.sleep(max(0.0, (begin + poll * interval_ns - time.monotonic_ns()) / 1e9))
    late.append(time.monotonic_ns())
print(*late)
"""


def machine(interval_s: float, seconds: float) -> Figures:
    """What a process that only looks at the clock costs and has to wait for: nobody can be steadier here."""
    command = [sys.executable, "-c", CLOCK, str(interval_s), str(seconds)]
    before = _children_s()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    t_ns = [int(each) for each in done.stdout.split()]
    return Figures.of(t_ns, _children_s() - before, seconds, interval_s)


def _children_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


class Ours(_Watched):
    """The process that a run starts, with what it writes; its clock readings are those of the recording."""

    def __init__(self, fake: FakeNvml, path: Path, interval_s: float) -> None:
        self._fake, self._path, self._interval_s = fake, path, interval_s

    def begin(self) -> None:
        code = (
            "import sys, time; from pathlib import Path; from harness.telemetry import GpuReader\n"
            "reader = GpuReader(Path(sys.argv[1]), time.monotonic_ns(), float(sys.argv[2])); reader.start()\n"
            "print(reader.pid, flush=True); sys.stdin.read(); reader.stop(); print(reader.about['missed_polls'])"
        )
        self._parent = subprocess.Popen(
            [sys.executable, "-c", code, str(self._path), str(self._interval_s)],
            env=self._fake.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._parent.stdout
        self._start(int(self._parent.stdout.readline()))

    def end(self) -> Figures:
        cpu_s, seconds = self._stop()
        missed = int(self._parent.communicate()[0])
        with Tail(self._path, SCHEMAS["readings"]) as tail:
            t_ns = np.unique(tail.poll()["t_ns"].to_numpy())
        return Figures.of(t_ns, cpu_s, seconds, self._interval_s, missed)


class Peer(_Watched):
    """A loop over pynvml that writes CSV."""

    def __init__(self, fake: FakeNvml, code: str, path: Path, interval_s: float) -> None:
        self._fake, self._code, self._path, self._interval_s = fake, code, path, interval_s

    def begin(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-c", self._code, str(self._path), str(self._interval_s)],
            env=self._fake.environment, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._child.stdout
        self._child.stdout.readline()
        self._start(self._child.pid)

    def end(self) -> Figures:
        cpu_s, seconds = self._stop()
        self._child.terminate()
        self._child.communicate()
        whole = self._path.read_text().splitlines()[:-1]
        return Figures.of([int(line.partition(",")[0]) for line in whole], cpu_s, seconds, self._interval_s)
