"""Putting back what real routers do and what commands started, in an order in which nobody's request is lost."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import Unreachable, WorldError
from harness.ingress import Drained, Split
from harness.run.hooks import run_hook
from harness.run.journal import FILE, Journal, read
from harness.run.moving import route
from harness.run.owed import owes
from harness.run.put_back import Live, put_back
from harness.types import ArmName

URL, GREEN = "grpc://blue:8001", "grpc://green:8001"


class Router:
    """Stands for a router: what it was told, in one list with all others."""

    pattern = "turns"

    def __init__(self, target: str, told: list[str]) -> None:
        self.target, self.told = target, told
        self.share, self.headers = 0.0, dict[str, ArmName]()
        self.dead, self.left = "", 0

    def read(self) -> Split:
        self._answer()
        return Split(self.share, self.headers)

    def set(self, candidate_share: float) -> None:
        self._answer()
        self.told.append(f"{self.target} {candidate_share}")
        self.share = candidate_share

    def header(self, values: Mapping[str, ArmName]) -> None:
        self._answer()
        self.told.append(f"{self.target} {dict(values)}")
        self.headers = dict(values)

    def drain(self, arm: ArmName, deadline_s: float, *, cut: bool = False) -> Drained:
        assert not cut
        self._answer()
        self.told.append(f"{self.target} drains {arm}")
        return Drained(self.left, deadline_s)

    def close(self) -> None:
        self.told.append(f"{self.target} closed")

    def _answer(self) -> None:
        if self.dead:
            raise Unreachable(f"{self.target}: {self.dead}")


class Triton:
    """Stands for a connection to a Triton."""

    def __init__(self, told: list[str], *now: int) -> None:
        self.told, self.now = told, now

    def loaded(self, _model: str) -> tuple[int, ...]:
        return self.now

    def set_versions(self, _model: str, desired: list[int], *, repository: object = None) -> None:
        self.now = tuple(desired)
        self.told.append(f"serves {self.now}")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run that died: 20 % at two routers, a header at the first, and version 2 in the place of version 1."""
    told: list[str] = []
    routers = {f"haproxy+tcp://{name}:9?backend=b": Router(f"haproxy+tcp://{name}:9?backend=b", told) for name in "xy"}
    triton, journal = Triton(told, 2), Journal(tmp_path)
    with journal.action("models.set", f"{URL}/m", before=[1], wanted=[1, 2]):
        pass
    for router in routers.values():
        route(journal, router, 0.2)
    first = next(iter(routers.values()))
    with journal.action("route.header", first.target, before={}, wanted={"B": "candidate"}):
        first.header({"B": "candidate"})
    with journal.action("models.set", f"{URL}/m", before=[1, 2], wanted=[2]):
        pass
    told.clear()
    monkeypatch.setattr("harness.run.put_back.open_ingress", lambda target: routers[target])
    live = Live(controls={URL: triton})  # type: ignore[dict-item]
    x, y = routers.values()
    return SimpleNamespace(told=told, x=x, y=y, triton=triton, journal=journal, live=live, folder=tmp_path)


def lines_of(world: Any) -> tuple[list[str], list[str]]:
    lines: list[str] = []
    return put_back(world.journal, lines.append, world.live), lines


def test_what_serves_comes_first_then_the_traffic_and_what_goes_is_drained(world: Any) -> None:
    failures, lines = lines_of(world)
    assert failures == []
    x, y = world.x.target, world.y.target
    assert world.told == [
        "serves (1, 2)", f"{y} 0.0", f"{x} 0.0", f"{x} {{}}", f"{y} drains candidate", f"{x} drains candidate",
        "serves (1,)", f"{x} closed", f"{y} closed",
    ]  # fmt: skip
    assert f"{x}: 100 % to the baseline, as before" in lines
    assert f"{x}: the header leads nobody, as before" in lines
    world.told.clear()
    assert lines_of(world) == ([], [])
    assert world.told == []


