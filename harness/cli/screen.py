"""The terminal: a live view on stderr where that is one, plain lines where it is not; results on stdout."""

from __future__ import annotations

import time
from contextlib import suppress
from types import TracebackType

from rich.live import Live

from harness.cli.console import stderr
from harness.report import terminal
from harness.types import RunStatus

LINE_EVERY_S = 5.0


class Screen:
    """Shows a run as it goes. Pass `observe` and `say` to it."""

    def __init__(self) -> None:
        self._console = stderr()
        self._live: Live | None = None
        self._next_line = 0.0

    def __enter__(self) -> Screen:
        if self._console.is_terminal:
            # Four frames a second are drawn by the run's own calls: no thread of the view disturbs the load.
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def say(self, line: str) -> None:
        """A step of the run, as a line that stays. Never raises: a closed terminal must not end a run."""
        with suppress(OSError):
            self._console.print(line, markup=False)

    def observe(self, status: RunStatus) -> None:
        if self._live:
            with suppress(OSError):
                self._live.update(terminal.live(status, self._console.width), refresh=True)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_EVERY_S
            self.say(terminal.lines(status))
