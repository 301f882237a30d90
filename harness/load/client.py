"""The parent's handle of the Locust processes: commands in, events out. Knows no locust, gevent or grpc."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from harness.errors import ServerDied, UsageError, WorldError
from harness.load import launch
from harness.load.begun import Begun
from harness.load.launch import LOOPBACK, Listen, Process
from harness.load.process.join import new_token
from harness.load.roster import Roster
from harness.load.spec import LoadSpec
from harness.types import ArmName, StagePlan

Event = dict[str, Any]

START_S = 60.0
STOP_S = 30.0


class Generator:
    """The load of a whole run: one Locust process, or with `workers` > 1 a master and that many on this machine.

    `listen`: the workers come from other hosts instead (`triton-canary worker`), and are awaited there.
    `log` takes what Locust prints; `hold`: file descriptors that stay open until all have ended (a lock). They end by
    themselves when this process is gone. Every method but `kill` raises WorldError with the generator's own line (disk
    full, say), or ServerDied if it ended without one. Workers may be lost without any of that: see `roster`.
    """

    def __init__(
        self, spec: LoadSpec, log: Path, *, locustfile: Path | None = None, hold: tuple[int, ...] = (),
        workers: int = 1, listen: Listen | None = None,
    ) -> None:  # fmt: skip
        self.spec = spec
        self.log = log
        self.roster = Roster()
        self._locustfile, self._hold = locustfile, hold
        self._workers, self._listen = workers, listen
        self._process: Process | None = None
        self._local: list[Process] = []
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
        """Of the process that speaks with this one."""
        return self._process.pid if self._process else None

    def start(self, deadline_s: float = START_S, waiting: Callable[[list[Event]], None] = lambda _: None) -> None:
        """Returns when every payload is prepared, by all workers. Raises UsageError (nothing was started), WorldError.

        `waiting` is called with the events so far, several times a second; what it raises ends the start.
        """
        self.spec.check()
        if self._workers == 1 and self._listen is None:
            self._launch(launch.alone())
            self._send({"do": "prepare", "spec": json.loads(self.spec.to_json())})
        else:
            self._start_crew(waiting)
        if self.spec.cache == "warm":
            # Every payload is asked of every arm first, and each may take as long as a request may.
            deadline_s += self.spec.timeout_s * self.spec.payloads
        self._await("ready", deadline_s, waiting)
        self._begun = Begun(self.spec.folder)

    def begun(self, arm: ArmName) -> int:
        """Requests that have left for `arm`, or are about to: never fewer than a server can have counted. 0 before
        `start`; may be called from any thread. Of workers on this machine only.
        """
        return self._begun.read(arm) if self._begun else 0

    def stage(self, plan: StagePlan) -> None:
        """Begins a stage; one that still runs issues nothing more."""
        self._send({"do": "stage", "plan": asdict(plan)})

    def end_stage(self) -> None:
        """The stage that runs issues nothing more; its `stage_done` follows once nothing of it is in flight."""
        self._send({"do": "end"})

    def route(self, candidate_share: float | None) -> None:
        """0.0: all to the baseline from now on; 1.0: all to the candidate; any other share, and None: as planned.

        After `stop` nothing is sent that could take another way.
        """
        if self._stopping:
            return
        override = candidate_share if candidate_share in (0.0, 1.0) else None
        self._send({"do": "route", "candidate_share": override})

    def events(self, wait_s: float = 0.0) -> list[Event]:
        """What the generator said since the last call; waits up to `wait_s` if it said nothing."""
        self._tell_the_gone()
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
            self.roster.note(event)
            events.append(event)
        if not events:
            self.poll()
        return events

    def poll(self) -> None:
        """Raises if the generator has ended by itself; tells nothing else."""
        if self._ended:
            raise self._ended
        if self._stopping or self._process is None or self._process.poll() is None:
            return
        # Its last line may say why, and be on its way still.
        if self._reader:
            self._reader.join(STOP_S)
        if self._events.empty():
            self._finish()
            if self._ended:
                raise self._ended

    def stop(self, deadline_s: float = STOP_S) -> None:
        """Ends the load; returns when every sample is on disk and the processes are gone. Twice is fine.

        As long as files of workers on other hosts arrive it waits for them, however long that takes.
        """
        if self._process is None or self._stopping:
            return
        self._stopping = True
        self._send({"do": "stop"})
        try:
            self._await("stopped", deadline_s)
            for process in (self._process, *self._local):
                process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            pass  # everything is written; only Locust's own farewell hangs
        finally:
            self.kill()

    def kill(self) -> None:
        """Ends the processes at once, if they still run. What they flushed stays readable. Never raises."""
        if self._process is None:
            return
        self._stopping = True
        for process in (self._process, *self._local):
            if process.poll() is None:
                process.kill()
            process.wait()
        if self._begun:
            self._begun.close()
        if self._reader:
            self._reader.join()
        for process in (self._process, *self._local):
            launch.end(process)

    def _start_crew(self, waiting: Callable[[list[Event]], None]) -> None:
        listen = self._listen or Listen(LOOPBACK, 0, new_token())
        self._launch(launch.as_master(self._workers, listen.host, listen.port))
        port = self._await("listening", START_S, waiting)["port"]
        spec = json.loads(self.spec.to_json())
        self._send({"do": "prepare", "spec": spec, "workers": self._workers, "token": listen.token})
        if self._listen:
            return
        for _ in range(self._workers):
            options, how = launch.as_worker(listen.host, port), {"token": listen.token, "local": True}
            worker = launch.launch(
                options, self.log, locustfile=self._locustfile, hold=self._hold, events=subprocess.DEVNULL
            )
            self._local.append(worker)
            launch.tell(worker, {**how, "folder": str(self.spec.folder)})

    def _launch(self, options: list[str]) -> None:
        self._process = launch.launch(options, self.log, locustfile=self._locustfile, hold=self._hold)
        self._reader = threading.Thread(target=self._read, name="load-events", daemon=True)
        self._reader.start()

    def _await(self, name: str, deadline_s: float, waiting: Callable[[list[Event]], None] = lambda _: None) -> Event:
        """The next event of that name. Word that files still arrive ("closing") extends the time."""
        deadline = time.monotonic() + deadline_s
        while (left := deadline - time.monotonic()) > 0:
            events = self.events(min(left, 0.5))
            for event in events:
                if event["event"] == name:
                    return event
                if event["event"] == "closing":
                    deadline = time.monotonic() + deadline_s
            if self._ended:
                raise self._ended
            waiting(events)
        raise WorldError(f"the load generator did not answer within {deadline_s:g} s; see {self.log}")

    def _tell_the_gone(self) -> None:
        """The master would take a silence for a slow line, but we know."""
        for process in [process for process in self._local if process.poll() is not None]:
            if not self._stopping:
                # Before it is told: where the master is gone, too, telling it comes here again by way of `events`.
                self._local.remove(process)
                reason = launch.how_ended(process)
                launch.end(process)
                self._send({"do": "gone", "pid": process.pid, "reason": reason})

    def _send(self, command: dict[str, Any]) -> None:
        if self._process is None:
            raise ServerDied("the load generator was not started")
        try:
            launch.tell(self._process, command)
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
