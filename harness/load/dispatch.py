"""When each planned request leaves, and to whom. The clock is handed in: nothing here knows gevent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from harness.types import ArmName, PlannedRequest, StagePlan

# A stop is noticed within this time, also where nothing is due for minutes.
NAP_NS = 50_000_000
# A slot whose server refuses at once waits this long, or it would spin.
REFUSED_PAUSE_S = 0.05

Carry = Callable[[PlannedRequest, int], bool]
"""Carries out one planned request that was due at the given time; returns True if everybody refused it."""


class Clock(Protocol):
    """Time and concurrency, as `dispatch` needs them."""

    def now_ns(self) -> int:
        """Nanoseconds since the start of the run."""

    def sleep(self, seconds: float) -> None:
        """Coarse."""

    def nap(self, ns: int) -> None:
        """Sleeps for at most `ns`, rather too short than too long; others run meanwhile."""

    def spawn(self, function: Callable[..., Any], *args: Any) -> None:
        """Run `function` concurrently; `join` waits for it."""

    def join(self) -> None:
        """Wait for everything that was spawned."""


class Route:
    """Where requests really go. An override acts on every request that leaves after it was set."""

    def __init__(self) -> None:
        self._to: ArmName | None = None

    def override(self, candidate_share: float | None) -> None:
        """0.0: all to the baseline; 1.0: all to the candidate; None: as planned. Else ValueError."""
        if candidate_share not in (None, 0.0, 1.0):
            raise ValueError(f"the route is 0.0, 1.0 or null, not {candidate_share}")
        if candidate_share is None:
            self._to = None
        else:
            self._to = "candidate" if candidate_share else "baseline"

    def arms(self, planned: tuple[ArmName, ...]) -> tuple[ArmName, ...]:
        """A pair whose arms fall together is one request."""
        if self._to is None:
            return planned
        to = self._to
        return tuple(dict.fromkeys(to if arm in ("baseline", "candidate") else arm for arm in planned))


class Stage:
    """One stage: `run` blocks until its time is over or it is stopped, and its requests have ended."""

    def __init__(self, plan: StagePlan, requests: Iterator[PlannedRequest], carry: Carry, clock: Clock) -> None:
        self.plan = plan
        self._requests = requests
        self._carry = carry
        self._clock = clock
        self._stopped = False

    def stop(self) -> None:
        """Issue nothing more."""
        self._stopped = True

    def run(self) -> None:
        begin_ns = self._clock.now_ns()
        end_ns = begin_ns + int(self.plan.duration_s * 1e9)
        if self.plan.in_flight is not None:
            for _ in range(self.plan.in_flight):
                self._clock.spawn(self._slot, end_ns)
        else:
            self._open_loop(begin_ns, end_ns)
        self._clock.join()

    def _slot(self, end_ns: int) -> None:
        while not self._stopped and self._clock.now_ns() < end_ns:
            request = next(self._requests, None)
            if request is None:
                return
            if self._carry(request, self._clock.now_ns()):
                self._clock.sleep(REFUSED_PAUSE_S)

    def _open_loop(self, begin_ns: int, end_ns: int) -> None:
        for request in self._requests:
            due_ns = begin_ns + request.due_ns
            if due_ns >= end_ns or not self._sleep_until(due_ns):
                break
            self._clock.spawn(self._carry, request, due_ns)
        self._sleep_until(end_ns)

    def _sleep_until(self, t_ns: int) -> bool:
        """False if the stage was stopped meanwhile."""
        while not self._stopped:
            left_ns = t_ns - self._clock.now_ns()
            if left_ns <= 0:
                return True
            self._clock.nap(min(left_ns, NAP_NS))
        return False
