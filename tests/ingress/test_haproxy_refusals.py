"""What HAProxy refuses, loses or does not say; no Triton is asked."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.embedded import haproxy as embedded
from harness.errors import Unreachable, UsageError, WorldError
from harness.ingress import haproxy_api, open_ingress
from harness.ingress.haproxy import weights
from harness.ingress.haproxy_api import RuntimeApi
from tests.ports import closed_port
from tests.triton.proxy import HAPROXY, free_port

needs_haproxy = pytest.mark.skipif(embedded.available() is not None, reason=str(embedded.available()))

_CONFIG = """
global
  stats socket {folder}/admin.sock mode 600 level admin
  stats socket {folder}/default.sock mode 600
  stats socket ipv4@127.0.0.1:{admin} level admin
  stats socket ipv4@127.0.0.1:{operator}
defaults
  mode http
  timeout connect 5s
  timeout client 5s
  timeout server 5s
backend canary
  balance roundrobin
  use-server %[req.hdr(x),map({folder}/x.map)] if TRUE
  server v1 127.0.0.1:9 weight 100
  server v2 127.0.0.1:9 weight 0
  server v3 127.0.0.1:9 weight 0
backend second
  balance roundrobin
  server v1 127.0.0.1:9 weight 100
  server v2 127.0.0.1:9 weight 0
backend static
  balance static-rr
  server v1 127.0.0.1:9 weight 100
  server v2 127.0.0.1:9 weight 1
backend least
  balance leastconn
  server v1 127.0.0.1:9 weight 100
  server v2 127.0.0.1:9 weight 1
backend ramp
  balance roundrobin
  server v1 127.0.0.1:9 weight 100
  server v2 127.0.0.1:9 weight 0 slowstart 1h
"""


class Running:
    """A HAProxy of which only the control is used."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.admin, self.operator = folder, free_port(), free_port()
        self.api = RuntimeApi("unix", f"{folder}/admin.sock")
        self.map = f"{folder}/x.map"

    def at(self, options: str = "backend=canary", *, socket: str = "admin.sock") -> str:
        return f"haproxy+unix://{self.folder}/{socket}?{options}&baseline=v1&candidate=v2"

    def over_tcp(self, port: int) -> str:
        return f"haproxy+tcp://127.0.0.1:{port}?baseline=v1&candidate=v2"


@pytest.fixture(scope="module")
def haproxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    assert HAPROXY is not None
    running = Running(folder := tmp_path_factory.mktemp("haproxy"))
    (folder / "x.map").write_text("")
    (folder / "cfg").write_text(_CONFIG.format(folder=folder, admin=running.admin, operator=running.operator))
    command = [HAPROXY, "-db", "-f", folder / "cfg"]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            deadline = time.monotonic() + 60
            while not _answers(running):
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline
            yield running
        finally:
            process.kill()


def _answers(running: Running) -> bool:
    try:
        running.api.ask("show info")
    except Unreachable:
        time.sleep(0.02)
        return False
    return True


@needs_haproxy
def test_the_split_over_tcp_and_by_the_address_alone(haproxy: Running) -> None:
    target = haproxy.over_tcp(haproxy.admin)
    ingress = open_ingress(target)
    assert (ingress.target, ingress.pattern) == (target, "turns")
    for share in (0.1, 0.1, 1.0, 0.0):
        ingress.set(share)
        assert open_ingress(target).read().candidate_share == share
        assert open_ingress(haproxy.at()).read().candidate_share == share
    split = ingress.read()
    assert (split.requests, split.in_flight) == ({"baseline": 0, "candidate": 0}, {"baseline": 0, "candidate": 0})
    assert (split.headers, split.down) == ({}, ())
    ingress.close()


