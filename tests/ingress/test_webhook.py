"""The webhook against a fake of a user's own router, which follows the protocol, or does not."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from harness.errors import Unreachable, UsageError, WorldError
from harness.ingress import asking, open_ingress, webhook

TOKEN = "t0ken-of-nobody"


class FakeRouter(ThreadingHTTPServer):
    """A fake: it routes nothing. `state` is what it says; `late` changes are not in force at once; `answers`: what it
    answers instead, by method.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.state: dict[str, Any] = {"candidate_share": 0.0}
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.answers: dict[str, Callable[[_Handler], None]] = {}
        self.late = 0
        self.waiting: list[dict[str, Any]] = []

    @property
    def target(self) -> str:
        return f"webhook+http://127.0.0.1:{self.server_port}/split"

    def puts(self) -> list[Any]:
        return [body for method, _, _, body in self.asked if method == "PUT"]


class _Handler(BaseHTTPRequestHandler):
    server: FakeRouter

    def do_GET(self) -> None:
        self._note(None)
        if "GET" in self.server.answers:
            self.server.answers["GET"](self)
            return
        if self.server.waiting:
            self.server.state |= self.server.waiting.pop(0)
        self.say(200, json.dumps(self.server.state).encode())

    def do_PUT(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self._note(body)
        if "PUT" in self.server.answers:
            self.server.answers["PUT"](self)
            return
        self.server.waiting = [*[{}] * self.server.late, body]
        self.say(202, b"")

    def say(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _note(self, body: Any) -> None:
        self.server.asked.append((self.command, self.path, dict(self.headers), body))

    def log_message(self, *_: Any) -> None:
        """Nothing: stderr is the tests'."""


@pytest.fixture
def router() -> Iterator[FakeRouter]:
    with FakeRouter() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(webhook.TOKEN, raising=False)
    monkeypatch.setattr(webhook, "IN_FORCE_S", 60.0)
    monkeypatch.setattr(webhook, "_POLL_S", 0.01)


def test_all_that_can_be_said_is_read(router: FakeRouter) -> None:
    router.state = {
        "candidate_share": 0.1,
        "headers": {"A": "baseline", "B": "candidate"},
        "requests": {"baseline": 900, "candidate": 100, "stable": 3},
        "in_flight": {"baseline": 2, "candidate": 0},
        "down": ["candidate"],
        "pattern": "turns",
        "something": "of its own",
    }
    ingress = open_ingress(router.target)
    assert ingress.target == router.target
    assert ingress.pattern == "turns"
    split = ingress.read()
    assert (split.candidate_share, split.headers) == (0.1, {"A": "baseline", "B": "candidate"})
    assert (split.requests, split.in_flight) == ({"baseline": 900, "candidate": 100}, {"baseline": 2, "candidate": 0})
    assert split.down == ("candidate",)
    assert {(method, path) for method, path, _, _ in router.asked} == {("GET", "/split")}


def test_what_is_not_said_is_not_known(router: FakeRouter) -> None:
    ingress = open_ingress(router.target)
    split = ingress.read()
    assert (split.headers, split.requests, split.in_flight, split.down) == ({}, None, None, ())
    assert ingress.pattern == "random"


def test_a_change_is_sent_once_and_awaited(router: FakeRouter) -> None:
    router.late = 5
    ingress = open_ingress(router.target)
    ingress.set(0.5)
    assert ingress.read().candidate_share == 0.5
    ingress.set(0.5)
    assert router.puts() == [{"candidate_share": 0.5}]
    router.state["headers"] = {}
    ingress.header({"B": "candidate"})
    ingress.header({"B": "candidate"})
    assert ingress.read().headers == {"B": "candidate"}
    ingress.header({})
    assert router.puts()[1:] == [{"headers": {"B": "candidate"}}, {"headers": {}}]


def test_a_share_may_be_nearly_so_but_none_is_none(router: FakeRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "IN_FORCE_S", 1.0)
    ingress = open_ingress(router.target)
    router.state["candidate_share"] = 0.3331
    ingress.set(1 / 3)
    assert router.puts() == []
    router.state["candidate_share"] = 0.0005
    router.answers["PUT"] = lambda handler: handler.say(200, b"as you wish")
    with pytest.raises(
        WorldError, match=r"was sent \{'candidate_share': 0.0\}, and took it, but after 1 s it says 0.05"
    ):
        ingress.set(0.0)


def test_a_router_without_headers_is_asked_for_none(router: FakeRouter) -> None:
    ingress = open_ingress(router.target)
    ingress.header({})
    with pytest.raises(UsageError, match="routes by no header"):
        ingress.header({"A": "candidate"})
    router.state["headers"] = {}
    with pytest.raises(UsageError, match="not to stable"):
        ingress.header({"A": "stable"})
    with pytest.raises(UsageError, match="between 0 % and 100 %"):
        ingress.set(1.5)
    assert router.puts() == []


def test_a_drain_waits_while_it_is_told_that_something_is_in_flight(router: FakeRouter) -> None:
    ingress = open_ingress(router.target)
    router.state["in_flight"] = {"baseline": 5, "candidate": 2}
    drained = ingress.drain("candidate", 0.1, cut=True)
    assert (drained.left, drained.cut) == (2, 0)
    assert drained.took_s >= 0.1
    router.waiting = [{}] * 20 + [{"in_flight": {"baseline": 5, "candidate": 0}}]
    drained = ingress.drain("candidate", 60)
    assert drained.left == 0
    assert router.waiting == []
    del router.state["in_flight"]
    drained = ingress.drain("candidate", 0.1)
    assert drained.left is None
    assert drained.took_s >= 0.1
    with pytest.raises(UsageError, match="the baseline gets 100"):
        ingress.drain("baseline", 1)
    router.state["headers"] = {"B": "candidate"}
    with pytest.raises(UsageError, match="the candidate has values of a header"):
        ingress.drain("candidate", 1)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", "expected a JSON object, found nothing"),
        ("<html>\n<b>Welcome</b>", "expected a JSON object, found <html> <b>Welcome</b>"),
        ("[" * 100_000, "expected a JSON object"),
        ("[0.1]", "expected a JSON object"),
        ("{}", "candidate_share: expected a number from 0 to 1, found nothing"),
        ('{"candidate_share": "NaN"}', "candidate_share: expected a number from 0 to 1, found 'NaN'"),
        ('{"candidate_share": NaN}', "candidate_share"),
        ('{"candidate_share": 2.0}', "candidate_share: expected a number from 0 to 1, found 2.0"),
        ('{"candidate_share": -0.1}', "candidate_share"),
        ('{"candidate_share": true}', "candidate_share"),
        ('{"candidate_share": null}', "candidate_share"),
        ('{"candidate_share": "0.1"}', "candidate_share"),
        ('{"candidate_share": 0, "requests": {"baseline": 1}}', "requests: expected whole numbers"),
        ('{"candidate_share": 0, "requests": {"baseline": 1, "candidate": 1.5}}', "requests"),
        ('{"candidate_share": 0, "in_flight": {"baseline": 1, "candidate": -1}}', "in_flight"),
        ('{"candidate_share": 0, "in_flight": null}', "in_flight"),
        ('{"candidate_share": 0, "headers": {"A": "v2"}}', "headers: expected an object"),
        ('{"candidate_share": 0, "headers": ["A"]}', "headers"),
        ('{"candidate_share": 0, "headers": {"A": ["candidate"]}}', "headers"),
        ('{"candidate_share": 0, "down": "candidate"}', "down: expected a list"),
        ('{"candidate_share": 0, "down": [["candidate"]]}', "down"),
        ('{"candidate_share": 0, "pattern": "sticky"}', "pattern: expected turns or random, found 'sticky'"),
        ('{"candidate_share": 0, "pattern": {"turns": 1}}', "pattern"),
    ],
)
def test_an_answer_that_does_not_follow_the_protocol_is_no_split(router: FakeRouter, body: str, words: str) -> None:
    router.answers["GET"] = lambda handler: handler.say(200, body.encode())
    ingress = open_ingress(router.target)
    for ask in (ingress.read, lambda: ingress.set(0.0), lambda: ingress.drain("candidate", 1)):
        with pytest.raises(WorldError, match=f"^webhook\\+http://127.*{words.partition('(')[0]}") as error:
            ask()
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 400
    assert router.puts() == []


