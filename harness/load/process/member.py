"""One worker, as the master knows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from harness.load.process.link import Link
from harness.load.process.mirror import Keeper, Range

# After so long without a word, what was on its way is taken as lost.
QUIET_NS = 3_000_000_000

State = Literal["joined", "lost", "done"]


class Member:
    """`local`: it runs on this host and writes into the run's folder itself.

    `begun`, `done`: the stages that it has begun, and those that it is through with.
    """

    def __init__(self, client: str, worker: int, host: str, pid: int, folder: Path, *, local: bool) -> None:
        self.client, self.worker, self.host, self.pid, self.local = client, worker, host, pid, local
        self.link = Link()
        self.keeper = Keeper(folder, worker)
        self.state: State = "joined"
        self.heard_ns = 0
        """When; -1 if it cannot be heard again."""
        self.progress_ns = 0
        self.clock_error_s = 0.0
        self.ready = False
        self.begun: set[int] = set()
        self.done: set[int] = set()
        self.closed_ns: int | None = None
        """When it had ended and all of its files were here."""
        self.behind = 0
        """Bytes of its files that are not here yet, as it said last."""
        self._held: list[tuple[dict[str, Any], dict[str, int]]] = []

    def take(self, data: dict[str, Any], now_ns: int) -> list[dict[str, Any]]:
        """A frame of the worker; returns the events that are true by now.

        An event that tells of recorded samples waits until they are here, too. Raises RecordingError (disk full).
        """
        if now_ns - self.heard_ns > QUIET_NS:
            self.link.rewind()
        self.heard_ns = now_ns
        before = sum(self.keeper.sizes().values())
        self.link.confirm(int(data["ack"]))
        self.keeper.take(Range(*item) for item in data["ranges"])
        self.behind = int(data["behind"])
        self.clock_error_s = float(data["clock_error_s"])
        mail = self.link.take(data["mail"])
        self._held += [(message["event"], message["sizes"]) for message in mail]
        if mail or sum(self.keeper.sizes().values()) > before:
            self.progress_ns = now_ns
        events = []
        while self._held and self.keeper.holds(self._held[0][1]):
            events.append(self._held.pop(0)[0])
        return events

    def frame(self, now_ns: int, **stamps: int) -> dict[str, Any]:
        """What the worker is to be told."""
        return {"ack": self.link.seen, "mail": self.link.due(now_ns), "sizes": self.keeper.sizes(), **stamps}

    def about(self) -> dict[str, Any]:
        """For events that the parent gets."""
        return {"worker": self.worker, "host": self.host, "pid": self.pid, "local": self.local}