@needs_haproxy
def test_the_same_again_sends_nothing_that_changes(haproxy: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    ingress = open_ingress(haproxy.at())
    ingress.set(0.5)
    haproxy.api.do("set weight canary/v1 7", "set weight canary/v2 7")
    monkeypatch.setattr(RuntimeApi, "weights", None)
    ingress.set(0.5)  # 7 of 14
    with pytest.raises(TypeError):
        ingress.set(0.6)


@needs_haproxy
def test_the_weight_that_rises_is_set_first(haproxy: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise both are 0 for a moment, and HAProxy answers 503."""
    told: list[str] = []
    ask = RuntimeApi.ask

    def listen(api: RuntimeApi, *commands: str) -> list[str]:
        told.extend(command for command in commands if command.startswith("set"))
        return ask(api, *commands)

    ingress = open_ingress(haproxy.at())
    ingress.set(0.0)
    monkeypatch.setattr(RuntimeApi, "ask", listen)
    ingress.set(1.0)
    ingress.set(0.0)
    assert told == [
        "set weight canary/v2 100", "set weight canary/v1 0", "set weight canary/v1 100", "set weight canary/v2 0",
    ]  # fmt: skip


@needs_haproxy
def test_several_backends_change_together(haproxy: Running) -> None:
    ingress = open_ingress(haproxy.at("backend=canary,second"))
    ingress.set(0.2)
    haproxy.api.do("set weight second/v2 80", "set weight second/v1 20")
    assert ingress.read().candidate_share == 0.8, "the larger one: it is where harm may come from"
    ingress.set(0.2)
    for backend in ("canary", "second"):
        assert open_ingress(haproxy.at(f"backend={backend}")).read().candidate_share == 0.2
    elsewhere = open_ingress(haproxy.at("backend=nowhere,second"))
    with pytest.raises(UsageError, match="No such"):
        elsewhere.set(0.0)
    assert open_ingress(haproxy.at("backend=second")).read().candidate_share == 0.0, "what can go back goes back"


@needs_haproxy
def test_a_socket_without_the_right_says_what_it_lacks(haproxy: Running) -> None:
    for target in (haproxy.over_tcp(haproxy.operator), haproxy.at(socket="default.sock")):
        ingress = open_ingress(target)
        ingress.read()
        with pytest.raises(WorldError, match=r"^haproxy\+(tcp|unix)://.*Permission denied.*level admin"):
            ingress.set(0.3)


@needs_haproxy
def test_names_that_are_not_there(haproxy: Running) -> None:
    for options, says in (
        ("backend=nope", "No such proxy.*nope"),
        ("backend=canary&headers=/no/such.map", "Unknown map identifier"),
        ("backend=canary&headers=99", "Unknown map identifier"),
    ):
        with pytest.raises(UsageError, match=says):
            open_ingress(haproxy.at(options)).read()
    odd = open_ingress(f"haproxy+unix://{haproxy.folder}/admin.sock?baseline=v1&candidate=v9")
    for act in (odd.read, lambda: odd.set(0.1)):
        with pytest.raises(UsageError, match="backend canary has no server v9; it has v1, v2, v3"):
            act()


@needs_haproxy
def test_algorithms_that_do_not_fit(haproxy: Running) -> None:
    static = open_ingress(haproxy.at("backend=static"))
    assert static.read().candidate_share == pytest.approx(1 / 101)
    with pytest.raises(WorldError, match="static LB algorithm"):
        static.set(0.5)
    least = open_ingress(haproxy.at("backend=least"))
    for act in (least.read, lambda: least.set(0.5)):
        with pytest.raises(UsageError, match=r"least balances by leastconn.*expected `balance roundrobin`"):
            act()


@needs_haproxy
def test_a_slow_start_is_no_split_in_force(haproxy: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.ingress.haproxy.TIMEOUT_S", 0.2)
    haproxy.api.do("set server ramp/v2 state maint", "set server ramp/v2 state ready")
    ingress = open_ingress(haproxy.at("backend=ramp"))
    with pytest.raises(WorldError, match=r"ramp's weights were set .* are in force \(a slow start"):
        ingress.set(0.5)
    assert 0 < ingress.read().candidate_share < 0.5, "what is, not what was asked"


@needs_haproxy
def test_headers_of_every_kind_and_entries_of_others(haproxy: Running) -> None:
    plain = open_ingress(haproxy.at())
    with pytest.raises(UsageError, match=r"use-server.*headers=.*haproxy\.cfg"):
        plain.header({"A": "baseline"})
    number = haproxy.api.ask("show map")[1].split()[0]
    haproxy.api.do(f"add map {haproxy.map} theirs v3")
    for name in (haproxy.map, number, f"%23{number}"):
        ingress = open_ingress(haproxy.at(f"headers={name}"))
        ingress.header({"A": "baseline", r"a;b\c#<<": "candidate", "50%": "candidate"})
        assert ingress.read().headers == {"A": "baseline", r"a;b\c#<<": "candidate", "50%": "candidate"}
        haproxy.api.do(f"add map {haproxy.map} A v2")
        assert ingress.read().headers["A"] == "baseline", "the first one counts"
        ingress.header({"A": "candidate"})
        assert ingress.read().headers == {"A": "candidate"}
        ingress.header({})
        assert ingress.read().headers == {}
        assert haproxy.api.map(haproxy.map) == [("theirs", "v3")]
    for value in ("", "two words", "a\nb", "ä"):
        with pytest.raises(UsageError, match="one word of ASCII"):
            ingress.header({value: "baseline"})
    with pytest.raises(UsageError, match="not to stable"):
        ingress.header({"A": "stable"})
    haproxy.api.do(f"del map {haproxy.map} theirs")


@contextmanager
def relay(folder: Path, behind: Path, lost: str) -> Iterator[str]:
    """A socket that passes commands on to HAProxy's, except those that begin with `lost`; the path."""
    path = f"{folder}/relay.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client, socket.socket(socket.AF_UNIX) as onward:
                    told = client.makefile().readline().strip().split(";")
                    kept = [command for command in told if not command.startswith(lost)]
                    if not kept:
                        client.sendall(b"\n")
                        continue
                    onward.connect(str(behind))
                    onward.sendall(";".join(kept).encode() + b"\n")
                    onward.shutdown(socket.SHUT_WR)
                    while piece := onward.recv(65536):
                        client.sendall(piece)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield path
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(60)


@needs_haproxy
def test_a_change_that_was_lost_is_noticed(haproxy: Running, tmp_path: Path) -> None:
    open_ingress(haproxy.at()).set(0.0)
    with relay(tmp_path, haproxy.folder / "admin.sock", "set weight") as path:
        ingress = open_ingress(f"haproxy+unix://{path}?baseline=v1&candidate=v2")
        with pytest.raises(WorldError, match="without a word, but says now: canary/v2 0, canary/v1 100"):
            ingress.set(0.3)
        assert ingress.read().candidate_share == 0.0
    (tmp_path / "relay.sock").unlink()
    with relay(tmp_path, haproxy.folder / "admin.sock", "add map") as path:
        ingress = open_ingress(f"haproxy+unix://{path}?baseline=v1&candidate=v2&headers={haproxy.map}")
        with pytest.raises(WorldError, match=r"was told to route \{'A': 'candidate'\}"):
            ingress.header({"A": "candidate"})


def test_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(haproxy_api, "TIMEOUT_S", 0.2)
    missing = open_ingress(f"haproxy+unix://{tmp_path}/no.sock")
    with pytest.raises(Unreachable, match=rf"^haproxy\+unix://{tmp_path}/no\.sock: .*No such file"):
        missing.read()
    with (
        closed_port() as port,
        pytest.raises(Unreachable, match=r"^haproxy\+tcp://127\.0\.0\.1:\d+: .*refused"),
    ):
        open_ingress(f"haproxy+tcp://127.0.0.1:{port}").set(0.0)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(f"{tmp_path}/silent.sock")
        silent.listen()
        with pytest.raises(Unreachable, match="did not answer within"):
            open_ingress(f"haproxy+unix://{tmp_path}/silent.sock").read()


def test_something_else_answers(tmp_path: Path) -> None:
    for number, (said, says) in enumerate(
        ((b"", "hung up"), (b"220 smtp\n", "no table of statistics"), (b"\n", "no table of statistics"))
    ):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{tmp_path}/{number}.sock")
            listener.listen()

            def answer(listener: socket.socket = listener, said: bytes = said) -> None:
                client, _ = listener.accept()
                with client:
                    client.recv(65536)
                    client.sendall(said)

            thread = threading.Thread(target=answer, daemon=True)
            thread.start()
            with pytest.raises((WorldError, UsageError), match=says):
                open_ingress(f"haproxy+unix://{tmp_path}/{number}.sock").read()
            thread.join(60)


def test_addresses_that_are_none() -> None:
    for target in (
        "haproxy+tcp://127.0.0.1",
        "haproxy+tcp://127.0.0.1:9999/path",
        "haproxy+http://127.0.0.1:9999",
        "haproxy+unix:///a.sock?backend=a,,b",
        "haproxy+unix:///a.sock?baseline=v1&candidate=v1",
        "haproxy+unix:///a.sock?backend=a%3Bshutdown+sessions",
        "haproxy+unix:///a.sock?server=a",
    ):
        with pytest.raises(UsageError):
            open_ingress(target)


@pytest.mark.parametrize(
    ("share", "pair"),
    [(0.0, (100, 0)), (1.0, (0, 100)), (0.5, (50, 50)), (0.1, (90, 10)), (0.005, (199, 1)), (1 / 3, (2, 1))],
)  # fmt: skip
def test_weights(share: float, pair: tuple[int, int]) -> None:
    assert weights(share) == pair


def test_every_share_from_4_in_a_thousand_on_can_be_given() -> None:
    for step in range(4, 997):
        baseline, candidate = weights(step / 1000)
        assert 0 <= baseline <= 256
        assert 0 <= candidate <= 256
        smaller = min(step, 1000 - step) / 1000
        assert abs(min(baseline, candidate) / (baseline + candidate) - smaller) <= 0.004 * smaller


@pytest.mark.parametrize(
    ("share", "nearest"),
    [(0.001, r"0 % and 0\.3891 %"), (0.0038, r"0 % and 0\.3891 %"), (0.9995, r"100 % and 99\.61 %")],
)  # fmt: skip
def test_a_share_that_no_weights_give_is_refused_with_the_nearest(share: float, nearest: str) -> None:
    with pytest.raises(UsageError, match=nearest):
        weights(share)
    with pytest.raises(UsageError, match=rf"^haproxy\+tcp://h:1: .*{nearest}"):
        open_ingress("haproxy+tcp://h:1").set(share)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_what_is_no_share(share: float) -> None:
    with pytest.raises(UsageError, match="between 0 % and 100 %"):
        weights(share)
