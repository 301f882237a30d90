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


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise Interrupted once at the first SIGINT, SIGTERM or SIGHUP.

    Later signals are ignored until the block is left: putting traffic back must not be interrupted half-way.
    (SIGKILL remains, and `recover` is there for it.) Does nothing outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen = False

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal seen
        if not seen:
            seen = True
            raise Interrupted(f"interrupted by {signal.Signals(number).name}")

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
