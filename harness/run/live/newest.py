"""The page that was drawn last, and who waits for the next one: between threads that answer and the one that draws."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Drawn:
    """`number` differs from that of the page before. `final`: none comes after it. `words`: what is said beside it."""

    number: int
    html: bytes
    words: str
    final: bool = False


class Newest:
    """Of what was drawn; `Drawn` never changes, so an answer is always of one page."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._drawn: Drawn | None = None
        self._waiting = 0

    def put(self, html: bytes | None, words: str, *, final: bool = False) -> None:
        """`html` None: the page as it was. After the final one nothing counts any more."""
        with self._changed:
            before = self._drawn
            if before is not None and before.final:
                return
            if html is None:
                html = before.html if before is not None else b""
            if before is None or final or (html, words) != (before.html, before.words):
                self._drawn = Drawn(before.number + 1 if before is not None else 1, html, words, final)
                self._changed.notify_all()

    def other_than(self, number: int, patience_s: float) -> Drawn | None:
        """The newest page once it is not the one of that number; None if that takes longer. Somebody waits."""
        with self._changed:
            self._waiting += 1
            self._changed.notify_all()
            try:
                self._changed.wait_for(lambda: self._is_other(number), patience_s)
            finally:
                self._waiting -= 1
            return self._drawn if self._is_other(number) else None

    def await_wish(self) -> None:
        """Returns once somebody waits for a page."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting > 0)

    def _is_other(self, number: int) -> bool:
        return self._drawn is not None and self._drawn.number != number


class Pace:
    """When the next page may be drawn: not within LEAST_S, and never more than SHARE of one core on average."""

    LEAST_S = 2.0
    SHARE = 0.2

    def __init__(self) -> None:
        self._next_s = 0.0
        self._cpu_s = 0.0

    def wait(self) -> None:
        """Until a page may be drawn; what the process takes from here on is counted."""
        time.sleep(max(0.0, self._next_s - time.monotonic()))
        self._cpu_s = time.process_time()

    def took(self) -> None:
        """It was drawn."""
        spent_s = time.process_time() - self._cpu_s
        self._next_s = time.monotonic() + max(self.LEAST_S, spent_s * (1 / self.SHARE - 1))
