"""An engine in a native thread, which gevent does not touch, driven from gevent's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import gevent.monkey
from gevent.event import AsyncResult

from harness.load.engine.engine import Engine, Requests
from harness.load.process.statistics import Statistics
from harness.load.spec import LoadSpec
from harness.types import StagePlan


class Drive:
    """The load that this process carries out. `emit` is called in the engine's thread.

    `ended`: set once the engine has ended and everything is written; it raises what went wrong.
    """

    def __init__(self, environment: Any, requests: Requests, emit: Callable[[dict[str, Any]], None]) -> None:
        self._requests, self._emit = requests, emit
        self._statistics = Statistics(environment.stats)
        self._engine: Engine | None = None
        self.ended: AsyncResult = AsyncResult()
        # Locust has ways of its own to end (SIGTERM): what happened is written then, too.
        environment.events.quitting.add_listener(lambda **_: self.end())

    def prepare(self, spec: LoadSpec) -> None:
        """Its event "ready" follows."""
        poller = gevent.monkey.get_original("select", "epoll")
        self._engine = Engine(spec, self._requests, self._emit, self._statistics.observe, poller)
        gevent.get_hub().threadpool.spawn(self._engine.run).rawlink(self._over)
        gevent.spawn(self._statistics.keep)

    def stage(self, plan: StagePlan, begin_ns: int | None = None) -> None:
        if self._engine:
            self._engine.stage(plan, begin_ns)

    def end_stage(self) -> None:
        if self._engine:
            self._engine.end_stage()

    def route(self, candidate_share: float | None) -> None:
        if self._engine:
            self._engine.route(candidate_share)

    def clock_error(self, seconds: float) -> None:
        if self._engine:
            self._engine.clock_error(seconds)

    def stop(self) -> None:
        if self._engine:
            self._engine.stop()

    def end(self) -> None:
        """Returns when the engine has written everything; raises what it was ended by. Again: nothing."""
        engine, self._engine = self._engine, None
        if engine:
            engine.stop()
            self.ended.get()

    def _over(self, result: Any) -> None:
        self._engine = None
        self._statistics.rest()
        if result.exception is not None:
            self.ended.set_exception(result.exception)
        else:
            self.ended.set(None)
