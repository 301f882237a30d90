"""The `route` commands as an operator calls them, on a real Envoy and a real HAProxy."""

from __future__ import annotations

import json
import shlex
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.cli import parser
from harness.embedded import EmbeddedServer, envoy, haproxy
from harness.embedded.envoy import EmbeddedEnvoy
from harness.embedded.haproxy import EmbeddedHaproxy
from harness.ingress import open_ingress
from harness.run.journal import Journal, not_put_back, read
from harness.run.lease import Lease
from harness.run.moving import route_headers
from harness.run.state import state_folder
from tests.cli.conftest import Call
from tests.ingress.traffic import Traffic
from tests.run.conftest import Done, canary
from tests.triton.proxy import free_port

missing = envoy.available() or haproxy.available()
needs_routers = pytest.mark.skipif(missing is not None, reason=str(missing))
Router = EmbeddedEnvoy | EmbeddedHaproxy


@pytest.fixture(scope="module")
def running(tiny_server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Router]]:
    """Envoy and HAProxy before the two versions of one Triton."""
    at = tiny_server.http_url.partition("://")[2]
    http: dict[Any, str] = {"baseline": at, "candidate": at}
    versions: dict[Any, int] = {"baseline": 1, "candidate": 2}
    with (
        EmbeddedEnvoy(tmp_path_factory.mktemp("envoy"), http, versions=versions) as first,
        EmbeddedHaproxy(tmp_path_factory.mktemp("haproxy"), http, versions=versions) as second,
    ):
        yield [first, second]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def routers(running: list[Router]) -> list[Router]:
    for router in running:
        ingress = open_ingress(router.control)
        ingress.header({})
        ingress.set(0.0)
    return running


@pytest.fixture
def addresses(routers: list[Router]) -> list[str]:
    return [router.control for router in routers]


def shares(addresses: list[str]) -> list[float]:
    return [open_ingress(address).read().candidate_share for address in addresses]


def one_line(done: Done) -> str:
    """The error, which is the last line."""
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("triton-canary: "), done.stderr
    assert "Traceback" not in done.stderr
    return last


def test_every_command_has_an_example() -> None:
    top = parser()._subparsers._group_actions[0].choices["route"]  # type: ignore[union-attr,index]
    commands = top._subparsers._group_actions[0].choices
    assert set(commands) == {"show", "set", "rollback"}
    for name, command in commands.items():
        assert f"example:\n  triton-canary route {name} " in command.format_help()
    assert "envoy+http://127.0.0.1:9901" in top.format_help()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("show",), "ADDRESS"),
        (("show", "127.0.0.1:9901"), "expected haproxy+unix:///path/admin.sock"),
        (("set", "envoy+http://127.0.0.1:1"), "--candidate"),
        (("set", "envoy+http://127.0.0.1:1", "--candidate", "10"), "expected a share from 0% to 100%, found '10'"),
        (("set", "envoy+http://127.0.0.1:1", "--candidate", "101%"), "expected a share"),
        (("rollback", "envoy+http://127.0.0.1:1", "ngnix+http://host"), "expected haproxy+unix"),
        (("rollback", "envoy+http://127.0.0.1:1", "--drain", "10"), "expected a duration"),
    ],
)
def test_wrong_usage_is_told_and_exits_with_2(call: Call, args: tuple[str, ...], words: str) -> None:
    done = call("route", *args)
    assert done.code == 2
    assert words in done.stderr
    assert done.stdout == ""


