"""Waiting for what another process brings about."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(true: Callable[[], bool], what: str, within_s: float = 400.0) -> None:
    """The limit is there for failures only."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.02)
