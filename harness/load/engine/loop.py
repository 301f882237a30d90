"""An event loop for one thread that wakes when something is due, not a millisecond later.

`epoll` waits in whole milliseconds. A timer file descriptor wakes the loop a little before the next due time, and the
rest is spent polling: how little is enough is learnt from how late the wake-ups are. So a request leaves within
microseconds of its due time, and where nothing is due the thread sleeps.
"""

from __future__ import annotations

import ctypes
import heapq
import os
import select
import time
from _thread import allocate_lock  # the native one: gevent replaces that of `threading`
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any

MIN_LEAD_NS, MAX_LEAD_NS = 60_000, 1_000_000
# Idle work takes as long as a piece of it took lately: no less than this is allowed for it, and no more, or one long
# pause of the machine would leave no room for any piece again.
IDLE_ROOM_NS, MOST_IDLE_ROOM_NS = 150_000, 1_000_000
# For so long idle work may find no room; then a piece of it makes something late.
MOST_PUT_OFF_NS = 50_000_000
STALL_NS = 5_000_000
READ, WRITE, LOST = select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR | select.EPOLLHUP

_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1
_PR_SET_TIMERSLACK = 29

Call = Callable[..., Any]


class Timer:
    """`cancel` may be called at any time."""

    __slots__ = ("args", "call", "precise")

    def __init__(self, call: Call, args: tuple[Any, ...], *, precise: bool = True) -> None:
        self.call: Call | None = call
        self.args = args
        self.precise = precise

    def cancel(self) -> None:
        self.call = None