@pytest.mark.triton
@needs_routers
def test_a_rollback_by_hand_under_traffic(call: Call, routers: list[Router], addresses: list[str]) -> None:
    """Set, shown, rolled back at both, twice; nothing fails, and nothing goes to the candidate afterwards."""
    with ExitStack() as stack:
        loads = [stack.enter_context(Traffic(router.http_url, rate=100, in_flight=8)) for router in routers]
        done = canary("route", "set", *addresses, "--candidate", "50%")
        assert (done.code, done.stderr) == (0, "")
        assert done.stdout.splitlines() == [f"{address}: 50 % to the candidate (was 0 %)" for address in addresses]
        for address in addresses:
            ingress = open_ingress(address)
            route_headers(Journal(state_folder([address])), ingress, {"A": "baseline", "B": "candidate"})
        for load in loads:
            assert set(load.count("served_by", load.wait_for(100))) == {"baseline", "candidate"}

        done = call("route", "show", *addresses, "--json")
        assert (done.code, done.stderr) == (0, "")
        for shown, address, pattern in zip(
            json.loads(done.stdout)["routers"], addresses, ("random", "turns"), strict=True
        ):
            assert (shown["address"], shown["candidate_share"], shown["pattern"]) == (address, 0.5, pattern)
            assert shown["headers"] == {"A": "baseline", "B": "candidate"}
            assert min(shown["requests"].values()) > 10
            assert set(shown["in_flight"]) == {"baseline", "candidate"}
            assert (shown["down"], shown["error"]) == ([], None)

        done = canary("route", "rollback", *addresses, "--drain", "60s")
        over = time.monotonic()
        assert (done.code, done.stderr) == (0, "")
        for address in addresses:
            lines = [line.removeprefix(f"{address}: ") for line in done.stdout.splitlines() if line.startswith(address)]
            assert lines[:2] == [
                "100 % to the baseline, the candidate had 50 %",
                "the header's value B leads to the candidate no more",
            ]
            assert lines[2].startswith("the candidate has answered everything, after ")
            split = open_ingress(address).read()
            assert (split.candidate_share, split.headers) == (0.0, {"A": "baseline"})
            assert split.in_flight is not None
            assert split.in_flight["candidate"] == 0
            journal = read(state_folder([address]))
            assert [entry.action for entry in journal] == [
                "route.set", "route.header", "route.set", "route.header", "route.drain"
            ]  # fmt: skip
            assert {entry.state for entry in journal} == {"done"}
            assert (journal[2].before, journal[2].wanted, journal[2].undoes) == (0.5, 0.0, [1])
            assert not_put_back(journal) == []

        again = call("route", "rollback", *addresses)
        assert (again.code, again.stderr) == (0, "")
        assert again.stdout.splitlines() == [f"{address}: 100 % to the baseline already" for address in addresses]
        assert len(read(state_folder([addresses[0]]))) == 5, "nothing was done, so nothing is written"
        for load in loads:
            load.wait_for(50)
    for load in loads:
        assert load.failed() == []
        assert set(load.count("served_by", over)) == {"baseline"}


@pytest.mark.triton
@needs_routers
def test_what_a_person_is_shown(call: Call, addresses: list[str]) -> None:
    call("route", "set", *addresses, "--candidate", "12.5%")
    open_ingress(addresses[0]).header({"B": "candidate"})
    done = call("route", "show", *addresses)
    assert (done.code, done.stderr) == (0, "")
    first, second = done.stdout.split(addresses[1])
    assert first.startswith(f"{addresses[0]}: 12.5 % to the candidate, by a draw for each request\n")
    assert second.startswith(": 12.5 % to the candidate, in turns\n")
    for text in (first, second):
        rows = [line.split() for line in text.splitlines()]
        assert rows[1] == ["arm", "share", "requests", "in", "flight", "state"]
        assert rows[2][:3] == ["baseline", "87.5", "%"]
        assert rows[3][:3] == ["candidate", "12.5", "%"]
    assert "header B: to the candidate\n" in first
    assert "header" not in second


@pytest.mark.triton
@needs_routers
def test_a_dead_router_is_named_and_the_others_get_their_turn(call: Call, addresses: list[str]) -> None:
    dead = f"envoy+http://127.0.0.1:{free_port()}"
    done = call("route", "set", *addresses, dead, "--candidate", "50%")
    assert done.code == 4
    assert done.stdout == ""
    assert one_line(done).startswith(f"triton-canary: {dead}: GET /runtime: ")
    assert shares(addresses) == [0.0, 0.0], "a change is made everywhere or nowhere, as far as that can be known"

    assert call("route", "set", *addresses, "--candidate", "50%").code == 0
    done = call("route", "rollback", dead, *addresses, "--drain", "10s", "--cut")
    assert done.code == 4
    assert shares(addresses) == [0.0, 0.0]
    assert done.stdout.count("100 % to the baseline, the candidate had 50 %") == 2
    assert done.stdout.count("the candidate has answered everything") == 2
    line = one_line(done)
    assert line.startswith(f"triton-canary: {dead}: ")
    assert line.endswith(f"; to finish: triton-canary route rollback {dead} --drain 10s --cut")
    finish = shlex.split(line.partition("to finish: triton-canary ")[2])
    assert call(*finish).code == 4, "it is what can be called"

    done = call("route", "show", dead, *addresses, "--json")
    assert done.code == 4
    shown = json.loads(done.stdout)["routers"]
    assert [each["candidate_share"] for each in shown] == [None, 0.0, 0.0]
    assert shown[0]["error"].startswith(dead)


