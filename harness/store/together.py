"""Calls to a store, side by side in threads of their own, so that none of them keeps anybody from leaving."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from threading import Event, Thread
from typing import TypeVar

T = TypeVar("T")
GRACE_S = 1.0


def together(calls: Sequence[Callable[[], T]], workers: int, stop: Event | None = None) -> list[T]:
    """What each call returns, in their order, `workers` of them at once; or the exception of the first that failed.

    After a failure, and where this thread is interrupted, no other call is begun, `stop` is set for those under way,
    and they have `GRACE_S` to end. One that still waits for a server then is left behind in its daemon thread, and a
    signal's exception is raised here, in nobody's library: botocore would take it for a failed request and try again.
    """
    stop = stop or Event()
    waiting, results = iter(enumerate(calls)), dict[int, T]()
    failures: list[BaseException] = []
    ended: SimpleQueue[None] = SimpleQueue()

    def work() -> None:
        try:
            while not stop.is_set() and (turn := next(waiting, None)):
                number, call = turn
                results[number] = call()
        except BaseException as error:  # noqa: BLE001 - the calling thread raises it
            failures.append(error)
            stop.set()
        finally:
            ended.put(None)

    threads = [Thread(target=work, name="store", daemon=True) for _ in range(min(workers, len(calls)))]
    try:
        for thread in threads:
            thread.start()
        for _ in threads:
            ended.get()
            if failures:
                raise failures[0]
    except BaseException:
        stop.set()
        until = time.monotonic() + GRACE_S
        for thread in threads:
            with suppress(RuntimeError):  # interrupted before it was started
                thread.join(max(0.0, until - time.monotonic()))
        raise
    return [results[number] for number in range(len(calls))]


def alone(call: Callable[[], T]) -> T:
    """One call, which can be interrupted."""
    return together([call], 1)[0]
