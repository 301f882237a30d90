"""Memory across loads and unloads of a version: GPU memory, or the resident memory of the server's processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from harness.errors import UsageError
from harness.run.machine import listening
from harness.run.models.leak import Cycle, Trend, cost, trend
from harness.run.models.loading import load, unload
from harness.run.models.rules import Rules
from harness.run.models.site import Site
from harness.run.signals import interruptible
from harness.telemetry import LOOPBACK, Nvml, Process, SourceUnavailable, memory_of_all

SETTLE_S = 10.0
STEADY = 3


@dataclass(frozen=True, slots=True)
class Memory:
    """`read` gives bytes; `what` says of what."""

    what: str
    read: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Cycles:
    what: str
    cycles: tuple[Cycle, ...]
    cost: float
    trend: Trend


def cycles(
    site: Site, model: str, versions: Sequence[int], count: int, *, memory: Memory | None = None,
    server_pid: int | None = None, rules: Rules | None = None, observe: Callable[[Cycle], None] = lambda _: None,
) -> Cycles:  # fmt: skip
    """Load and unload `versions` `count` times beside what serves, and leave the set as it was.

    Raises UsageError where the memory cannot be read, several servers are named, or a version serves already; and what
    `load` raises.
    """
    rules = rules or Rules()
    if len(site.servers) != 1:
        raise UsageError("memory is measured on one server: name one")
    if count < 1:
        raise UsageError(f"{count} cycles: at least 1")
    memory = memory or find_memory(site, server_pid)
    with interruptible() as signals, site.changing():
        before = site.servers[0].loaded(model)
        if there := sorted(set(before) & set(versions)):
            raise UsageError(f"{model}: version {there[0]} serves already: unload it first, or measure another one")
        found = []
        for number in range(count):
            try:
                cycle = _one(site, model, versions, memory, rules, everything=not before)
            except BaseException:
                signals.ignore()
                if site.servers[0].loaded(model) != before:
                    unload(site, model, () if not before else versions, everything=not before, rules=rules)
                raise
            # What was asked before the first load holds for the others.
            rules = replace(rules, versioned_clients=True)
            found.append(cycle)
            observe(cycle)
            site.say(f"cycle {number + 1} of {count}: one load {(cycle.loaded - cycle.before) / 2**20:+.1f} MiB")
    return Cycles(memory.what, tuple(found), cost(found), trend(found))


def find_memory(site: Site, server_pid: int | None = None) -> Memory:
    """GPU memory where this machine has a GPU, else the resident memory of the server and all below it.

    Raises UsageError where the server is not known to be on this machine, or its process is not seen.
    """
    url = site.servers[0].url
    if server_pid is None and urlsplit(url).hostname not in LOOPBACK:
        raise UsageError(f"{url}: its memory is not in reach from here: run this on its machine, with --server-pid")
    gpus = Nvml()
    if gpus.missing() is None:
        return Memory("GPU memory in use, all GPUs of this machine", lambda: memory_of_all(gpus.read()))
    pid = server_pid or listening(url)
    if pid is None:
        raise UsageError(f"{url}: which process listens there is not seen by this user: name it with --server-pid")
    return Memory(f"resident memory of process {pid} and those below it", lambda: _resident(pid))


def _one(
    site: Site, model: str, versions: Sequence[int], memory: Memory, rules: Rules, *, everything: bool
) -> Cycle:  # fmt: skip
    before = _settled(memory)
    load(site, model, versions, rules=rules)
    loaded = _settled(memory)
    unload(site, model, () if everything else versions, everything=everything, rules=rules)
    return Cycle(before, loaded, _settled(memory))


def _settled(memory: Memory) -> float:
    """Once it changes by less than 0.1 % from one look to the next, or after a while: processes end a moment later."""
    deadline = time.monotonic() + SETTLE_S
    last, steady = memory.read(), 0
    while steady < STEADY and time.monotonic() < deadline:
        time.sleep(0.1)
        now = memory.read()
        steady = steady + 1 if abs(now - last) <= 0.001 * last else 0
        last = now
    return last


def _resident(pid: int) -> float:
    for value in Process(pid, "server").read():
        if value.device == "server" and value.metric == "memory.rss":
            return value.value
    raise SourceUnavailable(f"process {pid}: its memory cannot be read")
