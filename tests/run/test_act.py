"""Nobody goes who still has users, or whom nobody could stand in for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import WorldError
from harness.run.act import Act
from harness.run.journal import Journal, read
from harness.run.traffic import Traffic
from harness.types import Arm
from tests.run.test_traffic import FakeRouter


class FakeControl:
    """Stands for a connection to a Triton that serves `now`."""

    def __init__(self, *now: int) -> None:
        self.url, self.now = "grpc://h:1", now

    def loaded(self, _model: str) -> tuple[int, ...]:
        return self.now


def act(folder: Path, router: FakeRouter, *, serves: tuple[int, ...] = (2,), **on: Any) -> tuple[Act, list[str]]:
    """At the end of a blue-green: what was stopped is in the list."""
    stopped: list[str] = []
    journal = Journal(folder)
    target = SimpleNamespace(
        arms={"baseline": Arm("grpc://b:1", "m", 1), "candidate": Arm("grpc://g:1", "m", 2)},
        controls={"baseline": FakeControl(1), "candidate": FakeControl(*serves)},
        stop={name: lambda name=name: stopped.append(name) for name in ("baseline", "candidate")},
        repositories={"baseline": None, "candidate": None},
        front=object(),
    )
    scenario = SimpleNamespace(
        on_promote=SimpleNamespace(then="stop"),
        on_fail=SimpleNamespace(drain_s=1.0, cut=False, unload=None, stop="candidate", scale=None, **on),
        load=SimpleNamespace(timeout_s=1.0),
        store=None,
    )
    traffic = Traffic(journal, [router], lambda _: None)
    return Act(scenario, target, journal, traffic, lambda _: None, lambda: 7), stopped  # type: ignore[arg-type]


def test_blue_stops_once_green_has_everybody(tmp_path: Path) -> None:
    router = FakeRouter("a")
    router.share = 1.0
    doing, stopped = act(tmp_path, router)
    doing.promote()
    assert stopped == ["baseline"]
    assert [entry.action for entry in read(tmp_path)] == ["route.drain"]


@pytest.mark.parametrize(
    ("share", "headers", "down", "serves"),
    [
        (0.0, {}, (), (2,)),  # somebody has rolled back by hand
        (1.0, {"A": "baseline"}, (), (2,)),
        (1.0, {}, ("candidate",), (2,)),
        (1.0, {}, (), (1,)),  # green has lost its version
    ],
)
def test_blue_stays_where_it_is_needed(tmp_path: Path, share: float, headers: Any, down: Any, serves: Any) -> None:
    router = FakeRouter("a")
    router.share, router.headers, router.down = share, headers, down
    doing, stopped = act(tmp_path, router, serves=serves)
    with pytest.raises(WorldError, match="the baseline stays: "):
        doing.promote()
    assert stopped == []


def test_green_stops_once_blue_has_everybody(tmp_path: Path) -> None:
    router = FakeRouter("a")
    router.share, router.headers = 0.5, {"B": "candidate"}
    doing, stopped = act(tmp_path, router)
    doing.back()
    assert (router.share, router.headers, doing.settled_ns) == (0.0, {}, 7)
    assert stopped == [], "traffic first"
    doing.leave(alarm=False)
    assert stopped == ["candidate"]


def test_green_stays_where_the_router_holds_blue_for_down(tmp_path: Path) -> None:
    router = FakeRouter("a")
    router.down = ("baseline",)
    doing, stopped = act(tmp_path, router)
    doing.back()
    with pytest.raises(WorldError, match="the candidate stays: "):
        doing.leave(alarm=True)
    assert stopped == []