def test_a_dead_router_keeps_no_other_from_its_turn_and_what_it_may_ask_stays(world: Any) -> None:
    world.x.dead = "nobody answers"
    failures, _ = lines_of(world)
    split, header, models = failures
    assert split == (
        f"route.set {world.x.target}: {world.x.target}: nobody answers; "
        f"to finish: triton-canary recover {world.folder}; by hand: triton-canary route rollback '{world.x.target}'"
    )
    assert header.startswith(f"route.header {world.x.target}: ")
    assert models.startswith(f"models.set {URL}/m: versions [2] stay while {world.x.target} is not back")
    assert models.endswith(f"by hand: triton-canary models restore m --url {URL}")
    assert world.y.share == 0.0
    assert world.triton.now == (1, 2)
    assert "drains" not in "".join(world.told)
    world.x.dead = ""
    assert lines_of(world)[0] == []
    assert (world.x.share, world.x.headers, world.triton.now) == (0.0, {}, (1,))
    assert world.told.count(f"{world.y.target} 0.0") == 1
    assert lines_of(world) == ([], [])


def test_a_router_that_was_restarted_says_what_it_has_already(world: Any) -> None:
    world.x.share = 0.0
    _, lines = lines_of(world)
    assert f"{world.x.target}: 100 % to the baseline already, as before" in lines
    assert f"{world.y.target}: 100 % to the baseline, as before" in lines


