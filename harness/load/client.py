"""The parent's handle of the Locust process: commands in, events out. Knows no locust, gevent or grpc."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from harness.assets import locustfiles_dir
from harness.errors import ServerDied, UsageError, WorldError
from harness.load.begun import Begun
from harness.load.spec import LoadSpec
from harness.types import ArmName, StagePlan

Event = dict[str, Any]

START_S = 60.0
STOP_S = 10.0


class Generator:
    """One Locust process for a whole run. It ends by itself when this process is gone.

    `log` takes what Locust prints; `hold`: file descriptors that stay open until it has ended (a lock). Every method
    but `kill` raises WorldError with the generator's own line (disk full, say), or ServerDied if it ended without one.
    """

    def __init__(
        self, spec: LoadSpec, log: Path, *, locustfile: Path | None = None, hold: tuple[int, ...] = ()
    ) -> None:
        self.spec = spec
        self.log = log
        self._locustfile = locustfile
        self._hold = hold
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._ended: WorldError | UsageError | None = None
        self._stopping = False
        self._begun: Begun | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self, deadline_s: float = START_S) -> None:
        """Returns when every payload is prepared. Raises UsageError (nothing was started), WorldError."""
        self.spec.check()
        locustfile = self._locustfile or locustfiles_dir() / "canary.py"
        command = [sys.executable, "-m", "locust", "-f", str(locustfile.resolve()), "--headless"]
        command += ["--users", "1", "--spawn-rate", "1", "--only-summary", "--loglevel", "WARNING"]
        # Locust takes options from the environment: somebody's own must not reach this run.
        env = {name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self.log.parent,
                env=env,
                pass_fds=self._hold,
                start_new_session=True,  # a Ctrl-C at the terminal is the parent's to handle
            )
        self._reader = threading.Thread(target=self._read, name="load-events", daemon=True)
        self._reader.start()
        self._send({"do": "prepare", "spec": json.loads(self.spec.to_json())})
        self._await("ready", deadline_s)
        self._begun = Begun(self.spec.folder)

    def begun(self, arm: ArmName) -> int:
        """Requests that have left for `arm`, or are about to: never fewer than a server can have counted. 0 before
        `start`; may be called from any thread.
        """
        return self._begun.read(arm) if self._begun else 0

    def stage(self, plan: StagePlan) -> None:
        """Begins a stage; one that still runs issues nothing more."""
        self._send({"do": "stage", "plan": asdict(plan)})

    def end_stage(self) -> None:
        """The stage that runs issues nothing more; its `stage_done` follows once nothing of it is in flight."""
        self._send({"do": "end"})

    def route(self, candidate_share: float | None) -> None:
        """0.0: all to the baseline from now on; 1.0: all to the candidate; any other share, and None: as planned."""
        override = candidate_share if candidate_share in (0.0, 1.0) else None
        self._send({"do": "route", "candidate_share": override})

    def events(self, wait_s: float = 0.0) -> list[Event]:
        """What the generator said since the last call; waits up to `wait_s` if it said nothing."""
        events: list[Event] = []
        deadline = time.monotonic() + wait_s
        while True:
            try:
                left = 0.0 if events else max(deadline - time.monotonic(), 0.0)
                event = self._events.get(timeout=left) if left else self._events.get_nowait()
            except queue.Empty:
                break
            if event is None:
                self._finish()
                break
            if event["event"] == "error":
                kind = UsageError if event.get("kind") == "usage" else WorldError
                self._ended = kind(event["message"])
                continue
            events.append(event)
        if not events:
            self.poll()
        return events

    def poll(self) -> None:
        """Raises if the generator has ended by itself; tells nothing else."""
        if self._ended:
            raise self._ended
        if not self._stopping and self._process and self._process.poll() is not None and self._events.empty():
            self._finish()
            if self._ended:
                raise self._ended

    def stop(self, deadline_s: float = STOP_S) -> None:
        """Ends the load; returns when every sample is on disk and the process is gone. Twice is fine."""
        if self._process is None or self._stopping:
            return
        self._stopping = True
        self._send({"do": "stop"})
        try:
            self._await("stopped", deadline_s)
            self._process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            pass  # everything is written; only Locust's own farewell hangs
        finally:
            self.kill()

    def kill(self) -> None:
        """Ends the process at once, if it still runs. What it flushed stays readable. Never raises."""
        process = self._process
        if process is None:
            return
        self._stopping = True
        if process.poll() is None:
            process.kill()
        process.wait()
        if self._reader:
            self._reader.join()
        for pipe in (process.stdin, process.stdout):
            if pipe and not pipe.closed:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue

    def _await(self, name: str, deadline_s: float) -> None:
        deadline = time.monotonic() + deadline_s
        while (left := deadline - time.monotonic()) > 0:
            if any(event["event"] == name for event in self.events(min(left, 0.5))):
                return
            if self._ended:
                raise self._ended
        raise WorldError(f"the load generator did not answer within {deadline_s:g} s; see {self.log}")

    def _send(self, command: dict[str, Any]) -> None:
        if self._process is None or self._process.stdin is None:
            raise ServerDied("the load generator was not started")
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            self._process.wait(STOP_S)
            self.events(1.0)
            raise self._ended or ServerDied("the load generator has ended") from None

    def _read(self) -> None:
        """The reader thread: until the process closes its end."""
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._events.put(json.loads(line))
        self._events.put(None)

    def _finish(self) -> None:
        """The process closed its end: an error if it was not told to."""
        if self._process is None or self._ended or self._stopping:
            return
        code = self._process.wait(STOP_S)
        self._ended = ServerDied(f"the load generator ended by itself (exit code {code}); see {self.log}")
