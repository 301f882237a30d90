"""A run's load on one thread: told what to do from any other, and telling by `emit` what happened."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from harness.load.engine.audit import Audit
from harness.load.engine.carry import Carrier, Observe
from harness.load.engine.dispatch import Route, Stage
from harness.load.engine.exchange import Sender
from harness.load.engine.grpc import GrpcSender
from harness.load.engine.http import HttpSender
from harness.load.engine.loop import Loop
from harness.load.recorder import Recorder
from harness.load.spec import LoadSpec, wire_of
from harness.types import ArmName, Experiment, PlannedRequest, Reading, StagePlan

Emit = Callable[[dict[str, Any]], None]

FLUSH_S = 0.25
AUDIT_S = 1.0
# How long requests in flight may take once the run is told to stop; then they are cancelled.
GRACE_S = 1.0
# And how long a server may go on with what was cancelled here, before its connection is closed.
LINGER_S = 5.0
CONNECT_S = 2.0
# Connections that are there before the first request.
AHEAD = 8


class Requests(Protocol):
    """The plan: a stage to this worker's share of its requests."""

    def __call__(
        self, stage: StagePlan, seed: int, prompts: int, trace_ns: tuple[int, ...], *, worker: int, workers: int,
        experiment: Experiment | None = None,
    ) -> Iterator[PlannedRequest]: ...  # fmt: skip


