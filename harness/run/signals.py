"""Ctrl-C and SIGTERM as an exception in the main thread, so that one `finally` puts everything back."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from harness.errors import CanaryError


class Interrupted(CanaryError):
    """The user or the system asked the run to end. Its verdict can only be inconclusive."""

    exit_code = 3


class Signals:
    """Whether a signal still interrupts. Once it has, or once `ignore` was called, later ones do nothing: putting
    traffic back must not be interrupted half-way. (SIGKILL remains, and `recover` is there for it.)
    """

    def __init__(self) -> None:
        self._ignored = False
        self._raised: Interrupted | None = None

    def ignore(self) -> None:
        self._ignored = True

    def check(self) -> None:
        """Raises again what `on_signal` raised: whoever was interrupted may have swallowed it (a callback, a `del`)."""
        if self._raised is not None:
            raise self._raised

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        if not self._ignored:
            self._ignored = True
            self._raised = Interrupted(f"interrupted by {signal.Signals(number).name}")
            raise self._raised


@contextmanager
def interruptible() -> Iterator[Signals]:
    """Raise Interrupted at the first SIGINT, SIGTERM or SIGHUP. Does nothing outside the main thread."""
    signals = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signals.on_signal) for number in numbers}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