@pytest.mark.parametrize("status", [204, 302, 307, 401, 404, 500, 503])
def test_another_status_is_told_and_no_redirect_followed(router: FakeRouter, status: int) -> None:
    body = b"" if status == 204 else b"go\naway"
    router.answers["GET"] = lambda handler: handler.say(status, body, location=f"{router.target[8:]}/elsewhere")
    with pytest.raises(WorldError, match="expected a JSON object" if status == 204 else f"answered {status}: go away"):
        open_ingress(router.target).read()
    assert [path for _, path, _, _ in router.asked] == ["/split"]


def test_a_change_that_is_refused_is_told(router: FakeRouter) -> None:
    router.answers["PUT"] = lambda handler: handler.say(409, b"frozen until Monday")
    with pytest.raises(WorldError, match="PUT is answered 409: frozen until Monday"):
        open_ingress(router.target).set(0.5)


def test_a_failure_while_it_comes_into_force_is_no_end(router: FakeRouter) -> None:
    ingress = open_ingress(router.target)

    def taken(handler: _Handler) -> None:
        del router.answers["PUT"]
        router.answers["GET"] = broken
        router.state["candidate_share"] = 0.5
        handler.say(200, b"")

    def broken(handler: _Handler) -> None:
        del router.answers["GET"]
        handler.say(500, b"reloading")

    router.answers["PUT"] = taken
    ingress.set(0.5)
    assert ingress.read().candidate_share == 0.5