class Engine:
    """`run` blocks, in a thread of its own, until `stop` has been carried out; all else may be called from any thread.

    Events (`t_ns` from the run's start): {"event": "ready"}, "stage_begun" and "stage_done" with index and t_ns,
    "stopped". What goes wrong (UsageError: a payload cannot be made; RecordingError: the disk is full) ends `run` and
    is raised there. What was recorded is written, whatever ends it.
    """

    def __init__(
        self, spec: LoadSpec, requests: Requests, emit: Emit, observe: Observe, poller: Callable[[], Any] | None = None
    ) -> None:
        self._spec, self._requests, self._emit, self._observe = spec, requests, emit, observe
        self._loop = Loop(spec.t0_ns, poller)
        self._route = Route()
        self._senders: dict[ArmName, Sender] = {}
        self._stages: list[Stage] = []
        self._stopping = False
        self._recorder: Recorder
        self._carrier: Carrier

    def run(self) -> None:
        self._recorder = Recorder(
            self._spec.folder, worker=self._spec.worker, outputs=self._spec.keeps_outputs, chunks=self._spec.chunks
        )
        try:
            self._prepare()
            self._loop.run()
        finally:
            self._end_stages()
            for sender in self._senders.values():
                sender.close()
            try:
                if hasattr(self, "_carrier"):
                    self._carrier.close()
            finally:
                self._recorder.close()
                self._loop.close()
        self._emit({"event": "stopped"})

    def stage(self, plan: StagePlan, begin_ns: int | None = None) -> None:
        """Begins a stage, at `begin_ns` or at once; one that still runs issues nothing more."""
        self._loop.post(self._begin, plan, begin_ns)

    def end_stage(self) -> None:
        """The stage that runs issues nothing more."""
        self._loop.post(self._end_stages)

    def route(self, candidate_share: float | None) -> None:
        self._loop.post(self._route.override, candidate_share)

    def clock_error(self, seconds: float) -> None:
        """How uncertain this worker's time is, where the run's start was told by another host's clock."""
        self._loop.post(self._note, "clock_error", seconds, "s")

    def stop(self) -> None:
        """Nothing new, a moment for what is in flight, then cancel; all that happened is written."""
        self._loop.post(self._wind_down)

    def _prepare(self) -> None:
        spec, loop = self._spec, self._loop
        spec.check()
        for name, arm in spec.arms.items():
            kind = GrpcSender if wire_of(arm, spec.models[name]).startswith("grpc") else HttpSender
            self._senders[name] = kind(loop, arm, spec.models[name], spec.connections)
        self._carrier = Carrier(spec, self._senders, self._recorder, self._route, loop, self._observe)
        self._tick_s = min(max(spec.timeout_s / 20, 0.005), 0.05)
        self._connecting = len(self._senders)
        patience = loop.after(CONNECT_S, self._ready)
        for sender in self._senders.values():
            sender.connect(AHEAD, lambda: self._connected(patience))

    def _connected(self, patience: Any) -> None:
        self._connecting -= 1
        if self._connecting == 0:
            patience.cancel()
            self._ready()

    def _ready(self) -> None:
        """Connected, or not: a server that is not there is what the run shall see."""
        self._connecting = -1
        self._expire()
        if self._spec.cache == "warm":
            self._carrier.warm(self._be_ready)
        else:
            self._be_ready()

    def _be_ready(self) -> None:
        self._audit = Audit(self._spec.worker, self._loop)
        # A collection of everything that was imported would stop the traffic for tens of milliseconds.
        gc.collect()
        gc.freeze()
        self._flush()
        self._look()
        self._loop.start_over()
        self._emit({"event": "ready"})

    def _begin(self, plan: StagePlan, begin_ns: int | None) -> None:
        self._end_stages()
        if self._stopping:
            return
        spec = self._spec
        requests = self._requests(
            plan, spec.seed, spec.payloads, spec.trace_ns, worker=spec.worker, workers=spec.workers,
            experiment=spec.experiment,
        )  # fmt: skip
        stage = Stage(
            plan, requests, lambda request, due_ns, over: self._carrier.carry(plan, request, due_ns, over),
            self._loop, lambda: self._done(stage), spec.worker, spec.workers,
        )  # fmt: skip
        self._stages.append(stage)
        begin_ns = self._loop.now_ns() if begin_ns is None else begin_ns
        self._recorder.stage(plan, begin_ns)
        stage.begin(begin_ns)
        self._emit({"event": "stage_begun", "index": plan.index, "t_ns": begin_ns})

    def _done(self, stage: Stage) -> None:
        self._stages.remove(stage)
        # What the parent reads after this event is complete.
        self._carrier.drain()
        if stage.unsent:
            self._note("never_sent", stage.unsent, "1")
        self._recorder.flush()
        if not self._stopping:
            self._emit({"event": "stage_done", "index": stage.plan.index, "t_ns": self._loop.now_ns()})
        elif not self._stages:
            self._leave(self._loop.now_ns())

    def _end_stages(self) -> None:
        for stage in self._stages:
            stage.stop()

    def _wind_down(self) -> None:
        self._stopping = True
        self._end_stages()
        if not self._stages:
            self._leave(self._loop.now_ns())
            return
        self._loop.after(GRACE_S, self._cancel)

    def _cancel(self) -> None:
        for sender in self._senders.values():
            sender.cancel()
        self._leave(self._loop.now_ns())

    def _leave(self, since_ns: int) -> None:
        """A connection that is closed while Triton 2.51 writes to its streams may crash it: they end by themselves."""
        waited_s = (self._loop.now_ns() - since_ns) / 1e9
        if waited_s < LINGER_S and any(sender.lingering for sender in self._senders.values()):
            self._loop.after(0.05, self._leave, since_ns)
        else:
            self._loop.stop()

    def _expire(self) -> None:
        limit_ns = self._loop.now_ns() - int(self._spec.timeout_s * 1e9)
        for sender in self._senders.values():
            sender.expire(limit_ns)
        self._loop.after(self._tick_s, self._expire)

    def _flush(self) -> None:
        self._recorder.flush()
        self._loop.after(FLUSH_S, self._flush)

    def _note(self, metric: str, value: float, unit: str) -> None:
        device = f"worker{self._spec.worker}"
        self._recorder.reading(Reading(self._loop.now_ns(), "generator", device, metric, value, unit))

    def _look(self) -> None:
        self._audit.look(
            self._recorder,
            backlog=self._carrier.backlog,
            in_flight=sum(stage.in_flight for stage in self._stages),
            unsent=sum(sender.waiting for sender in self._senders.values()),
            late_ns=max((stage.late_ns for stage in self._stages), default=0),
        )
        for arm, tokens in self._carrier.prompt_tokens.items():
            self._audit.cache(self._recorder, arm, tokens, self._carrier.cached_tokens[arm])
        for arm, answers in self._carrier.counted.items():
            self._audit.counted(self._recorder, arm, answers)
        self._loop.after(AUDIT_S, self._look)
