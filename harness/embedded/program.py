"""A program on loopback ports of its own: started, watched, and ended with this process, however that happens."""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from harness.embedded.supervised import Supervised, free_ports, how
from harness.errors import ServerDied, UsageError

ATTEMPTS = 5
"""Ports that were free a moment ago may be somebody else's now: then it is started again, on others."""


class Program(ABC):
    """Its output is appended to the file `log`. start() and stop(), or `with`, which starts it.

    NAME: in errors. TAKEN: what its log says where a port is somebody else's. SERIOUS: a line that says what is wrong.
    """

    NAME: ClassVar[str]
    TAKEN: ClassVar[re.Pattern[str]]
    SERIOUS: ClassVar[re.Pattern[str]]

    def __init__(self, folder: Path, log: Path, *, ports: int, start_timeout_s: float) -> None:
        self.folder, self.log = folder.absolute(), log.absolute()
        self._ports: tuple[int, ...] = (0,) * ports
        self._start_timeout_s = start_timeout_s
        self._supervisor: Supervised | None = None
        self._log_from = 0

    @abstractmethod
    def _missing(self) -> str | None:
        """Why it cannot run here, in one line that says what to install; None or "" where it can."""

    @abstractmethod
    def _launch(self) -> Supervised:
        """Start it on `_ports`."""

    @abstractmethod
    def _ready(self) -> bool:
        """Whether it answers."""

    @property
    def pid(self) -> int:
        """Process id of the program itself; 0 before start()."""
        return self._supervisor.program if self._supervisor is not None else 0

    @property
    def alive(self) -> bool:
        return self._supervisor is not None and self._supervisor.alive

    def check(self) -> None:
        """Raises ServerDied, with the log's last words, when it has ended by itself."""
        if not self.alive:
            raise ServerDied(f"the embedded {self.NAME} died{self._how()}: {self.last_words()}")

    def start(self) -> Self:
        """Returns when it answers. UsageError where it cannot run; ServerDied."""
        if problem := self._missing():
            raise UsageError(problem)
        if self._supervisor is not None:
            raise UsageError(f"this embedded {self.NAME} was started already")
        for folder in (self.folder, self.log.parent):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            for attempt in range(1, ATTEMPTS + 1):
                if self._begin():
                    break
                why, taken = f"{self._how()}: {self.last_words()}", self.TAKEN.search(self._said())
                self.stop()
                if not taken or attempt == ATTEMPTS:
                    raise ServerDied(f"the embedded {self.NAME} did not start{why}")
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Ends it and everything below it; returns when nothing is left. May be called twice."""
        supervised, self._supervisor = self._supervisor, None
        if supervised is not None:
            supervised.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def last_words(self, lines: int = 3) -> str:
        """The log's last errors since the last start in one line, or else simply its last lines."""
        said = [line.strip() for line in self._said().splitlines() if line.strip()]
        words = " | ".join([line for line in said if self.SERIOUS.search(line)][-lines:] or said[-lines:])
        return f"{words or 'it said nothing'} (log: {self.log})"

    def _begin(self) -> bool:
        """True when it answers; False when it ended. ServerDied after the deadline."""
        self._ports = free_ports(len(self._ports))
        self._log_from = self.log.stat().st_size if self.log.exists() else 0
        self._supervisor = self._launch()
        deadline = time.monotonic() + self._start_timeout_s
        while time.monotonic() < deadline:
            ready = self._ready()
            # What answers may be somebody else's, while ours has just ended because of it.
            if self._supervisor.exit_status(0 if ready else 0.02) is not None or not self._supervisor.alive:
                return False
            if ready:
                return True
        raise ServerDied(
            f"the embedded {self.NAME} did not answer in {self._start_timeout_s:.0f} s: {self.last_words()}"
        )

    def _how(self) -> str:
        return how(self._supervisor.exit_status(0)) if self._supervisor is not None else ""

    def _said(self) -> str:
        try:
            with self.log.open("rb") as file:
                file.seek(self._log_from)
                return file.read().decode(errors="replace")
        except OSError:
            return ""
