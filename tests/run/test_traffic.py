"""Several routers that share the traffic: each gets its turn, and what one does not tell is never made up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.errors import WorldError
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

    @property
    def pattern(self) -> Pattern:
        return "turns"

    def read(self) -> Split:
        self._alive()
        return Split(self.share, requests=dict(self.given) if self.counts else None)  # type: ignore[arg-type]

    def set(self, candidate_share: float) -> None:
        self._alive()
        self.share = candidate_share

    def header(self, values: Mapping[str, ArmName]) -> None: ...

    def drain(self, arm: ArmName, deadline_s: float, *, cut: bool = False) -> Drained:
        self._alive()
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
    assert [(entry.target, entry.before, entry.wanted) for entry in read(tmp_path)] == [
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