def test_a_drain_that_fails_or_takes_too_long_holds_nothing_up(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world.y.left = 3

    def failing(arm: ArmName, deadline_s: float, *, cut: bool = False) -> Drained:
        raise WorldError("no such command")

    monkeypatch.setattr(world.x, "drain", failing)
    failures, lines = lines_of(world)
    assert failures == []
    assert world.triton.now == (1,)
    assert f"{world.y.target}: the candidate still had 3 requests after 10 s" in lines
    assert f"{world.x.target}: not drained: no such command" in lines


def test_whoever_lost_the_lease_touches_nothing(world: Any) -> None:
    def lost() -> None:
        raise WorldError("lost to run b")

    world.live.fences.append(lost)
    failures, _ = lines_of(world)
    assert failures
    assert all("lost to run b" in failure for failure in failures)
    assert set(world.told) <= {f"{world.x.target} closed"}
    assert owes(read(world.folder))


def test_routers_and_servers_of_the_runs_own_ended_with_it(tmp_path: Path) -> None:
    told: list[str] = []
    router, journal = Router("envoy+http://127.0.0.1:1?key=k", told), Journal(tmp_path)
    for action, target in (("server.start", "embedded"), ("ingress.start", "envoy")):
        with journal.action(action, target):
            pass
    route(journal, router, 0.5)
    with journal.action("models.set", f"{URL}/m", before=[1], wanted=[1, 2]):
        pass
    with journal.action("route.drain", router.target, wanted={"arm": "baseline", "cut": False}):
        pass
    assert not owes(read(tmp_path))
    assert put_back(journal, told.append) == []
    assert told == [f"{router.target} 0.5"]
    # While the run lives so does its router, and so do the users' requests.
    live = Live({router.target: router})
    assert put_back(journal, lambda _: None, live) == []
    assert router.share == 0.0
    route(journal, router, 0.5)
    router.dead = "it died"
    assert put_back(journal, lambda _: None, live) == []


def touched(folder: Path, name: str) -> list[str]:
    """A command that can be seen to have run."""
    code = f"open({str(folder / 'ran')!r}, 'a').write({name + ' '!r})"
    return [sys.executable, "-c", code]


def arms(folder: Path) -> None:
    known = {"format": 1, "arms": {"baseline": {"url": URL, "model": "m", "version": 1}}}
    (folder / "run.json").write_text(json.dumps(known))


def blue_green(tmp_path: Path, start_blue: list[str] | None, *serve: int) -> tuple[Journal, Router, Live]:
    """Green was started, switched to, and blue stopped; then the run died."""
    told: list[str] = []
    arms(tmp_path)
    journal, router = Journal(tmp_path), Router("haproxy+tcp://x:9?backend=b", told)
    run_hook(journal, f"start {GREEN}", touched(tmp_path, "green-up"), undo=touched(tmp_path, "green-down"))
    with journal.action("models.set", f"{GREEN}/m", before=[], wanted=[2]):
        pass
    route(journal, router, 1.0)
    run_hook(journal, f"stop {URL}", touched(tmp_path, "blue-down"), undo=start_blue)
    (tmp_path / "ran").unlink()
    return journal, router, Live({router.target: router}, {URL: Triton(told, *(serve or (1,)))})  # type: ignore[dict-item]


def test_a_stopped_server_is_started_before_the_traffic_and_a_started_one_stops_after_it(tmp_path: Path) -> None:
    journal, router, live = blue_green(tmp_path, touched(tmp_path, "blue-up"))
    router.told.clear()
    assert put_back(journal, lambda _: None, live) == []
    assert router.told == [f"{router.target} 0.0", f"{router.target} drains candidate"], "green's models end with it"
    assert (tmp_path / "ran").read_text() == "blue-up green-down "
    assert not owes(read(tmp_path))
    assert put_back(journal, lambda _: None, live) == []
    assert (tmp_path / "ran").read_text() == "blue-up green-down ", "and only once"


def test_traffic_stays_where_it_is_answered_if_its_server_cannot_be_started(tmp_path: Path) -> None:
    journal, router, live = blue_green(tmp_path, ["/no/such/program"])
    failures = put_back(journal, lambda _: None, live)
    hook, split, green = failures
    assert hook.startswith(f"hook.run stop {URL}: ")
    assert "/no/such/program" in hook
    assert split.startswith(f"route.set {router.target}: left as it is while 'stop {URL}' is not undone")
    assert router.share == 1.0
    assert green.startswith(f"hook.run start {GREEN}: left as it is while {router.target} is not back")
    assert not (tmp_path / "ran").exists(), "green serves on"


def test_traffic_stays_where_nobody_knows_how_to_start_its_server_again(tmp_path: Path) -> None:
    """Until it serves."""
    journal, router, live = blue_green(tmp_path, None, 2)
    for _ in range(2):
        hook, *_ = put_back(journal, lambda _: None, live)
        assert hook.startswith(f"hook.run stop {URL}: ")
        assert hook.endswith(f"start that server; then, to finish: triton-canary recover {tmp_path}")
        assert router.share == 1.0
    live.controls[URL].now = (1,)  # type: ignore[attr-defined]
    (told,) = put_back(journal, lambda _: None, live)
    assert "was run, and cannot be undone" in told
    assert router.share == 0.0
    assert put_back(journal, lambda _: None, live) == []


def test_a_command_that_failed_to_stop_it_holds_no_traffic(tmp_path: Path) -> None:
    journal, router, live = blue_green(tmp_path, None, 1)
    assert len(put_back(journal, lambda _: None, live)) == 1
    assert router.share == 0.0


def test_a_server_that_the_run_started_and_stopped_is_stopped(tmp_path: Path) -> None:
    """Of each thing the oldest state matters: it did not run before."""
    journal = Journal(tmp_path)
    up, down = touched(tmp_path, "up"), touched(tmp_path, "down")
    run_hook(journal, f"start {GREEN}", up, undo=down)
    run_hook(journal, f"stop {GREEN}", down, undo=up)
    (tmp_path / "ran").unlink()
    assert put_back(journal, lambda _: None) == []
    assert (tmp_path / "ran").read_text() == "down "


def test_a_command_without_another_that_undoes_it_is_told_of_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    run_hook(journal, "scale the baseline up", touched(tmp_path, "up"))
    (failure,) = put_back(journal, lambda _: None)
    assert failure.startswith("hook.run scale the baseline up: ")
    assert "was run, and cannot be undone" in failure
    assert put_back(journal, lambda _: None) == []


@pytest.mark.parametrize("seed", range(20))
def test_a_journal_damaged_anywhere_is_survived(world: Any, seed: int) -> None:
    """It does what is left to be read, and never raises."""
    draw, path = random.Random(seed), world.folder / FILE
    whole = path.read_bytes()
    for _ in range(20):
        damaged = bytearray(whole[: draw.randrange(len(whole)) if draw.random() < 0.3 else len(whole)])
        for _ in range(draw.choice((0, 1, 8))):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        if draw.random() < 0.2:
            damaged += bytes(500)  # as some filesystems leave a file after the power went
        path.write_bytes(damaged)
        world.x.share = world.y.share = 0.2
        world.triton.now = (1, 2)
        journal = Journal(world.folder)
        put_back(journal, lambda _: None, world.live)
        put_back(journal, lambda _: None, world.live)


def test_a_torn_last_line_is_an_action_that_had_not_begun(world: Any) -> None:
    path = world.folder / FILE
    whole = path.read_text().splitlines(keepends=True)
    path.write_text("".join(whole[:2]) + whole[2][:40])
    world.x.share = world.y.share = 0.0
    world.triton.now = (1, 2)
    failures, _ = lines_of(world)
    assert failures == []
    assert world.triton.now == (1,)
    assert not owes(read(world.folder))
