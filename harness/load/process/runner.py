"""The Locust process: commands in, traffic out. gevent is the only clock here.

Protocol: JSON lines. Commands on stdin:

    {"do": "prepare", "spec": {...}}           once, first
    {"do": "stage", "index": i}                ends the stage before, if it still runs
    {"do": "end"}                              ends the stage that runs
    {"do": "route", "candidate_share": s}      0.0 all to the baseline, 1.0 to the candidate, null: as planned
    {"do": "stop"}                             end of stdin says the same: the harness is gone

Events on stdout, `t_ns` counted from the start of the run:

    {"event": "ready"}
    {"event": "stage_begun", "index": i, "t_ns": t}
    {"event": "stage_done", "index": i, "t_ns": t}      its time is over and nothing of it is in flight
    {"event": "stopped"}                                all is flushed; the process ends
    {"event": "error", "kind": "usage" | "world" | "bug", "message": m}     then it ends, not with 0
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gevent
import gevent.os
from gevent.event import AsyncResult
from gevent.pool import Group
from grpc.experimental.gevent import init_gevent

from harness.errors import CanaryError, RecordingError, UsageError
from harness.load.carry import Carrier, Sender
from harness.load.clock import GeventClock
from harness.load.dispatch import Route, Stage
from harness.load.grpc import GrpcSender
from harness.load.http import HttpSender
from harness.load.recorder import Recorder
from harness.load.reply import Exchange
from harness.load.spec import LoadSpec, wire_of
from harness.types import ArmName, PlannedRequest, Sample, StagePlan

Requests = Callable[[StagePlan, int, int], Iterator[PlannedRequest]]
"""The plan: (stage, seed, number of prompts) to the requests of that stage."""

FLUSH_S = 0.25
MANY_ROWS = 200
# How long requests in flight may take once the run is told to stop; then they are cancelled.
GRACE_S = 1.0
CONNECT_S = 2.0
# A second for Locust to shut down by itself; then the process ends without it.
EXIT_S = 1.0


def together(functions: Sequence[Callable[[], Exchange]]) -> list[Exchange]:
    """`carry.Together` on gevent: the others start as soon as the first one waits for its answer."""
    others = [gevent.spawn(function) for function in functions[1:]]
    first = functions[0]()
    return [first, *(other.get() for other in others)]


class Runner:
    """Carries out what the parent says, inside a Locust user's task; `run` ends the process."""

    def __init__(self, environment: Any, requests: Requests) -> None:
        self._environment = environment
        self._requests = requests
        self._route = Route()
        self._end: AsyncResult = AsyncResult()
        self._stages = Group()
        self._current: Stage | None = None
        self._recorder: Recorder | None = None
        self._senders: dict[ArmName, Sender] = {}
        self._spec: LoadSpec
        self._carrier: Carrier
        self._commands, self._events = _claim_pipes()
        # Locust has ways of its own to end (SIGTERM): what happened is written then, too.
        environment.events.quitting.add_listener(lambda **_: self._close())

    def run(self) -> None:
        # Ctrl-C reaches a whole process group; when to end is the parent's to say.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        code = 0
        gevent.spawn(self._listen).link_exception(self._fatal)
        try:
            self._end.get()
            self._wind_down()
            self._emit({"event": "stopped"})
        except CanaryError as error:
            kind = "usage" if isinstance(error, UsageError) else "world"
            self._emit({"event": "error", "kind": kind, "message": str(error)})
            code = error.exit_code
        except Exception as error:  # noqa: BLE001  the parent must hear of it, whatever it is
            self._environment.runner.log_exception("", repr(error), "")
            self._emit({"event": "error", "kind": "bug", "message": f"load generator: {error!r}"})
            code = 4
        self._leave(code)

    def _listen(self) -> None:
        rest = b""
        while data := gevent.os.nb_read(self._commands, 65536):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._command(json.loads(line))
                if self._end.ready():
                    return
        self._end.set(None)

    def _command(self, command: dict[str, Any]) -> None:
        match command["do"]:
            case "prepare":
                self._prepare(LoadSpec.from_json(json.dumps(command["spec"])))
            case "stage":
                self._begin(self._spec.stages[command["index"]])
            case "end":
                if self._current:
                    self._current.stop()
            case "route":
                self._route.override(command["candidate_share"])
            case "stop":
                self._end.set(None)

    def _prepare(self, spec: LoadSpec) -> None:
        spec.check()
        self._spec = spec
        self._recorder = Recorder(spec.folder, outputs=spec.keeps_outputs, chunks=spec.chunks)
        init_gevent()
        for name, arm in spec.arms.items():
            kind = HttpSender if wire_of(arm, spec.models[name]) == "http" else GrpcSender
            self._senders[name] = kind(arm, spec.models[name], self._now_ns)
        self._carrier = Carrier(spec, self._senders, self._recorder, self._route, together, self._observe)
        gevent.joinall([gevent.spawn(sender.connect, CONNECT_S) for sender in self._senders.values()])
        # A collection of everything that Locust imported would stop the traffic for tens of milliseconds.
        gc.collect()
        gc.freeze()
        gevent.spawn(self._flush_now_and_then).link_exception(self._fatal)
        self._emit({"event": "ready"})

    def _begin(self, plan: StagePlan) -> None:
        if self._current:
            self._current.stop()
        requests = self._requests(plan, self._spec.seed, self._spec.payloads)
        clock = GeventClock(self._spec.t0_ns, self._fatal)
        self._current = Stage(plan, requests, lambda r, due_ns: self._carrier.carry(plan, r, due_ns), clock)
        self._stages.spawn(self._carry_out, self._current, plan, clock).link_exception(self._fatal)

    def _carry_out(self, stage: Stage, plan: StagePlan, clock: GeventClock) -> None:
        self._emit({"event": "stage_begun", "index": plan.index, "t_ns": self._now_ns()})
        stage.run()
        clock.close()
        # What the parent reads after this event is complete.
        if self._recorder:
            self._recorder.flush()
        self._emit({"event": "stage_done", "index": plan.index, "t_ns": self._now_ns()})

    def _flush_now_and_then(self) -> None:
        while self._recorder:
            # Writing takes microseconds a row, in which nothing else runs: little and often if there is much.
            gevent.sleep(FLUSH_S if self._recorder.pending < MANY_ROWS else FLUSH_S / 5)
            if self._recorder:
                self._recorder.flush()

    def _observe(self, sample: Sample, wire: str) -> None:
        self._environment.events.request.fire(
            request_type=wire,
            name=f"{sample.arm} {sample.assignment}",
            response_time=(sample.done_ns - sample.due_ns) / 1e6,
            response_length=max(sample.osl, 0),
            exception=sample.error or None,
            context={},
        )

    def _now_ns(self) -> int:
        return time.monotonic_ns() - self._spec.t0_ns

    def _fatal(self, greenlet: gevent.Greenlet) -> None:
        self._end.set_exception(greenlet.exception)

    def _wind_down(self) -> None:
        """Nothing new, a moment for what is in flight, then cancel; all that happened is written."""
        if self._current:
            self._current.stop()
        if not self._stages.join(GRACE_S):
            for sender in self._senders.values():
                sender.cancel()
            self._stages.join(GRACE_S)
        self._close()

    def _close(self) -> None:
        if self._recorder:
            recorder, self._recorder = self._recorder, None
            recorder.close()

    def _emit(self, event: dict[str, Any]) -> None:
        try:
            os.write(self._events, json.dumps(event).encode() + b"\n")
        except BrokenPipeError:
            # The harness was killed; the end of stdin says so, too.
            return

    def _leave(self, code: int) -> None:
        """Ends the process, through Locust so that it prints its statistics, or without it."""
        try:
            self._close()
        except RecordingError:
            code = code or 4
        self._environment.process_exit_code = code
        gevent.spawn_later(EXIT_S, os._exit, code)
        self._environment.runner.quit()
        # A user whose task returned would be given it again.
        gevent.sleep(2 * EXIT_S)


def _claim_pipes() -> tuple[int, int]:
    """The protocol's two ends, for us alone: Locust reads keys from stdin and prints to stdout."""
    commands, events = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    gevent.os.make_nonblocking(commands)
    return commands, events
