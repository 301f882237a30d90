"""How far another host's monotonic clock is from ours, and how well that is known.

An exchange has four stamps: asked (ours), heard and answered (theirs), back (ours). If both ways take equally long the
offset is exact; it is never wrong by more than half the round trip. So the shortest exchange is the one to believe,
until it is so old that the two clocks may have drifted apart by more than a newer one is uncertain.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

# Free-running crystals differ by up to 100 millionths; clocks under NTP by about one.
DRIFT = 100e-6
KEPT = 240


class Exchange(NamedTuple):
    """`offset_ns`: their clock minus ours; off by `error_ns` at most, when it was made."""

    at_ns: int
    offset_ns: int
    error_ns: int


class Offset:
    """The best of the last exchanges."""

    def __init__(self) -> None:
        self._exchanges: deque[Exchange] = deque(maxlen=KEPT)

    def __len__(self) -> int:
        return len(self._exchanges)

    def add(self, asked_ns: int, heard_ns: int, answered_ns: int, back_ns: int) -> None:
        """Stamps that no exchange can have (a repeated answer) are left out."""
        trip_ns = (back_ns - asked_ns) - (answered_ns - heard_ns)
        if trip_ns < 0 or answered_ns < heard_ns:
            return
        offset_ns = ((heard_ns - asked_ns) + (answered_ns - back_ns)) // 2
        self._exchanges.append(Exchange(back_ns, offset_ns, trip_ns // 2 + 1))

    def best(self, now_ns: int) -> Exchange | None:
        """The one that is least uncertain now, with that uncertainty; None before the first."""
        aged = (e._replace(error_ns=e.error_ns + round(DRIFT * (now_ns - e.at_ns))) for e in self._exchanges)
        return min(aged, key=lambda exchange: exchange.error_ns, default=None)

    def error_ns(self, used_ns: int, now_ns: int) -> int | None:
        """How wrong `used_ns`, taken as the offset some time ago, may be by now."""
        best = self.best(now_ns)
        return None if best is None else abs(best.offset_ns - used_ns) + best.error_ns
