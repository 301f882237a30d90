"""Time and concurrency on gevent, for the Locust process.

gevent's own timers wake up to 1 ms late, because its loop waits in whole milliseconds. A timer file
descriptor wakes it within about 0.1 ms (Linux); what is left is spent yielding, so that a request leaves
within microseconds of its due time and a core is not burned for it.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.pool import Group

ALARM_LEAD_NS = 250_000
SLEEP_LEAD_NS = 1_000_000

_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1
_PR_SET_TIMERSLACK = 29


class GeventClock:
    """`dispatch.Clock`; one for each stage, as only one greenlet at a time may `nap`.

    What it spawned and failed goes to `fatal`.
    """

    def __init__(self, t0_ns: int, fatal: Callable[[gevent.Greenlet], None]) -> None:
        self._t0_ns = t0_ns
        self._fatal = fatal
        self._group = Group()
        self._alarm = _Alarm() if sys.platform == "linux" else None
        self._lead_ns = ALARM_LEAD_NS if self._alarm else SLEEP_LEAD_NS

    def now_ns(self) -> int:
        return time.monotonic_ns() - self._t0_ns

    def sleep(self, seconds: float) -> None:
        gevent.sleep(seconds)

    def nap(self, ns: int) -> None:
        if ns <= self._lead_ns:
            gevent.sleep(0)
        elif self._alarm:
            self._alarm.wait(time.monotonic_ns() + ns - self._lead_ns)
        else:
            gevent.sleep((ns - self._lead_ns) / 1e9)

    def spawn(self, function: Callable[..., Any], *args: Any) -> None:
        self._group.spawn(function, *args).link_exception(self._fatal)

    def join(self) -> None:
        self._group.join()

    def close(self) -> None:
        if self._alarm:
            self._alarm.close()


class _Time(ctypes.Structure):
    _fields_ = (("s", ctypes.c_long), ("ns", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Time), ("value", _Time))


class _Alarm:
    """A timerfd that the event loop waits for."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        # The kernel may bundle wake-ups within 50 us; not for us.
        self._libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
        self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._hub = gevent.get_hub()
        self._watcher = self._hub.loop.io(self._fd, 1)
        self._setting = _Setting()

    def wait(self, t_ns: int) -> None:
        self._setting.value.s, self._setting.value.ns = divmod(t_ns, 1_000_000_000)
        self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(self._setting), None)
        self._hub.wait(self._watcher)
        os.read(self._fd, 8)

    def close(self) -> None:
        self._watcher.close()
        os.close(self._fd)
