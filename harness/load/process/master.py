"""The master's mind: who has joined, what each is through with, who is lost. No Locust, no socket, no clock here.

To a worker: {"kind": "challenge" | "welcome" | "refused" | "frame", ...}. A frame carries numbered messages (commands,
and before them the spec in parts), what is confirmed of the worker's files, and stamps of the clock. From a worker:
{"kind": "hello" | "proof" | "frame", ...}. The commands are those of `runner`; a stage has `begin_ns` besides, a moment
ahead, so that all begin at the same time.

To the parent, besides the events of `runner`:

    {"event": "worker_joined", "worker": i, "host": h, "pid": p, "local": b}
    {"event": "worker_lost", ..., "t_ns": t, "reason": r, "done": [stages]}
                                                                  its last word, and the stages it was through with;
                                                                  it gets no more commands than to stop
    {"event": "worker_done", ..., "files": {name: bytes}, "damaged": [names], "sent_bytes": n, "clock_error_s": s}
                                                                  all of it is here, for so many bytes on the line
    {"event": "closing", "left": bytes}                           once a second between "stop" and "stopped"
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from harness.load.process.join import PROTOCOL, nonce, proof, proves
from harness.load.process.link import Message
from harness.load.process.member import Member

LOST_S = 15.0
"""A worker that is silent for so long is lost; it takes the same silence as the end of the run, and stops."""
STUCK_S = 60.0
"""One that is told to stop, and neither ends nor has anything new for so long, is lost too."""
BYE_S = 3.0
"""How long a worker may take to say that it has heard that its files are safe."""
LEAD_S = 0.25
_PART = 64 << 10
_STRANGERS = 1000
_SECOND = 1_000_000_000

Send = Callable[[str, Message], None]
Emit = Callable[[dict[str, Any]], None]


class Master:
    """`send(client, message)` may lose it; `emit` tells the parent. `heard`, `command` and `tick` drive it.

    `over`: there is nothing more to do. Raises RecordingError where a worker's files cannot be written.
    """

    def __init__(self, send: Send, emit: Emit, now_ns: Callable[[], int]) -> None:
        self._send, self._emit, self._now_ns = send, emit, now_ns
        self._members: dict[str, Member] = {}
        self._strangers: dict[str, tuple[str, Message]] = {}
        self._token = ""
        self._wanted = 0
        self._folder = Path()
        self._t0_ns = 0
        self._spec: list[Message] = []
        self._ready = self._stopping = False
        self._to_begin: dict[int, int] = {}
        self._to_do: set[int] = set()
        self._told_ns = 0
        self.over = False

    def command(self, command: Message) -> None:
        match command["do"]:
            case "prepare":
                self._prepare(command)
            case "gone":
                self._gone(command["pid"], command["reason"])
            case "stop":
                self._stop()
            case "stage":
                begin_ns = self._soon_ns()
                self._to_begin[command["plan"]["index"]] = begin_ns
                self._to_do.add(command["plan"]["index"])
                self._tell({**command, "begin_ns": begin_ns})
            case _:
                self._tell(command)
        self._conclude()

    def heard(self, client: str, data: Message) -> None:
        """A message of a worker, or of somebody who would like to be one."""
        member = self._members.get(client)
        try:
            if member is None:
                self._meet(client, data)
            elif data["kind"] == "frame":
                self._frame(member, data)
            else:
                self._welcome(member)  # it has not heard the first one
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self._send(client, {"kind": "refused", "reason": f"a message that was not understood: {error!r}"})
            if member and member.state == "joined":
                self._lose(member, f"sent what it should not: {error!r}")
        self._conclude()

    def tick(self) -> None:
        """Several times a second."""
        now_ns = self._now_ns()
        for member in self._members.values():
            if member.state == "joined" and now_ns - member.heard_ns > LOST_S * _SECOND:
                self._lose(member, f"was silent for {LOST_S:g} s")
            elif member.state == "joined" and self._stopping and now_ns - member.progress_ns > STUCK_S * _SECOND:
                self._lose(member, f"did not come to an end within {STUCK_S:g} s")
            self._push(member)
        if self._stopping and not self.over and now_ns - self._told_ns >= _SECOND:
            self._told_ns = now_ns
            self._emit({"event": "closing", "left": sum(member.behind for member in self._awaited)})
        self._conclude()

    @property
    def _alive(self) -> list[Member]:
        return [member for member in self._members.values() if member.state == "joined"]

    @property
    def _awaited(self) -> list[Member]:
        """Who must still be heard: those that go on, lost ones that came back with the rest of their files and get on
        with it, and those that do not know yet that theirs are safe.
        """
        now_ns = self._now_ns()
        heard_ns, bye_ns = max(now_ns - LOST_S * _SECOND, 0), now_ns - BYE_S * _SECOND
        stuck_ns = now_ns - STUCK_S * _SECOND
        return [
            member
            for member in self._members.values()
            if (
                member.state == "joined" or (member.heard_ns > heard_ns and member.progress_ns > stuck_ns)
                if member.closed_ns is None
                else not member.link.empty and member.closed_ns > bye_ns
            )
        ]

    # Joining

    def _prepare(self, command: Message) -> None:
        spec = command["spec"]
        self._wanted, self._token = command["workers"], command["token"]
        self._folder, self._t0_ns = Path(spec["folder"]), spec["t0_ns"]
        plain = json.dumps(spec).encode()
        packed = pa.Codec("zstd").compress(plain, asbytes=True)
        self._spec = [{"do": "spec", "data": packed[at : at + _PART], "size": 0} for at in range(0, len(packed), _PART)]
        self._spec[-1]["size"] = len(plain)

    def _meet(self, client: str, data: Message) -> None:
        if not self._wanted:
            return  # it will ask again
        if data["kind"] == "hello":
            if data["protocol"] != PROTOCOL:
                ours = f"the master speaks {PROTOCOL}, not {data['protocol']}"
                reason = f"{ours}: install the same triton-canary everywhere"
                self._send(client, {"kind": "refused", "reason": reason})
                return
            if len(self._strangers) >= _STRANGERS:
                del self._strangers[next(iter(self._strangers))]
            mine = self._strangers.setdefault(client, (nonce(), data))[0]
            claim = proof(self._token, "master", mine, data["nonce"])
            self._send(client, {"kind": "challenge", "nonce": mine, "proof": claim})
        elif data["kind"] == "proof" and client in self._strangers:
            mine, hello = self._strangers[client]
            if not proves(data["proof"], self._token, "worker", hello["nonce"], mine):
                self._send(client, {"kind": "refused", "reason": "the token is not the one of this run"})
            elif reason := self._no_place():
                self._send(client, {"kind": "refused", "reason": reason})
            else:
                self._admit(client, hello)

    def _no_place(self) -> str:
        """Why nobody can join; "" if one can. Only who knows the token is told."""
        if self._stopping:
            return "the run is over"
        if len(self._members) >= self._wanted:
            return f"the run has its {self._wanted} load workers; none can join any more"
        return ""

    def _admit(self, client: str, hello: Message) -> None:
        worker = len(self._members)
        member = Member(client, worker, hello["host"], hello["pid"], self._folder, local=bool(hello["local"]))
        member.heard_ns = member.progress_ns = self._now_ns()
        self._members[client] = member
        del self._strangers[client]
        for part in self._spec:
            member.link.put(part)
        self._welcome(member)
        self._emit({"event": "worker_joined", **member.about()})

    def _welcome(self, member: Member) -> None:
        self._send(member.client, {"kind": "welcome", "worker": member.worker, "workers": self._wanted})

    # While it runs

    def _frame(self, member: Member, data: Message) -> None:
        heard_ns = self._now_ns()
        for event in member.take(data, heard_ns):
            self._happened(member, event)
        stamps = {"asked_ns": data["asked_ns"], "heard_ns": heard_ns, "answered_ns": self._now_ns()}
        self._send(member.client, {"kind": "frame", **member.frame(heard_ns, **stamps)})

    def _tell(self, command: Message) -> None:
        for member in self._alive:
            member.link.put(command)
            self._push(member)

    def _push(self, member: Member) -> None:
        """Sends what is waiting. Everything else goes with the answers to the worker's own frames."""
        frame = member.frame(self._now_ns())
        if frame["mail"]:
            self._send(member.client, {"kind": "frame", **frame})

    def _soon_ns(self) -> int:
        """A moment that every worker hears of in time."""
        slowest_s = max((member.clock_error_s for member in self._alive), default=0.0)
        return self._now_ns() - self._t0_ns + round((LEAD_S + 4 * slowest_s) * _SECOND)

    def _happened(self, member: Member, event: Message) -> None:
        match event["event"]:
            case "ready":
                member.ready = True
            case "stage_begun":
                member.begun.add(event["index"])
            case "stage_done":
                member.done.add(event["index"])
            case "closed":
                self._closed(member, event)
            case "error" if not self._ready:
                self._fail(event)
            case "error":
                self._lose(member, event["message"])

    def _closed(self, member: Member, event: Message) -> None:
        """Its files are complete here, if they are the same ones."""
        damaged = member.keeper.differing(event["digests"])
        files = {name: size for name, (size, _) in event["digests"].items()}
        member.keeper.close()
        member.closed_ns = self._now_ns()
        member.link.put({"do": "bye", "damaged": damaged})
        if member.state == "joined" and self._stopping:
            member.state = "done"
        elif member.state == "joined":
            self._lose(member, "ended before the run did")
        about = {"files": files, "damaged": damaged, "sent_bytes": event["sent_bytes"]}
        self._emit({"event": "worker_done", **member.about(), **about, "clock_error_s": member.clock_error_s})

    def _gone(self, pid: int, reason: str) -> None:
        """A process that the parent started has ended."""
        for member in self._members.values():
            if member.local and member.pid == pid:
                member.heard_ns, member.closed_ns = -1, member.closed_ns and 0
                if member.state == "joined":
                    self._lose(member, reason)

    def _lose(self, member: Member, reason: str) -> None:
        member.state = "lost"
        member.link.put({"do": "stop"})  # should it hear of us again
        self._push(member)
        # Of one that fell silent: its last word.
        t_ns = (member.heard_ns if member.heard_ns > 0 else self._now_ns()) - self._t0_ns
        self._emit(
            {"event": "worker_lost", **member.about(), "t_ns": t_ns, "reason": reason, "done": sorted(member.done)}
        )
        if self.over or self._stopping:
            return
        if not self._ready:
            self._fail_with(f"load worker {member.worker} on {member.host} {reason} before the run began")
        elif not self._alive:
            self._fail_with(f"no load worker is left: the last one (on {member.host}) {reason}")

    def _fail_with(self, message: str) -> None:
        self._fail({"event": "error", "kind": "world", "message": message})

    def _fail(self, error: Message) -> None:
        self._emit(error)
        self._stop()
        self.over = True

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            for member in self._members.values():
                member.progress_ns = self._now_ns()
            self._tell({"do": "stop"})

    def _conclude(self) -> None:
        """Tells what is true of all workers by now."""
        if self.over:
            return
        alive = self._alive
        if not self._ready and len(alive) == self._wanted > 0 and all(member.ready for member in alive):
            self._ready = True
            self._emit({"event": "ready"})
        for index, begin_ns in tuple(self._to_begin.items()):
            if alive and all(index in member.begun for member in alive):
                del self._to_begin[index]
                self._emit({"event": "stage_begun", "index": index, "t_ns": begin_ns})
        for index in tuple(self._to_do):
            if alive and all(index in member.done for member in alive):
                self._to_do.remove(index)
                self._emit({"event": "stage_done", "index": index, "t_ns": self._now_ns() - self._t0_ns})
        if self._stopping and not self._awaited:
            self.over = True
            self._emit({"event": "stopped"})
