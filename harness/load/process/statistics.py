"""Locust's own statistics, fed once a second in sums: a call of Locust's a request costs more than to send it."""

from __future__ import annotations

import math
import time
from typing import Any

import gevent
from locust.stats import StatsEntry, StatsError, bucket_response_time

EVERY_S = 1.0


class _Sum:
    """What came of one kind of request since the last take; times in ms, rounded down."""

    __slots__ = ("errors", "largest", "smallest", "times", "total")

    def __init__(self) -> None:
        self.total, self.smallest, self.largest = 0.0, math.inf, 0.0
        self.times: dict[int, int] = {}
        self.errors: dict[str, int] = {}


class Statistics:
    """`observe` is called in the engine's thread, everything else in Locust's."""

    def __init__(self, stats: Any) -> None:
        self._stats = stats
        self._sums: dict[tuple[str, str], _Sum] = {}
        self._settled: dict[tuple[str, str], _Sum] = {}

    def observe(self, wire: str, name: str, response_ms: float, error: str) -> None:
        sums = self._sums.get((wire, name))
        if sums is None:
            sums = self._sums[wire, name] = _Sum()
        sums.total += response_ms
        if response_ms < sums.smallest:
            sums.smallest = response_ms
        if response_ms > sums.largest:
            sums.largest = response_ms
        whole = int(response_ms)
        sums.times[whole] = sums.times.get(whole, 0) + 1
        if error:
            sums.errors[error] = sums.errors.get(error, 0) + 1

    def keep(self) -> None:
        """Never returns."""
        while True:
            gevent.sleep(EVERY_S)
            self.take()

    def take(self) -> None:
        """Hands on what came between the last two calls: to what came since, a request may be being added just now."""
        taken, self._settled, self._sums = self._settled, self._sums, {}
        for (wire, name), sums in taken.items():
            part = _entry(wire, name, sums)
            self._stats.total.extend(part)
            self._stats.entries[name, wire].extend(part)
            for error, number in sums.errors.items():
                self._fail(wire, name, error, number)

    def rest(self) -> None:
        """Hands on everything. Once the engine has ended."""
        self.take()
        self.take()

    def _fail(self, wire: str, name: str, error: str, number: int) -> None:
        second = int(time.time())
        for entry in (self._stats.total, self._stats.entries[name, wire]):
            entry.num_failures += number
            entry.num_fail_per_sec[second] += number
        key = StatsError.create_key(wire, name, error)
        known = self._stats.errors.setdefault(key, StatsError(wire, name, error))
        known.occurrences += number


def _entry(wire: str, name: str, sums: _Sum) -> Any:
    """What Locust would have made of the same requests, one by one, now."""
    entry = StatsEntry(None, name, wire)
    now_s = time.time()
    entry.num_requests = sum(sums.times.values())
    entry.last_request_timestamp = now_s
    entry.num_reqs_per_sec[int(now_s)] = entry.num_requests
    entry.total_response_time = sums.total
    entry.min_response_time, entry.max_response_time = sums.smallest, sums.largest
    for whole, number in sums.times.items():
        entry.response_times[bucket_response_time(whole)] += number
    return entry