@pytest.mark.parametrize("drips", [False, True])
def test_a_router_that_hangs_does_not_hold_us(router: FakeRouter, monkeypatch: pytest.MonkeyPatch, drips: bool) -> None:
    # What drips is to break off by the deadline of the whole, never by the wait for the next piece.
    monkeypatch.setattr(asking, "TIMEOUT_S", 60.0 if drips else 0.3)
    ingress = open_ingress(router.target)
    monkeypatch.setattr(asking, "TIMEOUT_S", 0.3)
    over = threading.Event()

    def hang(handler: _Handler) -> None:
        if drips:
            handler.send_response(200)
            handler.end_headers()
        while not over.wait(0.05):
            if drips:
                try:
                    handler.wfile.write(b" ")
                except OSError:
                    return

    router.answers["GET"] = hang
    try:
        with pytest.raises(Unreachable, match="does not end" if drips else "no answer to GET in "):
            ingress.read()
    finally:
        over.set()


def test_a_router_that_breaks_off_is_named(router: FakeRouter) -> None:
    def torn(handler: _Handler) -> None:
        handler.send_response(200)
        handler.send_header("content-length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"candidate_share": 0')

    router.answers["GET"] = torn
    with pytest.raises(Unreachable, match=r"^webhook\+http://127.0.0.1:\d+/split: GET: "):
        open_ingress(router.target).read()


def test_nobody_there(router: FakeRouter) -> None:
    with pytest.raises(Unreachable, match=r"^webhook\+http://127.0.0.1:1/split: GET: ") as error:
        open_ingress("webhook+http://127.0.0.1:1/split").set(0.0)
    assert error.value.exit_code == 4


def test_the_token_is_sent_and_never_shown(router: FakeRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(webhook.TOKEN, TOKEN)
    ingress = open_ingress(router.target)
    ingress.set(0.5)
    assert {headers["authorization"] for _, _, headers, _ in router.asked} == {f"Bearer {TOKEN}"}
    assert TOKEN not in ingress.target
    echo = f"who are you, Bearer {TOKEN}?".encode()
    said = []
    for status in (200, 401):
        router.answers["GET"] = lambda handler, status=status: handler.say(status, echo)
        with pytest.raises(WorldError) as error:
            ingress.read()
        said.append(str(error.value))
    assert all("who are you, Bearer (the token)?" in line for line in said)


@pytest.mark.parametrize("token", ["with blanks", "line\nX-Evil: 1", "ümlaut"])
def test_a_token_that_cannot_be_sent_is_refused_and_not_shown(
    router: FakeRouter, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv(webhook.TOKEN, token)
    with pytest.raises(UsageError, match=webhook.TOKEN) as error:
        open_ingress(router.target)
    assert token not in str(error.value)


@pytest.mark.parametrize(
    "target",
    ["webhook+http://", "webhook+ftp://host/x", "webhook://host/x", "webhook+http://host/x?token=secret",
     "webhook+http://me:secret@host/x", "webhook+http://host:port/x", "webhook+http:///x"],
)  # fmt: skip
def test_what_is_no_address_is_refused(target: str) -> None:
    with pytest.raises(UsageError) as error:
        open_ingress(target)
    assert "secret" not in str(error.value)
