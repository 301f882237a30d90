"""The Locust process: commands in, an engine driven, statistics shown.

Protocol: JSON lines. Commands on stdin:

    {"do": "prepare", "spec": {...}}           once, first
    {"do": "stage", "plan": {...}}             ends the stage before, if it still runs
    {"do": "end"}                              ends the stage that runs
    {"do": "route", "candidate_share": s}      0.0 all to the baseline, 1.0 to the candidate, null: as planned
    {"do": "stop"}                             end of stdin says the same: the harness is gone

Events on stdout, `t_ns` counted from the start of the run:

    {"event": "ready"}
    {"event": "stage_begun", "index": i, "t_ns": t}
    {"event": "stage_done", "index": i, "t_ns": t}      its time is over and nothing of it is in flight
    {"event": "stopped"}                                all is flushed; the process ends
    {"event": "error", "kind": "usage" | "world" | "bug", "message": m}     then it ends, not with 0

gevent's loop carries Locust and these pipes; the engine has a native thread of its own, which gevent does not touch.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import gevent
import gevent.monkey
import gevent.os

from harness.errors import CanaryError, UsageError
from harness.load.engine.engine import Engine, Requests
from harness.load.process.statistics import Statistics
from harness.load.spec import LoadSpec
from harness.types import StagePlan

# A second for Locust to shut down by itself; then the process ends without it.
EXIT_S = 1.0


class Runner:
    """Carries out what the parent says, inside a Locust user's task; `run` ends the process."""

    def __init__(self, environment: Any, requests: Requests) -> None:
        self._environment = environment
        self._requests = requests
        self._engine: Engine | None = None
        self._statistics = Statistics(environment.stats)
        self._commands, self._events = _claim_pipes()
        # Locust has ways of its own to end (SIGTERM): what happened is written then, too.
        environment.events.quitting.add_listener(lambda **_: self._end())

    def run(self) -> None:
        # Ctrl-C reaches a whole process group; when to end is the parent's to say.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        code = 0
        try:
            self._listen()
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
        """Until the engine has ended, by command or by itself. Raises what ended it."""
        self._listening = gevent.spawn(self._commands_until_the_end)
        self._listening.join()
        if self._listening.exception:
            raise self._listening.exception
        self._end()

    def _end(self) -> None:
        """Returns when the engine has written everything; raises what it was ended by. Again: nothing."""
        engine, self._engine = self._engine, None
        if engine:
            engine.stop()
            self._ended.get()

    def _commands_until_the_end(self) -> None:
        rest = b""
        while data := gevent.os.nb_read(self._commands, 65536):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                command = json.loads(line)
                if command["do"] == "stop":
                    return
                self._command(command)

    def _command(self, command: dict[str, Any]) -> None:
        if command["do"] == "prepare":
            self._prepare(LoadSpec.from_json(json.dumps(command["spec"])))
            return
        assert self._engine
        match command["do"]:
            case "stage":
                self._engine.stage(StagePlan(**command["plan"]))
            case "end":
                self._engine.end_stage()
            case "route":
                self._engine.route(command["candidate_share"])

    def _prepare(self, spec: LoadSpec) -> None:
        poller = gevent.monkey.get_original("select", "epoll")
        self._engine = Engine(spec, self._requests, self._emit, self._statistics.observe, poller)
        self._ended = gevent.get_hub().threadpool.spawn(self._engine.run)
        # An engine that ends by itself ends the listening, too.
        self._ended.rawlink(self._engine_ended)
        gevent.spawn(self._statistics.keep)

    def _engine_ended(self, result: Any) -> None:
        self._engine = None
        self._listening.kill(result.exception or gevent.GreenletExit(), block=False)

    def _emit(self, event: dict[str, Any]) -> None:
        try:
            os.write(self._events, json.dumps(event).encode() + b"\n")
        except BrokenPipeError:
            # The harness was killed; the end of stdin says so, too.
            return

    def _leave(self, code: int) -> None:
        """Ends the process, through Locust so that it prints its statistics, or without it."""
        self._statistics.take()
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
