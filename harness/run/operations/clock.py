"""Waiting for a time of day."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, tzinfo

from harness.scenario import next_time

LOOK_S = 1.0


def _now() -> datetime:
    return datetime.now().astimezone()


@dataclass(frozen=True)
class Clock:
    """The wall clock, looked at once a second: a machine that slept, or a clock that was set, is noticed."""

    now: Callable[[], datetime] = _now
    sleep: Callable[[float], None] = time.sleep

    def next(self, of_day: str, zone: tzinfo | None) -> datetime:
        """The next `of_day` in `zone` (None: this machine's)."""
        return next_time(self.now(), of_day, zone)

    def left_s(self, moment: datetime) -> float:
        """Below 0 once it is over."""
        return moment.timestamp() - self.now().timestamp()

    def wait(self, moment: datetime, say: Callable[[str], None], check: Callable[[], None]) -> None:
        """Return at that moment, at once if it is over. `check` is called meanwhile, and may raise."""
        when, left_s = f"{moment:%Y-%m-%d %H:%M %Z}", self.left_s(moment)
        say(f"waiting for {when}" if left_s > 0 else f"{when} was {-left_s:.0f} s ago: no waiting")
        while (left_s := self.left_s(moment)) > 0:
            check()
            self.sleep(min(LOOK_S, left_s))