@pytest.mark.triton
@needs_routers
def test_what_cannot_be_read_can_be_rolled_back(call: Call, addresses: list[str]) -> None:
    """A value that somebody's typing error left, and an address that does not know what the arms are called."""
    router = addresses[0]
    ingress = open_ingress(router)
    ingress.header({"B": "candidate"})
    httpx.post(f"{router.removeprefix('envoy+')}/runtime_modify?canary.candidate=5O", timeout=60).raise_for_status()
    for command in (("show", router), ("set", router, "--candidate", "10%")):
        done = call("route", *command)
        assert done.code == 4
        assert "canary.candidate is 5O: expected a percentage" in one_line(done)
    done = call("route", "rollback", router)
    assert done.code == 0
    assert "what was before is not known: " in done.stderr
    assert done.stdout.splitlines() == [
        f"{router}: 100 % to the baseline",
        f"{router}: the header's value B leads to the candidate no more",
    ]
    assert (ingress.read().candidate_share, ingress.read().headers) == (0.0, {})
    ingress.set(0.5)
    ingress.header({"A": "candidate"})
    done = call("route", "rollback", f"{router}?candidate=v2")
    assert done.code == 0
    assert "it has no cluster v2; it has " in done.stderr
    assert done.stdout.splitlines()[-1].endswith(": no value of the header leads anywhere")
    assert (ingress.read().candidate_share, ingress.read().headers) == (0.0, {})


@pytest.mark.triton
@needs_routers
def test_a_disk_that_is_full_does_not_hold_the_traffic(
    call: Call, addresses: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for address in addresses:
        open_ingress(address).set(0.5)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    done = call("route", "set", addresses[0], "--candidate", "60%")
    assert done.code == 4
    assert shares(addresses) == [0.5, 0.5], "what cannot be written down is not done"
    done = call("route", "rollback", *addresses)
    assert done.code == 0
    assert done.stderr.count("goes on without a journal: ") == 2
    assert shares(addresses) == [0.0, 0.0]


@pytest.mark.triton
@needs_routers
def test_a_router_that_a_run_has_is_not_set_but_rolled_back(addresses: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with Lease.take(addresses[:1], folder):
        done = canary("route", "set", *addresses, "--candidate", "50%")
        assert done.code == 2
        assert f"run {folder} has it since" in one_line(done)
        assert f"in an emergency: triton-canary route rollback {addresses[0]}" in one_line(done)
        assert shares(addresses) == [0.0, 0.0]
        open_ingress(addresses[0]).set(0.5)
        done = canary("route", "rollback", *addresses)
        assert done.code == 0
        assert "it may move the traffic again: end it" in done.stderr
        assert shares(addresses) == [0.0, 0.0]


@contextmanager
def silent() -> Iterator[str]:
    """An arm that takes a request and never answers it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=take)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for each in taken:
            each.close()


@needs_routers
@pytest.mark.parametrize("kind", [EmbeddedEnvoy, EmbeddedHaproxy])
def test_what_is_left_at_the_deadline_is_told(call: Call, tmp_path: Path, kind: type[Router]) -> None:
    with silent() as arm, kind(tmp_path, {"baseline": f"127.0.0.1:{free_port()}", "candidate": arm}) as router:
        ingress = open_ingress(router.control)
        ingress.set(1.0)
        place = router.http_url.partition("://")[2].split(":")
        with socket.create_connection((place[0], int(place[1]))) as client:
            client.sendall(b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n")
            deadline = time.monotonic() + 60
            while ingress.read().in_flight != {"baseline": 0, "candidate": 1}:
                assert time.monotonic() < deadline
            done = call("route", "rollback", router.control, "--drain", "300ms")
            assert done.code == 0
            left = "the candidate still had 1 requests after 0.3 s"
            assert f"{left}: none was ended, 1 go on" in done.stdout
            done = call("route", "rollback", router.control, "--cut")
            ended = "1 were ended, 0 go on" if kind is EmbeddedHaproxy else "none was ended, 1 go on"
            assert f"the candidate still had 1 requests after 0 s: {ended}" in done.stdout
