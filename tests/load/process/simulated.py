"""Master and workers on a network and a clock that tests rule: latency, loss, cuts, clocks that are apart."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from pathlib import Path
from typing import Any

from harness.load.process.master import Master
from harness.load.process.worker import Worker
from harness.load.spec import LoadSpec
from harness.types import StagePlan

SECOND = 1_000_000_000
TICK_S = 0.25


class World:
    """Everything happens in the order of `now_ns`; `run` lets it."""

    def __init__(self, folder: Path, *, seed: int = 0, loss: float = 0.0, latency_s: float = 0.001) -> None:
        self.now_ns = 5 * SECOND
        self.dice = random.Random(seed)
        self.loss, self.latency_s = loss, latency_s
        self.events: list[dict[str, Any]] = []
        self.hosts: dict[str, Host] = {}
        self.folder = folder
        self.frames = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()
        self.master = Master(self._to_worker, self.events.append, lambda: self.now_ns)
        self._every(self.master.tick)

    def host(self, name: str, *, token: str = "secret", ahead_s: float = 0.0, local: bool = False) -> Host:
        folder = self.folder if local else self.folder.parent / name
        folder.mkdir(exist_ok=True)
        host = self.hosts[name] = Host(self, name, folder, ahead_ns=round(ahead_s * SECOND))
        host.load = FakeLoad(host)
        host.worker = Worker(
            lambda data: self._to_master(host, data), host.load, token=token, host=name, pid=len(self.hosts),
            folder=folder, local=local, now_ns=host.clock_ns, reconnect=host.reconnect,
        )  # fmt: skip
        self._every(host.tick)
        return host

    def prepare(self, spec: LoadSpec, workers: int, token: str = "secret") -> None:
        self.master.command({"do": "prepare", "spec": json.loads(spec.to_json()), "workers": workers, "token": token})

    def after(self, delay_s: float, call: Callable[[], None]) -> None:
        heappush(self._queue, (self.now_ns + round(delay_s * SECOND), next(self._order), call))

    def run(self, seconds: float) -> None:
        until = self.now_ns + round(seconds * SECOND)
        while self._queue and self._queue[0][0] <= until:
            self.now_ns, _, call = heappop(self._queue)
            call()
        self.now_ns = until

    def run_until(self, name: str, deadline_s: float = 300.0, **fields: Any) -> dict[str, Any]:
        """Until such an event has come."""
        for _ in range(round(deadline_s / 0.05)):
            for event in self.events:
                if event["event"] == name and all(event.get(key) == value for key, value in fields.items()):
                    return event
            self.run(0.05)
        raise AssertionError(f"no {name} within {deadline_s} s; {self.events[-5:]}")

    def names(self) -> list[str]:
        return [event["event"] for event in self.events if event["event"] != "closing"]

    def _every(self, call: Callable[[], None]) -> None:
        def again() -> None:
            call()
            self.after(TICK_S, again)

        self.after(self.dice.random() * TICK_S, again)

    def _to_master(self, host: Host, data: Any) -> None:
        self.frames += 1
        self._travel(host, lambda: host.dead or self.master.heard(host.name, data))

    def _to_worker(self, client: str, data: Any) -> None:
        host = self.hosts[client]
        self._travel(host, lambda: host.dead or host.over is not None or host.heard(data))

    def _travel(self, host: Host, arrive: Callable[[], object]) -> None:
        if host.cut or host.dead or self.dice.random() < self.loss:
            return
        self.after(self.latency_s * (0.5 + self.dice.random()), lambda: None if host.cut else arrive() and None)


@dataclass
class Host:
    """A machine with one worker; its clock is `ahead_ns` of the master's."""

    world: World
    name: str
    folder: Path
    ahead_ns: int
    cut: bool = False
    dead: bool = False
    reconnects: int = 0
    load: FakeLoad = field(init=False)
    worker: Worker = field(init=False)

    @property
    def over(self) -> int | None:
        return self.worker.over

    def clock_ns(self) -> int:
        return self.world.now_ns + self.ahead_ns

    def tick(self) -> None:
        if not self.dead and self.over is None:
            self.worker.tick()

    def heard(self, data: Any) -> None:
        self.worker.heard(data)

    def reconnect(self) -> None:
        self.reconnects += 1


class FakeLoad:
    """Instead of an engine: a stage writes ten lines a second into the worker's samples."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.specs: list[LoadSpec] = []
        self.begins: list[tuple[int, int]] = []
        """(index, true time of its begin)."""
        self.commands: list[str] = []
        self.errors_s: list[float] = []
        self.stopped = False
        self.failing: dict[str, Any] | None = None
        self._stage: StagePlan | None = None

    def prepare(self, spec: LoadSpec) -> None:
        self.specs.append(spec)
        self._path = spec.folder / f"samples-{spec.worker}.arrow"
        self._path.write_text("header\n")
        if self.failing:
            self.host.worker.event(self.failing)
        else:
            self.host.world.after(0.2, lambda: self._event({"event": "ready"}))

    def stage(self, plan: StagePlan, begin_ns: int) -> None:
        self._stage = plan
        true_ns = begin_ns + self.specs[-1].t0_ns - self.host.ahead_ns
        self.begins.append((plan.index, true_ns))
        self._event({"event": "stage_begun", "index": plan.index, "t_ns": begin_ns})
        self.host.world.after((true_ns - self.host.world.now_ns) / SECOND + plan.duration_s, lambda: self._done(plan))
        self._sample(plan, 0)

    def end_stage(self) -> None:
        self.commands.append("end")
        if self._stage:
            self._done(self._stage)

    def route(self, candidate_share: float | None) -> None:
        self.commands.append(f"route {candidate_share}")

    def clock_error(self, seconds: float) -> None:
        self.errors_s.append(seconds)

    def stop(self) -> None:
        self.stopped = True
        self._stage = None
        self.host.world.after(0.5, lambda: self._event({"event": "stopped"}))

    @property
    def written(self) -> bytes:
        return self._path.read_bytes()

    def fail(self, message: str) -> None:
        self._stage = None
        self._event({"event": "error", "kind": "world", "message": message})

    def _sample(self, plan: StagePlan, number: int) -> None:
        if self._stage is plan and not self.host.dead:
            with self._path.open("a") as file:
                file.write(f"{plan.index} {number}\n")
            self.host.world.after(0.1, lambda: self._sample(plan, number + 1))

    def _done(self, plan: StagePlan) -> None:
        if self._stage is plan:
            self._stage = None
            with self._path.open("a") as file:
                file.write(f"{plan.index} done\n")
            self._event({"event": "stage_done", "index": plan.index, "t_ns": 0})

    def _event(self, event: dict[str, Any]) -> None:
        if not self.host.dead:
            self.host.worker.event(event)
