"""A worker's mind: joins, is told what to do, hands on what happened, ships its files. No Locust, no socket here.

What it says and hears is described in `master`. It asks again whenever it is not answered, so nothing that is lost on
the way holds it up; and it takes a silence of LOST_S as the end of the run, as the master does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from harness.errors import CanaryError, UsageError, WorldError
from harness.load.process.clock import Offset
from harness.load.process.join import PROTOCOL, nonce, proof, proves
from harness.load.process.link import Link, Message
from harness.load.process.master import LOST_S
from harness.load.process.mirror import Range, Shipper
from harness.load.spec import LoadSpec
from harness.types import StagePlan

ASK_S = 1.0
"""How often what is not answered is asked again while joining."""
STRANGE_S = 60.0
"""A master that has not let us in by then is none of ours."""
RECONNECT_S = 4.0
"""After so long a silence the connection is made anew: TCP may by then wait much longer between its own attempts."""
GIVE_UP_S = 45.0
"""After so long a silence nobody will come for the rest of the files. (Locust's own worker ends after 60 s.)"""
FAREWELL_S = 2.0
"""A worker on the master's own host that nobody wants any more does not wait longer for its farewell."""
ASKED = 8
"""Exchanges of clock stamps before the run's start is known well enough."""
_SECOND = 1_000_000_000


class Load(Protocol):
    """What carries the load out here. After `stop` its event "stopped" or "error" follows."""

    def prepare(self, spec: LoadSpec) -> None: ...
    def stage(self, plan: StagePlan, begin_ns: int) -> None: ...
    def end_stage(self) -> None: ...
    def route(self, candidate_share: float | None) -> None: ...
    def clock_error(self, seconds: float) -> None: ...
    def stop(self) -> None: ...


class Worker:
    """`heard`, `event` and `tick` drive it, all in one thread. `reconnect`: make the connection to the master anew.

    `local`: it runs on the master's host and writes into the run's folder; else into `folder`, and ships that.
    `over`: the exit code, once there is nothing more to do; `failure` says what went wrong.
    """

    def __init__(
        self, send: Callable[[Message], None], load: Load, *, token: str, host: str, pid: int, folder: Path,
        local: bool, now_ns: Callable[[], int], reconnect: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._send, self._load, self._now_ns, self._reconnect = send, load, now_ns, reconnect
        self._token, self._folder, self._local = token, folder, local
        self._nonce = nonce()
        self._asking: Message = {
            "kind": "hello", "protocol": PROTOCOL, "nonce": self._nonce, "host": host, "pid": pid, "local": local,
        }  # fmt: skip
        self._asked_ns: int | None = None
        self._heard_ns = self._reconnected_ns = now_ns()
        self._link = Link()
        self._clock = Offset()
        self._shipper: Shipper | None = None
        self._number = self._numbers = -1
        self._spec: list[bytes] = []
        self._commands: deque[Message] = deque()
        self._offset_ns = 0
        self._told_ns: int | None = None
        self._prepared = self._stopping = self._ended = self._leaving = self._damaged = False
        self.over: int | None = None
        self.failure = ""

    @property
    def joined(self) -> bool:
        return self._number >= 0

    @property
    def shipped(self) -> bool:
        """The master has everything that was recorded here."""
        return not self._damaged and self._behind == 0

    def heard(self, data: Message) -> None:
        """A message of the master."""
        now_ns = self._now_ns()
        if self.joined and now_ns - self._heard_ns > RECONNECT_S * _SECOND:
            self._link.rewind()
            if self._shipper:
                self._shipper.rewind()
        self._heard_ns = now_ns
        match data["kind"]:
            case "challenge" if not self.joined:
                self._challenged(data)
            case "welcome" if not self.joined:
                self._number, self._numbers = data["worker"], data["workers"]
                if not self._local:
                    self._shipper = Shipper(self._folder, self._number)
                self.tick()
            case "refused":
                self._fail(f"the master refuses this worker: {data['reason']}")
            case "frame" if self.joined:
                self._frame(data)

    def event(self, event: Message) -> None:
        """Something happened in the load; what it tells of is in the files already."""
        if event["event"] in ("stopped", "error"):
            self._ended = True
        if event["event"] != "stopped":
            self._post(event)
        if self._ended:
            shipper = self._shipper
            digests, sent_bytes = (shipper.digests(), shipper.sent_bytes) if shipper else ({}, 0)
            self._post({"event": "closed", "digests": digests, "sent_bytes": sent_bytes})
        self.tick()

    def leave(self) -> None:
        """Whoever started this worker is gone, or wants it to end: what was recorded is still shipped."""
        self._leaving = True
        if not self.joined:
            self._fail("it was told to end before the run began")
        elif not self._stopping:
            self.failure = "it was told to end"
            self._stop()

    def tick(self) -> None:
        """Several times a second, and whenever there is something to tell."""
        now_ns = self._now_ns()
        silent_s = (now_ns - self._heard_ns) / _SECOND
        if not self.joined:
            if silent_s > STRANGE_S:
                self._fail("the master does not answer: is there a run that waits for workers?")
            else:
                self._ask(now_ns)
            return
        if silent_s > LOST_S and not self._stopping:
            self.failure = f"the master was silent for {LOST_S:g} s: the load was stopped"
            self._stop()
        # Everything is there; only the master's farewell is not.
        patience_s = FAREWELL_S if self._local and self._leaving else LOST_S
        if silent_s > patience_s and self._ended and (self._local or (self._link.empty and not self._behind)):
            self.over = WorldError.exit_code if self.failure else 0
        elif silent_s > GIVE_UP_S:
            self._fail(f"the master is gone; {self._behind} bytes of {self._folder} did not reach it")
            return
        if silent_s > RECONNECT_S and now_ns - self._reconnected_ns > RECONNECT_S * _SECOND:
            self._reconnected_ns = now_ns
            self._reconnect()
        self._tell(now_ns, self._ranges(now_ns))

    @property
    def _behind(self) -> int:
        return self._shipper.behind if self._shipper else 0

    def _ranges(self, now_ns: int) -> list[Range]:
        return self._shipper.due(now_ns) if self._shipper else []

    def _post(self, event: Message) -> None:
        self._link.put({"event": event, "sizes": self._shipper.sizes() if self._shipper else {}})

    # Joining

    def _ask(self, now_ns: int) -> None:
        if self._asked_ns is None or now_ns - self._asked_ns >= ASK_S * _SECOND:
            self._asked_ns = now_ns
            self._send(self._asking)

    def _challenged(self, data: Message) -> None:
        if not proves(data["proof"], self._token, "master", data["nonce"], self._nonce):
            self._fail("the master's token is another one")
            return
        self._asking = {"kind": "proof", "proof": proof(self._token, "worker", self._nonce, data["nonce"])}
        self._asked_ns = None
        self._ask(self._now_ns())

    # Afterwards

    def _tell(self, now_ns: int, ranges: list[Range]) -> None:
        error_s = self._error_s(now_ns)
        due = self._told_ns is None or now_ns - self._told_ns >= _SECOND
        if error_s is not None and self._prepared and not self._ended and due:
            self._told_ns = now_ns
            self._load.clock_error(error_s)
        self._send(
            {
                "kind": "frame", "ack": self._link.seen, "mail": self._link.due(now_ns), "ranges": ranges,
                "behind": self._behind, "clock_error_s": error_s or 0.0, "asked_ns": self._now_ns(),
            }
        )  # fmt: skip

    def _error_s(self, now_ns: int) -> float | None:
        """None where the clock is the master's own."""
        error_ns = None if self._local else self._clock.error_ns(self._offset_ns, now_ns)
        return None if error_ns is None else error_ns / _SECOND

    def _frame(self, data: Message) -> None:
        if "asked_ns" in data:
            self._clock.add(data["asked_ns"], data["heard_ns"], data["answered_ns"], self._heard_ns)
        self._link.confirm(data["ack"])
        if self._shipper:
            self._shipper.confirm(data["sizes"])
        mail = self._link.take(data["mail"])
        self._commands += mail
        self._obey()
        now_ns = self._now_ns()
        ranges = self._ranges(now_ns)
        if mail or ranges or self._commands:
            self._tell(now_ns, ranges)

    def _obey(self) -> None:
        while self._commands:
            if self._commands[0]["do"] == "spec" and not self._local and len(self._clock) < ASKED:
                return  # until it is known when the run began
            command = self._commands.popleft()
            try:
                self._command(command)
            except CanaryError as error:
                kind = "usage" if isinstance(error, UsageError) else "world"
                self.event({"event": "error", "kind": kind, "message": str(error)})

    def _command(self, command: Message) -> None:
        match command["do"]:
            case "spec":
                self._spec.append(command["data"])
                if command["size"]:
                    self._prepare(command["size"])
            case "stage" if not self._stopping:
                self._load.stage(StagePlan(**command["plan"]), command["begin_ns"])
            case "end" if not self._stopping:
                self._load.end_stage()
            case "route" if not self._stopping:
                self._load.route(command["candidate_share"])
            case "stop" if not self._stopping:
                self._stop()
            case "bye":
                if command["damaged"]:
                    self._damaged = True
                    self._fail(f"not the same when it reached the master: {', '.join(command['damaged'])}")
                else:
                    self.over = WorldError.exit_code if self.failure else 0

    def _prepare(self, size: int) -> None:
        plain = pa.Codec("zstd").decompress(b"".join(self._spec), decompressed_size=size, asbytes=True)
        self._spec.clear()
        spec = LoadSpec.from_json(plain.decode())
        best = self._clock.best(self._now_ns())
        if best and not self._local:
            self._offset_ns = best.offset_ns
        self._prepared = True
        self._load.prepare(
            replace(
                spec,
                worker=self._number,
                workers=self._numbers,
                folder=spec.folder if self._local else self._folder,
                # The offset is the master's clock minus ours.
                t0_ns=spec.t0_ns - self._offset_ns,
            )
        )

    def _stop(self) -> None:
        self._stopping = True
        if self._prepared and not self._ended:
            self._load.stop()
        elif not self._ended:
            self.event({"event": "stopped"})

    def _fail(self, message: str) -> None:
        self.failure = self.failure or message
        self.over = WorldError.exit_code
