"""The generator looks at itself: what it cost, and how long its loop was away. Once a second, beside the samples."""

from __future__ import annotations

import os
import time
import weakref
from typing import Protocol

from harness.load.engine.loop import Loop
from harness.types import ArmName, Reading

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Sink(Protocol):
    def reading(self, reading: Reading) -> None: ...


class Audit:
    """`cpu` is of the whole process, in cores; `stall_max` the longest turn of the loop since the last look; `unsent`
    waits for a connection; `late`: for how long the next request has been due.
    """

    def __init__(self, worker: int, loop: Loop) -> None:
        self._device = f"worker{worker}"
        self._loop = loop
        self._cpu_s, self._wall_s = time.process_time(), time.monotonic()
        # Opened now: a generator that has run out of file descriptors is to say so, and not to end.
        self._memory = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._memory)

    def look(self, sink: Sink, *, backlog: int, in_flight: int, unsent: int, late_ns: int) -> None:
        cpu_s, wall_s = time.process_time(), time.monotonic()
        share = (cpu_s - self._cpu_s) / max(wall_s - self._wall_s, 1e-6)
        self._cpu_s, self._wall_s = cpu_s, wall_s
        t_ns = self._loop.now_ns()
        for metric, value, unit in (
            ("cpu", share, "ratio"),
            ("stall_max", self._loop.take_worst() / 1e9, "s"),
            ("stalls", self._loop.stalls, "1"),
            ("backlog", backlog, "1"),
            ("in_flight", in_flight, "1"),
            ("unsent", unsent, "1"),
            ("late", late_ns / 1e9, "s"),
            ("lead", self._loop.lead_ns / 1e9, "s"),
            ("rss", int(os.pread(self._memory, 256, 0).split()[1]) * _PAGE, "bytes"),
        ):
            sink.reading(Reading(t_ns, "generator", self._device, metric, float(value), unit))

    def cache(self, sink: Sink, arm: ArmName, prompt_tokens: int, cached_tokens: int) -> None:
        """Tokens of prompts so far, and how many of them the engine says it had in a cache."""
        t_ns, device = self._loop.now_ns(), f"{self._device}/{arm}"
        sink.reading(Reading(t_ns, "generator", device, "prompt.tokens", float(prompt_tokens), "1"))
        sink.reading(Reading(t_ns, "generator", device, "prompt.cached_tokens", float(cached_tokens), "1"))

    def counted(self, sink: Sink, arm: ArmName, answers: int) -> None:
        """Answers so far whose tokens the load's tokenizer counted and not the engine."""
        device = f"{self._device}/{arm}"
        sink.reading(Reading(self._loop.now_ns(), "generator", device, "osl.by_tokenizer", float(answers), "1"))
