"""Who leaves when, on a clock of the test's own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from harness.load.dispatch import NAP_NS, REFUSED_PAUSE_S, Route, Stage
from harness.types import ArmName, PlannedRequest, StagePlan

SECOND = 1_000_000_000
BEGIN = 5 * SECOND


class FakeClock:
    """Time passes only in sleeps; what is spawned runs at once, or at `join` if `deferred`."""

    def __init__(self, *, deferred: bool = False) -> None:
        self.now = BEGIN
        self.naps: list[int] = []
        self.sleeps: list[float] = []
        self.deferred = deferred
        self.waiting: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def now_ns(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += int(seconds * 1e9)

    def nap(self, ns: int) -> None:
        self.naps.append(ns)
        # A nap may be cut short; dispatch must come back for the rest.
        self.now += ns if ns < 1000 else ns * 3 // 4

    def spawn(self, function: Callable[..., Any], *args: Any) -> None:
        if self.deferred:
            self.waiting.append((function, args))
        else:
            function(*args)

    def join(self) -> None:
        while self.waiting:
            function, args = self.waiting.pop(0)
            function(*args)


def open_loop(*due_s: float, duration_s: float = 10.0) -> tuple[StagePlan, Iterator[PlannedRequest]]:
    plan = StagePlan(2, "split", "poisson", duration_s, 0.5, rate=1.0)
    return plan, (PlannedRequest(n, int(t * SECOND), n, ("baseline",)) for n, t in enumerate(due_s))


def closed(in_flight: int, duration_s: float = 1.0) -> StagePlan:
    return StagePlan(0, "paired", "closed", duration_s, 0.5, in_flight=in_flight)


def endless() -> Iterator[PlannedRequest]:
    return (PlannedRequest(n, -1, n, ("baseline", "candidate")) for n in count())


def test_open_loop_requests_leave_at_their_due_times_and_not_before() -> None:
    clock, seen = FakeClock(), []
    plan, requests = open_loop(0.0, 0.1234, 0.1234, 3.0)

    def carry(request: PlannedRequest, due_ns: int) -> bool:
        seen.append((request.pair_id, due_ns, clock.now))
        return False

    Stage(plan, requests, carry, clock).run()

    assert [(number, due_ns) for number, due_ns, _ in seen] == [
        (0, BEGIN),
        (1, BEGIN + 123_400_000),
        (2, BEGIN + 123_400_000),
        (3, BEGIN + 3 * SECOND),
    ]
    assert all(0 <= now - due_ns < 1000 for _, due_ns, now in seen)
    assert max(clock.naps) <= NAP_NS
    assert clock.now >= BEGIN + 10 * SECOND, "a stage lasts as long as it says, also if its last request was early"


def test_a_late_open_loop_keeps_the_due_times() -> None:
    """No coordinated omission: what could not leave in time is still due when the plan said."""
    clock, due = FakeClock(), []
    plan, requests = open_loop(0.0, 0.1, 0.2)

    def slow(request: PlannedRequest, due_ns: int) -> bool:
        due.append(due_ns - BEGIN)
        clock.now += 2 * SECOND
        return False

    Stage(plan, requests, slow, clock).run()

    assert due == [0, SECOND // 10, SECOND // 5]


def test_nothing_is_issued_after_the_stage_is_over() -> None:
    clock, seen = FakeClock(), []
    plan, requests = open_loop(0.0, 0.5, 1.0, 1.5, duration_s=1.0)
    Stage(plan, requests, lambda r, due_ns: bool(seen.append(r.pair_id)), clock).run()
    assert seen == [0, 1]


def test_a_stopped_stage_issues_nothing_more() -> None:
    clock, seen = FakeClock(), []
    plan, requests = open_loop(0.0, 1.0, 2.0, 3.0)
    stage: Stage

    def carry(request: PlannedRequest, due_ns: int) -> bool:
        seen.append(request.pair_id)
        if request.pair_id == 1:
            stage.stop()
        return False

    stage = Stage(plan, requests, carry, clock)
    stage.run()

    assert seen == [0, 1]
    assert clock.now < BEGIN + 2 * SECOND


def test_a_closed_loop_takes_the_next_request_when_the_last_one_is_over() -> None:
    clock, seen = FakeClock(), []

    def carry(request: PlannedRequest, due_ns: int) -> bool:
        assert due_ns == clock.now
        seen.append((request.pair_id, due_ns - BEGIN))
        clock.now += SECOND * 3 // 10
        return False

    Stage(closed(1), endless(), carry, clock).run()

    assert seen == [(0, 0), (1, 300_000_000), (2, 600_000_000), (3, 900_000_000)]


def test_a_slot_that_is_refused_at_once_does_not_spin() -> None:
    clock = FakeClock()
    carried = []

    def refused(request: PlannedRequest, due_ns: int) -> bool:
        carried.append(request)
        return True

    Stage(closed(1), endless(), refused, clock).run()

    assert len(carried) == round(1.0 / REFUSED_PAUSE_S)


@pytest.mark.parametrize("in_flight", [1, 4])
def test_as_many_slots_as_in_flight(in_flight: int) -> None:
    clock, plan = FakeClock(deferred=True), closed(in_flight)
    stage = Stage(plan, iter(()), lambda r, due_ns: False, clock)
    slots: list[int] = []
    join = clock.join
    clock.join = lambda: (slots.append(len(clock.waiting)), join())[1]  # type: ignore[method-assign]
    stage.run()
    assert slots == [in_flight]


def test_slots_really_run_side_by_side() -> None:
    """Real threads: three carries must meet at a barrier, which one slot after another never would."""
    barrier, taken, lock = threading.Barrier(3), [], threading.Lock()
    threads: list[threading.Thread] = []

    class ThreadClock(FakeClock):
        def spawn(self, function: Callable[..., Any], *args: Any) -> None:
            threads.append(threading.Thread(target=function, args=args))
            threads[-1].start()

        def join(self) -> None:
            for thread in threads:
                thread.join()

    clock = ThreadClock()

    def carry(request: PlannedRequest, due_ns: int) -> bool:
        barrier.wait(timeout=30)
        with lock:
            taken.append(request.pair_id)
        return False

    requests = iter([PlannedRequest(n, -1, 0, ("baseline",)) for n in range(3)])
    Stage(closed(3), requests, carry, clock).run()

    assert sorted(taken) == [0, 1, 2]


PAIR: tuple[ArmName, ...] = ("candidate", "baseline")


@pytest.mark.parametrize(
    ("share", "planned", "arms"),
    [
        (None, PAIR, PAIR),
        (None, ("candidate",), ("candidate",)),
        (0.0, ("candidate",), ("baseline",)),
        (0.0, ("baseline",), ("baseline",)),
        (0.0, PAIR, ("baseline",)),
        (1.0, PAIR, ("candidate",)),
        (1.0, ("baseline",), ("candidate",)),
        (0.0, ("stable", "candidate"), ("stable", "baseline")),
    ],
)
def test_route_override(share: float | None, planned: tuple[ArmName, ...], arms: tuple[ArmName, ...]) -> None:
    route = Route()
    route.override(0.0)
    route.override(share)
    assert route.arms(planned) == arms


def test_a_route_in_between_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.3"):
        Route().override(0.3)
