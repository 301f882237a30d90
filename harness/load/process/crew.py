"""Locust's master and workers: its channel carries what `Master` and `Worker` say, its statistics add up by themselves.

A message may be lost without a word (a broken connection, a full queue): both minds count on that.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

import gevent
import zmq
from gevent.event import Event
from locust.rpc import Message, rpc

from harness.errors import CanaryError
from harness.load.engine.engine import Requests
from harness.load.process.drive import Drive
from harness.load.process.master import Master
from harness.load.process.runner import Role, as_event
from harness.load.process.worker import Worker

KIND = "triton-canary"
TICK_S = 0.25
SPAWNED_S = 10.0
"""How long a worker waits for Locust to start its user: with that Locust's statistics begin anew."""
QUIT_S = 5.0
"""How long a worker that is through waits for Locust's master to collect its statistics."""


class AtMaster(Role):
    """Sends no load: tells the workers what the parent says, and the parent what they say."""

    def attend(self) -> int:
        runner = self.environment.runner
        # A port of the kernel's choice is to stay the same if Locust binds anew.
        runner.master_bind_port = runner.server.port
        # A worker that connects anew is not to be turned away while its broken connection looks alive.
        runner.server.socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self._failed: BaseException | None = None
        self._over = Event()
        self._master = Master(self._send, self.pipes.emit, time.monotonic_ns)
        runner.register_message(KIND, lambda msg, **_: self._guarded(self._master.heard, msg.node_id, msg.data))
        self.pipes.emit({"event": "listening", "port": runner.server.port})
        gevent.spawn(self._listen)
        gevent.spawn(self._tick)
        self._over.wait()
        if self._failed:
            raise self._failed
        return 0

    def _listen(self) -> None:
        for command in self.pipes.commands():
            self._guarded(self._master.command, command)
        self._guarded(self._master.command, {"do": "stop"})

    def _tick(self) -> None:
        while True:
            gevent.sleep(TICK_S)
            self._guarded(self._master.tick)

    def _guarded(self, call: Any, *args: Any) -> None:
        """What goes wrong (a full disk) ends the run."""
        if self._over.is_set():
            return
        try:
            call(*args)
        except Exception as error:  # noqa: BLE001  `attend` raises it
            self._failed = error
        if self._failed or self._master.over:
            self._over.set()

    def _send(self, client: str, data: dict[str, Any]) -> None:
        self.environment.runner.send_message(KIND, data, client_id=client)


class AtWorker(Role):
    """Carries out this worker's share. The first line of stdin says how to join."""

    def __init__(self, environment: Any, requests: Requests) -> None:
        super().__init__(environment)
        self._happened: deque[dict[str, Any]] = deque()
        self._wake = gevent.get_hub().loop.async_()
        self._drive = Drive(environment, requests, self._happen)
        self._drive.ended.rawlink(self._drive_ended)
        self._spawned = Event()
        self._own = ""
        self._finished = False
        environment.events.test_start.add_listener(lambda **_: self._spawned.set())

    def attend(self) -> int:
        runner = self.environment.runner
        commands = self.pipes.commands()
        how = next(commands)
        if not how["local"]:
            self._own = tempfile.mkdtemp(prefix="triton-canary-worker-", dir=how["folder"])
        self._worker = Worker(
            self._send, self._drive, token=how["token"], host=socket.gethostname(), pid=os.getpid(),
            folder=Path(self._own or how["folder"]), local=how["local"], now_ns=time.monotonic_ns,
            reconnect=self._reconnect,
        )  # fmt: skip
        runner.register_message(KIND, lambda msg, **_: self._worker.heard(msg.data))
        self._wake.start(self._tell)
        gevent.spawn(self._listen, commands)
        # Locust's master may say "quit" before we look: this process then ends by Locust.
        self.environment.events.quitting.add_listener(lambda **_: self._finish())
        code = self._until_over()
        self._finish()
        # With "quit" it collects the last statistics.
        runner.greenlet.join(QUIT_S)
        return code

    def _finish(self) -> None:
        """What is left to do and to say. Again: nothing."""
        if self._finished:
            return
        self._finished = True
        worker = self._worker
        # What it ended by is told.
        with suppress(CanaryError):
            self._drive.end()
        failure = worker.failure or ("Locust ended it" if worker.over is None else "")
        if failure:
            print(f"load worker: {failure}", file=sys.stderr)
        self.pipes.emit({"event": "over", "failure": failure, "folder": "" if worker.shipped else self._own})
        if self._own and worker.shipped:
            shutil.rmtree(self._own)

    def _until_over(self) -> int:
        joined = False
        while self._worker.over is None:
            self._worker.tick()
            if self._worker.joined and not joined:
                joined = True
                self.pipes.emit({"event": "joined"})
            gevent.sleep(TICK_S)
        return self._worker.over

    def _listen(self, commands: Any) -> None:
        """The end of stdin: whoever started this worker is gone, or wants it to end."""
        for _ in commands:
            continue
        self._worker.leave()

    def _happen(self, event: dict[str, Any]) -> None:
        """In the engine's thread."""
        self._happened.append(event)
        self._wake.send()

    def _drive_ended(self, ended: Any) -> None:
        if ended.exception is not None:
            self._happen(as_event(ended.exception))

    def _tell(self) -> None:
        gevent.spawn(self._tell_all)

    def _tell_all(self) -> None:
        while self._happened:
            event = self._happened.popleft()
            if event["event"] == "ready":
                self._spawned.wait(SPAWNED_S)
            if event["event"] == "stopped":
                self._report()
            self._worker.event(event)

    def _report(self) -> None:
        """The last of Locust's statistics, before the master hears that this worker is through: at its "quit" it would
        give them half a second.
        """
        self._drive.ended.wait()
        data: dict[str, Any] = {}
        self.environment.events.report_to_master.fire(client_id=self.environment.runner.client_id, data=data)
        self._send(data, "stats")

    def _send(self, data: dict[str, Any], kind: str = KIND) -> None:
        runner = self.environment.runner
        # Not by Locust's own `send`: it tries again for 9 s, in which nothing else would happen here.
        with suppress(zmq.ZMQError):
            runner.client.socket.send(Message(kind, data, runner.client_id).serialize(), zmq.NOBLOCK)

    def _reconnect(self) -> None:
        """What waits in the old connection is thrown away: it would be sent under this worker's name later.

        Not by Locust's own `reset_connection`: while that looks up the master's name, Locust reads from the closed
        socket without a pause, and nothing else runs any more.
        """
        runner = self.environment.runner
        old, runner.client = runner.client, rpc.Client(runner.master_host, runner.master_port, runner.client_id)
        old.close(linger=0)