class Loop:
    """Calls back for sockets, timers, idle work and other threads. All methods but `post` belong to the loop's thread.

    `poller`: select.epoll, where something (gevent) has hidden it from the module. What a callback raises ends `run`.
    `stalls`, `worst_stall_ns`: how often a turn took longer than 5 ms, and the longest since `take_worst`.
    """

    def __init__(self, t0_ns: int, poller: Callable[[], Any] | None = None) -> None:
        self._t0_ns = t0_ns
        self._poll = (poller or select.epoll)()
        self._on: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[int, int, Timer]] = []
        self._order = count()
        self._idle: deque[Callable[[], bool]] = deque()
        self._posted: deque[tuple[Call, tuple[Any, ...]]] = deque()
        self._alarm = _Alarm()
        self._wake_lock = allocate_lock()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll.register(self._alarm.fd, select.EPOLLIN | select.EPOLLET)
        self._poll.register(self._wake, select.EPOLLIN)
        self._on[self._alarm.fd] = self._woken
        self._on[self._wake] = self._take_posted
        self._armed_ns = -1
        self._idle_ns = self._put_off_ns = 0
        self._turn_ns = 0
        self._running = False
        self.lead_ns = MIN_LEAD_NS
        self.stalls = 0
        self.worst_stall_ns = 0

    def now_ns(self) -> int:
        """Nanoseconds since the start of the run."""
        return time.monotonic_ns() - self._t0_ns

    def watch(self, fd: int, events: int, call: Callable[[int], None]) -> None:
        """`call(events)` whenever one of `events` (READ, WRITE; LOST always) holds; again: other events."""
        if fd in self._on:
            self._poll.modify(fd, events)
        else:
            self._poll.register(fd, events)
        self._on[fd] = call

    def forget(self, fd: int) -> None:
        """To be called before `fd` is closed."""
        if self._on.pop(fd, None):
            self._poll.unregister(fd)

    def at(self, t_ns: int, call: Call, *args: Any) -> Timer:
        """Within microseconds of `t_ns`: the loop wakes before it and polls. What is past is due now, behind what was
        due before.
        """
        return self._add(t_ns, Timer(call, args))

    def after(self, delay_s: float, call: Call, *args: Any) -> Timer:
        """For housekeeping: when the loop wakes by itself, some 0.1 ms late."""
        return self._add(self.now_ns() + int(delay_s * 1e9), Timer(call, args, precise=False))

    def when_idle(self, work: Callable[[], bool]) -> None:
        """`work` is called once nothing else is due soon, until it returns False; each call should take little time.
        Where something always is, it is called 20 times a second all the same.
        """
        self._idle.append(work)

    def post(self, call: Call, *args: Any) -> None:
        """Call it in the loop's thread. May be called from any thread; after `close` nothing happens."""
        with self._wake_lock:
            if self._wake >= 0:
                self._posted.append((call, args))
                os.eventfd_write(self._wake, 1)

    def stop(self) -> None:
        """`run` returns after this turn."""
        self._running = False

    def run(self) -> None:
        self._running = True
        # The kernel may bundle wake-ups within 50 us; not for us. It is a setting of this thread.
        _libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
        handlers, poll, now_ns = self._on, self._poll.poll, self.now_ns
        self._turn_ns = now_ns()
        while self._running:
            now = now_ns()
            turn_ns = now - self._turn_ns
            if turn_ns > STALL_NS:
                self.stalls += 1
            self.worst_stall_ns = max(self.worst_stall_ns, turn_ns)
            wait = self._wait_ms(now)
            events = poll(wait)
            self._turn_ns = now_ns()
            for fd, event in events:
                # One callback may have closed another's connection.
                handler = handlers.get(fd)
                if handler:
                    handler(event)
            self._due()
            if self._idle:
                self._work()

    def take_worst(self) -> int:
        """The longest turn in ns since the last call."""
        worst, self.worst_stall_ns = self.worst_stall_ns, 0
        return worst

    def start_over(self) -> None:
        """What this turn has done so far was no stall: nothing could be due yet."""
        self._turn_ns = self.now_ns()
        self.stalls = self.worst_stall_ns = 0

    def close(self) -> None:
        for fd in tuple(self._on):
            self.forget(fd)
        self._alarm.close()
        with self._wake_lock:
            wake, self._wake = self._wake, -1
            os.close(wake)
        self._poll.close()

    def _add(self, t_ns: int, timer: Timer) -> Timer:
        # A time before this turn would stand before all that is due, turn after turn where each makes the next.
        if t_ns < self._turn_ns:
            t_ns = self._turn_ns
        heapq.heappush(self._timers, (t_ns, next(self._order), timer))
        return timer

    def _wait_ms(self, now: int) -> float:
        """0: poll; -1: until a socket or the alarm has something."""
        if self._idle:
            return 0
        if not self._timers:
            return -1
        wake, _, timer = self._timers[0]
        if timer.precise:
            wake -= self.lead_ns
        if wake <= now:
            return 0
        if wake != self._armed_ns:
            self._armed_ns = wake
            self._alarm.set(wake + self._t0_ns)
        return -1

    def _due(self) -> None:
        """One turn of what is due: what that makes due, too, comes after a look at the sockets."""
        timers = self._timers
        first_new = next(self._order)
        while timers and timers[0][0] <= self.now_ns() and timers[0][1] < first_new:
            _, _, timer = heapq.heappop(timers)
            if timer.call:
                timer.call(*timer.args)

    def _work(self) -> None:
        begin_ns = self.now_ns()
        if self._timers and self._timers[0][0] - begin_ns < max(IDLE_ROOM_NS, self._idle_ns):
            self._put_off_ns = self._put_off_ns or begin_ns
            if begin_ns - self._put_off_ns < MOST_PUT_OFF_NS:
                # Turns are some microseconds here: the guess is forgotten within tens of milliseconds.
                self._idle_ns -= self._idle_ns >> 12
                return
        self._put_off_ns = 0
        if not self._idle[0]():
            self._idle.popleft()
        # What the next piece will take is guessed from the longest of the latest ones.
        took_ns = min(self.now_ns() - begin_ns, MOST_IDLE_ROOM_NS)
        self._idle_ns = max(took_ns, self._idle_ns - (self._idle_ns >> 4))

    def _woken(self, _: int) -> None:
        """The alarm: a wake-up later than the lead makes requests late, so the lead follows the latest ones."""
        late = self.now_ns() - self._armed_ns
        self._armed_ns = -1
        if late * 5 > self.lead_ns * 4:
            self.lead_ns = min(late * 5 // 4, MAX_LEAD_NS)
        else:
            self.lead_ns = max(self.lead_ns - (self.lead_ns >> 9), MIN_LEAD_NS)

    def _take_posted(self, _: int) -> None:
        os.eventfd_read(self._wake)
        while self._posted:
            call, args = self._posted.popleft()
            call(*args)


_libc = ctypes.CDLL(None, use_errno=True)


class _Time(ctypes.Structure):
    _fields_ = (("s", ctypes.c_long), ("ns", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Time), ("value", _Time))


class _Alarm:
    """A timer as a file descriptor (Linux); edge-triggered, so it need not be read."""

    def __init__(self) -> None:
        self.fd: int = _libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._setting = _Setting()
        self._pointer = ctypes.byref(self._setting)
        self._set = _libc.timerfd_settime

    def set(self, monotonic_ns: int) -> None:
        self._setting.value.s, self._setting.value.ns = divmod(monotonic_ns, 1_000_000_000)
        self._set(self.fd, _TFD_TIMER_ABSTIME, self._pointer, None)

    def close(self) -> None:
        os.close(self.fd)
