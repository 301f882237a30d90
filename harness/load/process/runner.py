"""What a Locust process does: alone, as the master, or as a worker. Here the first, and what they have in common.

Protocol with the parent: JSON lines. Commands on stdin:

    {"do": "prepare", "spec": {...}}           once, first; to a master also "workers" and "token"
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
import traceback
from abc import ABC, abstractmethod
from typing import Any

import gevent

from harness.errors import CanaryError, UsageError
from harness.load.engine.engine import Requests
from harness.load.process.drive import Drive
from harness.load.process.pipes import Pipes
from harness.load.spec import LoadSpec
from harness.types import StagePlan

# For Locust to shut down by itself (a master collects its workers' statistics); then the process ends without it.
EXIT_S = 10.0


class Role(ABC):
    """What this process is there for, from Locust's start on. `attend` returns the exit code, or raises."""

    def __init__(self, environment: Any) -> None:
        self.environment = environment
        self.pipes = Pipes()

    @abstractmethod
    def attend(self) -> int: ...

    def run(self) -> None:
        """Ends the process."""
        # Ctrl-C reaches a whole process group; when to end is the parent's to say.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            code = self.attend()
        except Exception as error:  # noqa: BLE001  the parent must hear of it, whatever it is
            code = self.report(error)
        self.leave(code)

    def report(self, error: BaseException) -> int:
        """Tells the parent; returns the exit code."""
        self.pipes.emit(as_event(error))
        return error.exit_code if isinstance(error, CanaryError) else 4

    def leave(self, code: int) -> None:
        """Ends the process, through Locust so that it prints its statistics, or without it."""
        self.environment.process_exit_code = code
        gevent.spawn_later(EXIT_S, os._exit, code)
        self.environment.runner.quit()


class Alone(Role):
    """All of the load in this process."""

    def __init__(self, environment: Any, requests: Requests) -> None:
        super().__init__(environment)
        self._drive = Drive(environment, requests, self.pipes.emit)

    def attend(self) -> int:
        listening = gevent.spawn(self._listen)
        # An engine that ends by itself ends the listening, too.
        gevent.wait([listening, self._drive.ended], count=1)
        if listening.ready():
            listening.get()
            self._drive.end()
        else:
            self._drive.ended.get()
        return 0

    def _listen(self) -> None:
        for command in self.pipes.commands():
            match command["do"]:
                case "prepare":
                    self._drive.prepare(LoadSpec.from_json(json.dumps(command["spec"])))
                case "stage":
                    self._drive.stage(StagePlan(**command["plan"]))
                case "end":
                    self._drive.end_stage()
                case "route":
                    self._drive.route(command["candidate_share"])
                case "stop":
                    return


def as_event(error: BaseException) -> dict[str, Any]:
    """What went wrong, as the protocol words it. A bug also leaves its traceback in the log."""
    if isinstance(error, CanaryError):
        return {
            "event": "error",
            "kind": "usage" if isinstance(error, UsageError) else "world",
            "message": str(error),
        }
    traceback.print_exception(error)
    return {"event": "error", "kind": "bug", "message": f"load generator: {error!r}"}
