"""A loop whose time is the test's: it jumps from one timer to the next."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any

from harness.load.engine.loop import Timer


class FakeLoop:
    """What dispatch and carry need of `Loop`; `lag_ns` is how late every timer fires."""

    def __init__(self, now_ns: int = 0, lag_ns: int = 0) -> None:
        self.now, self.lag_ns = now_ns, lag_ns
        self._timers: list[tuple[int, int, Timer]] = []
        self._order = count()
        self.idle: deque[Callable[[], bool]] = deque()

    def now_ns(self) -> int:
        return self.now

    def at(self, t_ns: int, call: Callable[..., Any], *args: Any) -> Timer:
        timer = Timer(call, args)
        heapq.heappush(self._timers, (max(t_ns, self.now), next(self._order), timer))
        return timer

    def after(self, delay_s: float, call: Callable[..., Any], *args: Any) -> Timer:
        return self.at(self.now + int(delay_s * 1e9), call, *args)

    def when_idle(self, work: Callable[[], bool]) -> None:
        self.idle.append(work)

    def run(self, until_ns: int | None = None) -> None:
        """Until nothing is due any more, or `until_ns`."""
        while self._timers and (until_ns is None or self._timers[0][0] <= until_ns):
            t_ns, _, timer = heapq.heappop(self._timers)
            if timer.call:
                self.now = max(self.now, t_ns + self.lag_ns)
                timer.call(*timer.args)
            while self.idle:
                if not self.idle[0]():
                    self.idle.popleft()
        if until_ns is not None:
            self.now = max(self.now, until_ns)
