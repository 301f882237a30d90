"""When each planned request leaves. Nothing here knows a wire; the loop is the only clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from harness.load.engine.loop import Loop, Timer
from harness.types import ArmName, PlannedRequest, StagePlan

# A slot whose server refuses at once waits this long, or it would spin.
REFUSED_PAUSE_S = 0.05
# A generator that is behind lets answers in after so many sends.
BURST = 32

Over = Callable[[bool], None]
"""Called when a request and all that follows from it is over; True: everybody refused it."""
Carry = Callable[[PlannedRequest, int, Over], None]
"""Carries out one planned request that is due at the given time."""


class Stage:
    """One stage: from `begin` until its time is over or it is stopped, and its requests have ended: then `done()`.

    `worker` of `workers`: in a closed loop the slots are dealt out among them; the requests are this worker's own.
    """

    def __init__(
        self, plan: StagePlan, requests: Iterator[PlannedRequest], carry: Carry, loop: Loop, done: Callable[[], None],
        worker: int = 0, workers: int = 1,
    ) -> None:  # fmt: skip
        self.plan = plan
        self.in_flight = 0
        self._requests = requests
        self._carry = carry
        self._loop = loop
        self._done = done
        self._worker, self._workers = worker, workers
        self._slots = 0
        # Of requests that leave together, one slot carries all.
        self._steady = len(range(worker, (plan.in_flight or 0) // plan.together, workers))
        self._ending = False
        self._next: PlannedRequest | None = None
        self._begin_ns = self._end_ns = 0
        self._timers: list[Timer] = []
        self.unsent = 0
        """Requests that were due and never sent: known once it was stopped."""

    def begin(self, begin_ns: int) -> None:
        """Its time counts from `begin_ns` (ns since the run's start), which may lie ahead."""
        self._begin_ns = begin_ns
        self._end_ns = begin_ns + int(self.plan.duration_s * 1e9)
        self._timers.append(self._loop.at(self._end_ns, self.stop))
        if self.plan.in_flight is None:
            self._next = next(self._requests, None)
            self._await_next()
        else:
            self._loop.at(begin_ns, self._fill)

    def stop(self) -> None:
        """Issue nothing more."""
        if not self._ending:
            self._ending = True
            for timer in self._timers:
                timer.cancel()
            self._count_unsent()
            self._loop.at(0, self._end_if_over)

    @property
    def late_ns(self) -> int:
        """For how long the next request has been due."""
        return max(self._loop.now_ns() - self._begin_ns - self._next.due_ns, 0) if self._next is not None else 0

    # Open loop

    def _await_next(self) -> None:
        if self._next is not None:
            self._loop.at(self._begin_ns + self._next.due_ns, self._fire)

    def _fire(self) -> None:
        for _ in range(BURST):
            request = self._next
            if request is None:
                return
            due_ns = self._begin_ns + request.due_ns
            if due_ns > self._loop.now_ns():
                break
            if due_ns >= self._end_ns:
                return
            self.in_flight += 1
            self._carry(request, due_ns, self._landed)
            self._next = next(self._requests, None)
        self._await_next()

    def _count_unsent(self) -> None:
        """A generator that is behind at the end says by how many requests."""
        past_ns = min(self._loop.now_ns(), self._end_ns) - self._begin_ns
        while self._next is not None and self._next.due_ns < past_ns:
            self.unsent += 1
            self._next = next(self._requests, None)
        self._next = None

    def _landed(self, _: bool) -> None:
        self.in_flight -= 1
        if self._ending:
            self._end_if_over()

    # Closed loop

    def _wanted(self) -> int:
        """Slots of this worker now: a ramp is linear over the stage."""
        first, last = self.plan.in_flight or 0, self.plan.in_flight_to
        if last is None:
            return self._steady
        part = (self._loop.now_ns() - self._begin_ns) / max(self._end_ns - self._begin_ns, 1)
        total = first + round((last - first) * min(max(part, 0.0), 1.0))
        return len(range(self._worker, total, self._workers))

    def _fill(self) -> None:
        """Opens the slots that are missing, and looks again when a ramp may want more."""
        if self._ending:
            return
        while self._slots < self._wanted():
            self._slots += 1
            self._slot()
        first, last = self.plan.in_flight, self.plan.in_flight_to
        if first is not None and last is not None and last > first:
            self._timers.append(self._loop.after(self.plan.duration_s / (last - first) / 2, self._fill))

    def _slot(self) -> None:
        request = None if self._ending or self._slots > self._wanted() else next(self._requests, None)
        if request is None:
            self._slots -= 1
            self._end_if_over()
            return
        self.in_flight += 1
        self._carry(request, self._loop.now_ns(), self._slot_over)

    def _slot_over(self, refused: bool) -> None:
        self.in_flight -= 1
        if refused:
            self._loop.after(REFUSED_PAUSE_S, self._slot)
        else:
            self._slot()

    def _end_if_over(self) -> None:
        if self._ending and not self.in_flight and not self._slots:
            done, self._done = self._done, _nothing
            done()


class Route:
    """Where requests really go. An override acts on every request that leaves after it was set."""

    def __init__(self) -> None:
        self._share: float | None = None

    def override(self, candidate_share: float | None) -> None:
        """0.0: all to the baseline; 1.0: all to the candidate; None: as planned. Else ValueError."""
        if candidate_share not in (None, 0.0, 1.0):
            raise ValueError(f"the route is 0.0, 1.0 or null, not {candidate_share}")
        self._share = candidate_share

    def arms(self, planned: tuple[ArmName, ...]) -> tuple[ArmName, ...]:
        """A pair whose arms fall together is one request. The stable arm keeps what is its own, and an ingress decides
        for itself.
        """
        if self._share is None:
            return planned
        to: ArmName = "candidate" if self._share else "baseline"
        return tuple(dict.fromkeys(arm if arm in ("stable", "unknown") else to for arm in planned))


def _nothing() -> None:
    return None
