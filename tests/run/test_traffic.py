"""Several routers that share the traffic: each gets its turn, and what one does not tell is never made up."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from harness.errors import Unreachable, UsageError, WorldError
from harness.ingress import Drained, Pattern, Split
from harness.run.journal import Journal, read
from harness.run.traffic import BLIND, Traffic
from harness.types import ArmName


class FakeRouter:
    """A stand-in that does as it is told, unless it is `dead`."""

    def __init__(self, name: str, *, dead: bool = False, counts: bool = True) -> None:
        self.target, self.dead, self.counts = f"fake+{name}:", dead, counts
        self.share, self.given = 0.0, {"baseline": 100, "candidate": 5}
        self.drained: list[tuple[str, float, bool]] = []
        self.headers: dict[str, ArmName] = {}
        self.down: tuple[ArmName, ...] = ()
        self.flying = 0

    @property
    def pattern(self) -> Pattern:
        return "turns"

    def read(self) -> Split:
        self._alive()
        flying = {"baseline": self.flying, "candidate": self.flying}
        counts = {"requests": dict(self.given), "in_flight": flying} if self.counts else {}
        return Split(self.share, dict(self.headers), down=self.down, **counts)  # type: ignore[arg-type]

    def set(self, candidate_share: float) -> None:
        self._alive()
        self.share = candidate_share

    def header(self, values: Mapping[str, ArmName]) -> None:
        self._alive()
        self.headers = dict(values)

    def drain(self, arm: ArmName, deadline_s: float, *, cut: bool = False) -> Drained:
        self._alive()
        if arm == "baseline" and self.share < 1:
            raise UsageError(f"{self.target}: the baseline still has a share")
        self.drained.append((arm, deadline_s, cut))
        return Drained(3, deadline_s, cut=3 if cut else 0)

    def close(self) -> None: ...

    def _alive(self) -> None:
        if self.dead:
            raise WorldError(f"{self.target} does not answer")


@pytest.fixture
def said() -> list[str]:
    return []


def test_every_router_gets_the_share_and_a_journal_entry(tmp_path: Path, said: list[str]) -> None:
    one, two = FakeRouter("a"), FakeRouter("b")
    traffic = Traffic(Journal(tmp_path), [one, two], said.append)
    traffic.to(0.5)
    assert (one.share, two.share) == (0.5, 0.5)
    assert sorted((entry.target, entry.before, entry.wanted) for entry in read(tmp_path)) == [
        ("fake+a:", 0.0, 0.5), ("fake+b:", 0.0, 0.5),
    ]  # fmt: skip
    assert traffic.at(0.5)
    two.share = 0.4
    assert not traffic.at(0.5)
    assert traffic.share == 0.5
    assert traffic.way_back == "triton-canary route rollback fake+a: fake+b:"


def test_a_dead_one_does_not_keep_the_traffic_at_the_others(tmp_path: Path, said: list[str]) -> None:
    dead, alive, gone = FakeRouter("a", dead=True), FakeRouter("b"), FakeRouter("c", dead=True)
    alive.share = 0.5
    with pytest.raises(WorldError) as caught:
        Traffic(Journal(tmp_path), [dead, alive, gone], said.append).to(0.0)
    assert alive.share == 0.0
    assert "fake+a: does not answer" in str(caught.value)
    assert "fake+c: does not answer" in str(caught.value)


def test_what_cannot_be_drained_is_said_and_holds_nothing_up(tmp_path: Path, said: list[str]) -> None:
    dead, alive = FakeRouter("a", dead=True), FakeRouter("b")
    Traffic(Journal(tmp_path), [dead, alive], said.append).drain("candidate", 2.0, cut=True)
    assert alive.drained == [("candidate", 2.0, True)]
    assert said == [
        "not drained: fake+a: does not answer",
        "the candidate still had 3 requests after 2.0 s, 3 of them were cut",
    ]


def test_requests_are_counted_from_now_on_over_all_routers(tmp_path: Path, said: list[str]) -> None:
    one, two = FakeRouter("a"), FakeRouter("b")
    traffic = Traffic(Journal(tmp_path), [one, two], said.append)
    assert traffic.requests() == {"baseline": 200, "candidate": 10}
    count = traffic.counted("candidate")
    assert count is not None
    assert count() == 0
    one.given["candidate"] += 2
    two.given["candidate"] += 1
    assert count() == 3


def test_a_router_that_was_restarted_makes_nobody_a_stray(tmp_path: Path, said: list[str]) -> None:
    """Its counter begins again: whatever the server counts from then on may be ours."""
    router = FakeRouter("a")
    count = Traffic(Journal(tmp_path), [router], said.append).counted("candidate")
    assert count is not None
    router.given["candidate"] = 1
    assert count() >= BLIND
    router.given["candidate"] = 1000
    assert count() >= BLIND
    assert len(said) == 1
    assert "strays cannot be seen any more" in said[0]


def test_a_router_that_does_not_count_says_so(tmp_path: Path, said: list[str]) -> None:
    traffic = Traffic(Journal(tmp_path), [FakeRouter("a"), FakeRouter("b", counts=False)], said.append)
    assert traffic.counted("candidate") is None
    assert traffic.requests() == {}


def test_the_way_back_takes_header_rules_along(tmp_path: Path, said: list[str]) -> None:
    router = FakeRouter("a")
    router.share, router.headers = 0.5, {"A": "baseline", "B": "candidate"}
    traffic = Traffic(Journal(tmp_path), [router], said.append)
    assert traffic.share == 1.0, "a header that leads to the candidate may lead everybody there"
    traffic.back()
    assert (router.share, router.headers) == (0.0, {"A": "baseline"})
    assert [entry.action for entry in read(tmp_path)] == ["route.set", "route.header"]


@pytest.mark.parametrize(
    ("share", "headers", "down", "why"),
    [
        (1.0, {}, (), ""),
        (0.999, {}, (), "gives it 0.1000% of the traffic"),
        (1.0, {"A": "baseline"}, (), "leads the header's value A to it"),
        (1.0, {}, ("candidate",), "holds the candidate for unable to serve"),
    ],
)
def test_who_still_has_users_does_not_go(
    tmp_path: Path, said: list[str], share: float, headers: dict[str, ArmName], down: tuple[ArmName, ...], why: str
) -> None:
    router = FakeRouter("a")
    router.share, router.headers, router.down = share, headers, down
    traffic = Traffic(Journal(tmp_path), [router], said.append)
    if not why:
        traffic.refuse_to_lose("baseline")
        return
    with pytest.raises(WorldError, match=r"the baseline stays: fake\+a: ") as caught:
        traffic.refuse_to_lose("baseline")
    assert why in str(caught.value)


def test_draining_what_still_has_traffic_is_no_small_thing(tmp_path: Path, said: list[str]) -> None:
    with pytest.raises(UsageError, match="still has a share"):
        Traffic(Journal(tmp_path), [FakeRouter("a")], said.append).drain("baseline", 1.0)


@pytest.mark.parametrize(
    ("wanted", "found", "there"),
    [(0.5, 0.5, True), (0.05, 0.0503, True), (0.05, 0.06, False), (0.001, 0.0, False), (0.0, 0.001, False),
     (1.0, 0.999, False), (0.0, 0.0, True)],
)  # fmt: skip
def test_a_share_is_there_or_it_is_not(
    tmp_path: Path, said: list[str], wanted: float, found: float, there: bool
) -> None:
    router = FakeRouter("a")
    router.share = found
    assert Traffic(Journal(tmp_path), [router], said.append).at(wanted) == there


def test_one_that_hangs_does_not_hold_up_the_others(tmp_path: Path, said: list[str]) -> None:
    free = threading.Event()

    class Hangs(FakeRouter):
        def read(self) -> Split:
            free.wait(60)
            raise WorldError("did not answer")

    alive = FakeRouter("b")
    alive.share = 0.5
    traffic = Traffic(Journal(tmp_path), [Hangs("a"), alive], said.append)
    thread = threading.Thread(target=suppressed, args=[traffic.back])
    thread.start()
    deadline = time.monotonic() + 60
    while alive.share and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not free.is_set()
    assert alive.share == 0.0
    free.set()
    thread.join()


def suppressed(call: Callable[[], None]) -> None:
    with contextlib.suppress(WorldError):
        call()


def test_what_is_in_flight_at_first_is_no_stray_when_it_ends(tmp_path: Path, said: list[str]) -> None:
    router = FakeRouter("a")
    router.flying = 4
    count = Traffic(Journal(tmp_path), [router], said.append).counted("candidate")
    assert count is not None
    assert count() == 4


def test_a_hand_on_the_split_is_not_overruled(tmp_path: Path, said: list[str]) -> None:
    router = FakeRouter("a")
    traffic = Traffic(Journal(tmp_path), [router], said.append)
    assert traffic.stage(0.1)
    assert not traffic.stage(0.1)
    router.share = 0.0
    with pytest.raises(WorldError, match=r"somebody changed the split since the run had set it to 0\.1"):
        traffic.stage(0.5)
    with pytest.raises(WorldError, match="somebody changed the split"):
        traffic.refuse_overruling()
    assert router.share == 0.0


def test_a_router_that_does_not_answer_for_a_moment_ends_nothing(tmp_path: Path, said: list[str]) -> None:
    class Silent(FakeRouter):
        def _alive(self) -> None:
            if self.dead:
                raise Unreachable("no answer")

    router = Silent("a")
    traffic = Traffic(Journal(tmp_path), [router], said.append)
    traffic.stage(0.1)
    router.dead, traffic._asked_s = True, 0.0
    traffic.ask()
    router.dead, router.share, traffic._asked_s = False, 0.0, 0.0
    with pytest.raises(WorldError, match="somebody changed the split"):
        traffic.ask()
