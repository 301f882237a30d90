"""Messages that arrive once and in order, over a channel that loses, repeats and is cut.

Locust's channel is ZeroMQ over TCP: what was on its way when a connection broke is gone, and nobody is told. So a
message keeps its number until the other side has confirmed it, and is sent again if that takes too long.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

Message = dict[str, Any]
Numbered = tuple[int, Message]

# Messages on their way: the rest waits, so that a long cut fills no buffer.
WINDOW = 8
RESEND_NS, RESEND_MAX_NS = 2_000_000_000, 16_000_000_000


class Link:
    """One side of it. Times are of any clock that only goes forward."""

    def __init__(self) -> None:
        self._waiting: deque[Numbered] = deque()
        self._last = 0
        self._confirmed = 0
        self._sent = 0
        self._resend = Patience()
        self.seen = 0
        """The number of the last message taken from the other side: what it is to be told."""

    @property
    def empty(self) -> bool:
        """Everything that was put is confirmed."""
        return not self._waiting

    def put(self, message: Message) -> None:
        self._last += 1
        self._waiting.append((self._last, message))

    def due(self, now_ns: int) -> list[Numbered]:
        """What is to be sent now: new messages, or all that are on their way once more."""
        if self._resend.over(now_ns, waiting=self._sent > self._confirmed):
            self._sent = self._confirmed
        fresh = [item for item in list(self._waiting)[:WINDOW] if item[0] > self._sent]
        if fresh:
            self._sent = fresh[-1][0]
            self._resend.begin(now_ns)
        return fresh

    def rewind(self) -> None:
        """The line was cut: what was on its way is due again, at once."""
        self._sent = self._confirmed
        self._resend.reset()

    def confirm(self, number: int) -> None:
        """The other side has taken everything up to `number`."""
        if number > self._confirmed:
            self._confirmed = min(number, self._last)
            self._sent = max(self._sent, self._confirmed)
            self._resend.reset()
        while self._waiting and self._waiting[0][0] <= self._confirmed:
            self._waiting.popleft()

    def take(self, messages: Iterable[Any]) -> list[Message]:
        """Those of `messages` that are new, in order; one behind a gap is left for its next time."""
        taken = []
        for number, message in messages:
            if number == self.seen + 1:
                self.seen = number
                taken.append(message)
        return taken


class Patience:
    """When to send again: after RESEND_NS without progress, then after twice as long, up to RESEND_MAX_NS.

    A slow line is not made slower by repeating what is still on its way.
    """

    def __init__(self) -> None:
        self._wait_ns = RESEND_NS
        self._since_ns: int | None = None

    def begin(self, now_ns: int) -> None:
        """Something was sent; the oldest unconfirmed one counts."""
        if self._since_ns is None:
            self._since_ns = now_ns

    def reset(self) -> None:
        """There was progress."""
        self._wait_ns = RESEND_NS
        self._since_ns = None

    def over(self, now_ns: int, *, waiting: bool) -> bool:
        """Whether what is on its way is to be sent again; it is then taken as sent at `now_ns`."""
        if not waiting:
            return False
        if self._since_ns is None:
            self._since_ns = now_ns
        if now_ns - self._since_ns < self._wait_ns:
            return False
        self._since_ns = now_ns
        self._wait_ns = min(2 * self._wait_ns, RESEND_MAX_NS)
        return True
