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

    def wait(self, of_day: str, zone: tzinfo | None, say: Callable[[str], None], check: Callable[[], None]) -> None:
        """Return at the next `of_day` in `zone` (None: this machine's). `check` is called meanwhile, and may raise."""
        moment = next_time(self.now(), of_day, zone)
        say(f"waiting for {moment:%Y-%m-%d %H:%M %Z}")
        while (left_s := moment.timestamp() - self.now().timestamp()) > 0:
            check()
            self.sleep(min(LOOK_S, left_s))
