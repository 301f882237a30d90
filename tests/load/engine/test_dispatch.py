"""Who leaves when, on a clock of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, pairwise

import pytest

from harness.load.engine.dispatch import BURST, REFUSED_PAUSE_S, Over, Route, Stage
from harness.types import ArmName, PlannedRequest, StagePlan
from tests.load.engine.fake_loop import FakeLoop

SECOND = 1_000_000_000
BEGIN = 5 * SECOND


def open_loop(*due_s: float, duration_s: float = 10.0) -> tuple[StagePlan, Iterator[PlannedRequest]]:
    plan = StagePlan(2, "split", "poisson", duration_s, 0.5, rate=1.0)
    return plan, (PlannedRequest(n, int(t * SECOND), n, ("baseline",)) for n, t in enumerate(due_s))


def closed(in_flight: int, duration_s: float = 1.0, to: int | None = None) -> StagePlan:
    return StagePlan(0, "paired", "closed", duration_s, 0.5, in_flight=in_flight, in_flight_to=to)


def endless() -> Iterator[PlannedRequest]:
    return (PlannedRequest(n, -1, n, ("baseline", "candidate")) for n in count())


class Rig:
    """A stage whose requests take `takes_s` each."""

    def __init__(
        self, plan: StagePlan, requests: Iterator[PlannedRequest], takes_s: float = 0.0, *, refused: bool = False,
        worker: int = 0, workers: int = 1, lag_ns: int = 0,
    ) -> None:  # fmt: skip
        self.loop = FakeLoop(BEGIN, lag_ns)
        self.takes_s, self.refused = takes_s, refused
        self.seen: list[tuple[int, int, int]] = []
        self.most = 0
        self.done_at: list[int] = []
        self.stage = Stage(plan, requests, self.carry, self.loop, self.done, worker, workers)  # type: ignore[arg-type]

    def carry(self, request: PlannedRequest, due_ns: int, over: Over) -> None:
        self.seen.append((request.pair_id, due_ns - BEGIN, self.loop.now - BEGIN))
        self.most = max(self.most, self.stage.in_flight)
        self.loop.after(self.takes_s, over, self.refused)

    def done(self) -> None:
        self.done_at.append(self.loop.now - BEGIN)

    def run(self) -> Rig:
        self.stage.begin(BEGIN)
        self.loop.run()
        return self


def test_requests_that_leave_together_share_a_slot() -> None:
    twins = (PlannedRequest(2 * n, -1, n, ("baseline", "baseline")) for n in count())
    plan = StagePlan(0, "split", "closed", 1.0, 0.0, in_flight=4, purpose="alone", together=2)
    rig = Rig(plan, twins, 0.1).run()
    assert rig.most == 2
    assert [pair for pair, _, _ in rig.seen[:4]] == [0, 2, 4, 6]


def test_open_loop_requests_leave_at_their_due_times_and_the_stage_lasts_as_long_as_it_says() -> None:
    rig = Rig(*open_loop(0.0, 0.1234, 0.1234, 3.0)).run()
    due = [0, 123_400_000, 123_400_000, 3 * SECOND]
    assert rig.seen == [(n, due_ns, due_ns) for n, due_ns in enumerate(due)]
    assert rig.done_at == [10 * SECOND]


def test_a_late_open_loop_keeps_the_due_times() -> None:
    """No coordinated omission: what could not leave in time is still due when the plan said."""
    rig = Rig(*open_loop(0.0, 0.1, 0.2), lag_ns=2 * SECOND).run()
    assert [due_ns for _, due_ns, _ in rig.seen] == [0, SECOND // 10, SECOND // 5]
    assert all(sent_ns >= 2 * SECOND for _, _, sent_ns in rig.seen)


def test_a_backlog_is_sent_in_bursts_that_let_answers_in() -> None:
    plan, requests = open_loop(*[0.001] * (3 * BURST))
    rig = Rig(plan, requests)
    fired: list[int] = []
    carry = rig.carry

    def count_turn(request: PlannedRequest, due_ns: int, over: Over) -> None:
        carry(request, due_ns, over)
        rig.loop.at(0, lambda: fired.append(len(rig.seen)))

    rig.stage._carry = count_turn
    rig.run()
    assert len(rig.seen) == 3 * BURST
    assert fired[0] == BURST, "something else had its turn after a burst"


def test_nothing_is_issued_after_the_stage_is_over_and_it_waits_for_what_is_in_flight() -> None:
    rig = Rig(*open_loop(0.0, 0.5, 1.0, 1.5, duration_s=1.0), takes_s=3.0).run()
    assert [number for number, _, _ in rig.seen] == [0, 1]
    assert rig.done_at == [SECOND // 2 + 3 * SECOND]


def test_a_stopped_stage_issues_nothing_more() -> None:
    rig = Rig(*open_loop(0.0, 1.0, 2.0, 3.0))
    rig.loop.at(BEGIN + SECOND + 1, rig.stage.stop)
    rig.run()
    assert [number for number, _, _ in rig.seen] == [0, 1]
    assert rig.done_at == [SECOND + 1]


def test_a_stage_begins_when_it_is_told_to() -> None:
    plan, requests = open_loop(0.0, 1.0)
    rig = Rig(plan, requests)
    rig.stage.begin(BEGIN + 7 * SECOND)
    rig.loop.run()
    assert [sent for _, _, sent in rig.seen] == [7 * SECOND, 8 * SECOND]


def test_a_closed_loop_takes_the_next_request_when_the_last_one_is_over() -> None:
    rig = Rig(closed(1), endless(), takes_s=0.3).run()
    assert rig.seen == [(n, n * 300_000_000, n * 300_000_000) for n in range(4)]
    assert rig.done_at == [1_200_000_000]


def test_a_slot_that_is_refused_at_once_does_not_spin() -> None:
    rig = Rig(closed(1), endless(), refused=True).run()
    assert len(rig.seen) == round(1.0 / REFUSED_PAUSE_S)


@pytest.mark.parametrize("in_flight", [1, 4])
def test_as_many_slots_as_in_flight(in_flight: int) -> None:
    rig = Rig(closed(in_flight), endless(), takes_s=0.1).run()
    assert rig.most == in_flight
    assert len(rig.seen) == 10 * in_flight


def test_workers_deal_the_slots_out_among_them() -> None:
    most = [Rig(closed(7), endless(), takes_s=0.1, worker=worker, workers=3).run().most for worker in range(3)]
    assert sorted(most) == [2, 2, 3]


def test_a_worker_without_a_slot_sends_nothing_and_ends() -> None:
    rig = Rig(closed(1), endless(), takes_s=0.1, worker=1, workers=2).run()
    assert (rig.seen, rig.done_at) == ([], [SECOND])


@pytest.mark.parametrize(("first", "last"), [(1, 9), (9, 1)])
def test_a_closed_loop_ramps_its_slots(first: int, last: int) -> None:
    rig = Rig(closed(first, duration_s=8.0, to=last), endless(), takes_s=0.05).run()
    a_second = [0] * 8
    for _, _, sent in rig.seen:
        a_second[min(sent // SECOND, 7)] += 1
    steps = [later - earlier for earlier, later in pairwise(a_second)]
    assert all(step > 0 for step in steps) if last > first else all(step < 0 for step in steps)
    assert rig.most == max(first, last)
    assert len(rig.done_at) == 1


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
