"""Locust's own statistics, fed once a second in sums: a call of Locust's a request costs more than to send it."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from typing import Any

import gevent
from locust.stats import StatsEntry, StatsError, bucket_response_time

EVERY_S = 1.0


class Statistics:
    """`observe` is called in the engine's thread, everything else in Locust's."""

    def __init__(self, stats: Any) -> None:
        self._stats = stats
        self._seen: list[tuple[str, str, float, str]] = []

    def observe(self, wire: str, name: str, response_ms: float, error: str) -> None:
        self._seen.append((wire, name, response_ms, error))

    def keep(self) -> None:
        """Never returns."""
        while True:
            gevent.sleep(EVERY_S)
            self.take()

    def take(self) -> None:
        """Hands on what came since the last call."""
        # An append that comes between goes to the old list or the new one: to take until it is empty misses none.
        seen = self._seen[:]
        del self._seen[: len(seen)]
        times: dict[tuple[str, str], list[float]] = defaultdict(list)
        errors: Counter[tuple[str, str, str]] = Counter()
        for wire, name, response_ms, error in seen:
            times[wire, name].append(response_ms)
            if error:
                errors[wire, name, error] += 1
        for (wire, name), values in times.items():
            part = _entry(wire, name, values)
            self._stats.total.extend(part)
            self._stats.entries[name, wire].extend(part)
        for (wire, name, error), number in errors.items():
            self._fail(wire, name, error, number)

    def _fail(self, wire: str, name: str, error: str, number: int) -> None:
        second = int(time.time())
        for entry in (self._stats.total, self._stats.entries[name, wire]):
            entry.num_failures += number
            entry.num_fail_per_sec[second] += number
        key = StatsError.create_key(wire, name, error)
        known = self._stats.errors.setdefault(key, StatsError(wire, name, error))
        known.occurrences += number


def _entry(wire: str, name: str, values_ms: list[float]) -> Any:
    """What Locust would have made of `values_ms`, one by one, now."""
    entry = StatsEntry(None, name, wire)
    now_s = time.time()
    entry.num_requests = len(values_ms)
    entry.last_request_timestamp = now_s
    entry.num_reqs_per_sec[int(now_s)] = len(values_ms)
    entry.total_response_time = sum(values_ms)
    entry.min_response_time, entry.max_response_time = min(values_ms), max(values_ms)
    entry.response_times.update(Counter(bucket_response_time(value) for value in values_ms))
    return entry
