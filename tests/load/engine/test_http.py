"""HTTP/1.1 against a server of the test's own, which says what no good one would; the real one is in test_real."""

from __future__ import annotations

import resource
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import trustme

from harness.load.engine.http import HttpSender
from harness.load.engine.loop import Loop
from harness.load.outcome import GENERATOR
from harness.load.template import Template, request_id
from harness.types import Arm, Tls
from tests.load.conftest import TINY
from tests.load.engine.conftest import Answers, Script, run_until

BODY = b'{"model_version":"1"}'
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n" + BODY
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"7\r\ndata: a\r\n2;x=y\r\n\n\n\r\nA\r\n0123456789\r\n0\r\nX-Trailer: 1\r\n\r\n"
)
ASKED = Template.of(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 19\r\n\r\n~request-id-here-:~")

Make = Callable[..., Script]


def read_request(connection: socket.socket) -> bytes:
    """One request of ASKED's size; b"" at the end."""
    data = b""
    while len(data) < ASKED.size:
        more = connection.recv(ASKED.size - len(data))
        if not more:
            return b""
        data += more
    return data


def answering(*answers: bytes) -> Callable[[socket.socket, int], None]:
    """Each request of a connection gets the next answer, the last one again and again."""

    def serve(connection: socket.socket, _: int) -> None:
        number = 0
        while read_request(connection):
            connection.sendall(answers[min(number, len(answers) - 1)])
            number += 1

    return serve


_clients: list[Client] = []


@pytest.fixture(autouse=True)
def _closed(loop: Loop) -> Iterator[None]:
    yield
    while _clients:
        _clients.pop().sender.close()


class Client:
    def __init__(self, loop: Loop, port: int, *, scheme: str = "http", **changes: object) -> None:
        connections = changes.pop("connections", None)
        arm = replace(Arm(f"{scheme}://127.0.0.1:{port}", "tiny", 1), **changes)  # type: ignore[arg-type]
        self.loop = loop
        self.sender = HttpSender(loop, arm, TINY, connections)  # type: ignore[arg-type]
        self.answers = Answers()
        self.sent = 0
        _clients.append(self)

    def send(self, number: int = 1) -> None:
        for _ in range(number):
            self.sent += 1
            exchange = self.answers.exchange(self.sent)
            self.sender.send(ASKED, request_id(self.sent, "baseline").encode(), b"", exchange)

    def wait(self) -> None:
        run_until(self.loop, lambda: len(self.answers.done) == self.sent)

    def statuses(self) -> list[str]:
        return [e.failure.status if e.failure else str(e.status) for e in self.answers.done]


def test_answers_come_back_with_their_times_on_one_kept_connection(loop: Loop, script: Make) -> None:
    server = script(answering(PLAIN))
    client = Client(loop, server.port)
    for _ in range(5):
        client.send()
        client.wait()
    assert server.connections == 1
    for exchange in client.answers.done:
        assert (exchange.status, [body for _, body in exchange.frames]) == (200, [BODY])
        assert 0 <= exchange.sent_ns < exchange.done_ns == exchange.frames[0][0]


@pytest.mark.parametrize("answer", [PLAIN, CHUNKED, b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN])
def test_an_answer_cut_anywhere_is_the_same_answer(loop: Loop, script: Make, answer: bytes) -> None:
    go_on = threading.Event()

    def serve(connection: socket.socket, _: int) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for cut in range(1, len(answer)):
            assert read_request(connection)
            connection.sendall(answer[:cut])
            go_on.wait(0.002)  # whether or not the parts arrive as one, the answer is the same
            connection.sendall(answer[cut:])

    client = Client(loop, script(serve).port)
    for _ in range(1, len(answer)):
        client.send()
        client.wait()
    whole = BODY if answer is not CHUNKED else b"data: a\n\n0123456789"
    assert {(e.status, b"".join(part for _, part in e.frames)) for e in client.answers.done} == {(200, whole)}


def test_the_pieces_of_a_stream_are_stamped_as_they_come(loop: Loop, script: Make) -> None:
    """The second piece is sent only after the first one was seen."""
    seen_first = threading.Event()

    def serve(connection: socket.socket, _: int) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        assert seen_first.wait(60)
        connection.sendall(b"1\r\nb\r\n0\r\n\r\n")

    client = Client(loop, script(serve).port)
    client.send()
    exchange = next(iter(client.sender._live))
    run_until(loop, lambda: len(exchange.frames) == 1)
    first_seen_ns = loop.now_ns()
    seen_first.set()
    client.wait()
    (first_ns, first), (second_ns, second) = exchange.frames
    assert (first, second) == (b"a", b"b")
    assert first_ns <= first_seen_ns < second_ns == exchange.done_ns


def test_an_answer_that_ends_with_its_connection(loop: Loop, script: Make) -> None:
    def serve(connection: socket.socket, _: int) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nall there is")

    server = script(serve)
    client = Client(loop, server.port)
    for _ in range(2):
        client.send()
        client.wait()
    assert [b"".join(part for _, part in e.frames) for e in client.answers.done] == [b"all there is"] * 2
    assert server.connections == 2


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", "connection broken"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\nhalf", "connection broken"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "undecodable"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "undecodable"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", "undecodable"),
        (b"x" * 70_000, "undecodable"),
    ],
)
def test_what_is_no_answer_is_a_failure_and_the_next_request_is_none(
    loop: Loop, script: Make, answer: bytes, error: str
) -> None:
    def serve(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(answer if number == 1 else PLAIN)

    client = Client(loop, script(serve).port)
    client.send()
    client.wait()
    client.send()
    client.wait()
    first, second = client.answers.done
    assert first.failure is not None
    assert (first.failure.status, first.failure.error) == ("error", error)
    assert (second.failure, second.status) == (None, 200)


def test_a_connection_that_the_server_closes_when_idle_costs_no_request(loop: Loop, script: Make) -> None:
    closed = threading.Event()

    def serve(connection: socket.socket, _: int) -> None:
        read_request(connection)
        connection.sendall(PLAIN)
        connection.close()
        closed.set()

    server = script(serve)
    client = Client(loop, server.port)
    for _ in range(3):
        client.send()
        client.wait()
        assert closed.wait(60)
        run_until(loop, lambda: not client.sender._all)
        closed.clear()
    assert client.statuses() == ["200"] * 3


def test_connection_close_is_obeyed(loop: Loop, script: Make) -> None:
    server = script(answering(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
    client = Client(loop, server.port)
    for _ in range(2):
        client.send()
        client.wait()
    assert server.connections == 2


def test_at_most_so_many_connections_and_nobody_is_forgotten(loop: Loop, script: Make) -> None:
    together, most, lock = [0], [0], threading.Lock()

    def serve(connection: socket.socket, _: int) -> None:
        while read_request(connection):
            with lock:
                together[0] += 1
                most[0] = max(most[0], together[0])
            threading.Event().wait(0.01)
            with lock:
                together[0] -= 1
            connection.sendall(PLAIN)

    server = script(serve)
    client = Client(loop, server.port, connections=3)
    client.send(20)
    client.wait()
    assert client.statuses() == ["200"] * 20
    assert most[0] <= 3
    assert server.connections <= 3
    assert [e.owner for e in client.answers.done[:3]] != [18, 19, 20], "who waits longest goes first"


def test_nobody_there_is_refused(loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = Client(loop, port, connections=2)
    client.send(5)
    client.wait()
    assert {(e.failure.status, e.failure.code) for e in client.answers.done if e.failure} == {
        ("refused", "ECONNREFUSED")
    }


def test_a_deadline_ends_the_request_and_its_late_answer_is_nobody_else_s(loop: Loop, script: Make) -> None:
    release = threading.Event()

    def serve(connection: socket.socket, number: int) -> None:
        read_request(connection)
        if number == 1:
            release.wait(60)
        connection.sendall(PLAIN)

    client = Client(loop, script(serve).port)
    client.send()
    loop.after(0.05, lambda: client.sender.expire(loop.now_ns()))
    client.wait()
    release.set()
    client.send()
    client.wait()
    assert client.statuses() == ["timeout", "200"]


def test_a_request_that_waits_for_a_connection_has_a_deadline_too(loop: Loop, script: Make) -> None:
    client = Client(loop, script(lambda connection, _: threading.Event().wait(60)).port, connections=1)
    client.send(3)
    loop.after(0.05, lambda: client.sender.expire(loop.now_ns()))
    client.wait()
    assert client.statuses() == ["timeout"] * 3


def test_who_waited_goes_on_when_those_in_flight_have_timed_out(loop: Loop, script: Make) -> None:
    def serve(connection: socket.socket, number: int) -> None:
        read_request(connection)
        if number == 1:
            threading.Event().wait(60)
        connection.sendall(PLAIN)

    client = Client(loop, script(serve).port, connections=1)
    client.send()
    cut_ns = loop.now_ns() + 50_000_000
    loop.at(cut_ns, client.send)
    loop.at(cut_ns + 1_000_000, lambda: client.sender.expire(cut_ns - 1))
    run_until(loop, lambda: len(client.answers.done) == 2)
    assert client.statuses() == ["timeout", "200"]


def test_without_a_file_descriptor_nobody_else_is_to_blame(loop: Loop, script: Make) -> None:
    client = Client(loop, script(answering(PLAIN)).port)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        client.send()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    client.wait()
    failure = client.answers.done[0].failure
    assert failure is not None
    assert (failure.status, failure.error, failure.code) == ("cancelled", GENERATOR, "EMFILE")
    client.send()
    client.wait()
    assert client.statuses() == ["cancelled", "200"]


def test_cancel_ends_them_all(loop: Loop, script: Make) -> None:
    client = Client(loop, script(lambda connection, _: threading.Event().wait(60)).port, connections=2)
    client.send(4)
    loop.after(0.02, client.sender.cancel)
    client.wait()
    assert client.statuses() == ["cancelled"] * 4


def test_connections_are_there_before_the_first_request(loop: Loop, script: Make) -> None:
    server = script(answering(PLAIN))
    client = Client(loop, server.port, connections=3)
    settled: list[int] = []
    client.sender.connect(8, lambda: settled.append(len(client.sender._idle)))
    run_until(loop, lambda: bool(settled))
    assert settled == [3]
    client.send(3)
    client.wait()
    assert server.connections == 3


def test_a_body_larger_than_the_socket_takes_at_once(loop: Loop, script: Make) -> None:
    size = 8_000_000

    def serve(connection: socket.socket, _: int) -> None:
        got = 0
        while got < size:
            got += len(connection.recv(1 << 20))
        connection.sendall(PLAIN)

    client = Client(loop, script(serve).port)
    exchange = client.answers.exchange()
    client.sent = 1
    client.sender.send(Template.of(b"x" * size), b"", b"", exchange)
    client.wait()
    assert client.statuses() == ["200"]


def tls_server(*names: str) -> tuple[trustme.CA, ssl.SSLContext]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return authority, context


def test_the_same_under_tls(loop: Loop, script: Make, tmp_path) -> None:  # type: ignore[no-untyped-def]
    authority, context = tls_server("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    server = script(answering(PLAIN, CHUNKED), context)
    client = Client(loop, server.port, scheme="https", tls=Tls(ca=str(tmp_path / "ca.pem")))
    for _ in range(3):
        client.send()
        client.wait()
    assert client.statuses() == ["200"] * 3
    assert b"".join(part for _, part in client.answers.done[1].frames) == b"data: a\n\n0123456789"
    assert server.connections == 1


def test_a_server_that_says_goodbye_under_tls_costs_no_request(loop: Loop, script: Make, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """It waits for our goodbye before it closes, as asyncio's servers do."""
    authority, context = tls_server("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")

    def serve(connection: socket.socket, _: int) -> None:
        assert isinstance(connection, ssl.SSLSocket)
        read_request(connection)
        connection.sendall(PLAIN)
        connection.unwrap()

    client = Client(loop, script(serve, context).port, scheme="https", tls=Tls(ca=str(tmp_path / "ca.pem")))
    for _ in range(3):
        client.send()
        client.wait()
        run_until(loop, lambda: not client.sender._all)
    assert client.statuses() == ["200"] * 3


def test_a_server_that_is_not_who_it_should_be_is_not_spoken_to(loop: Loop, script: Make, tmp_path) -> None:  # type: ignore[no-untyped-def]
    heard: list[bytes] = []
    authority, context = tls_server("elsewhere.example")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    server = script(lambda connection, _: heard.append(connection.recv(100)), context)
    for tls in (None, Tls(ca=str(tmp_path / "ca.pem"))):
        client = Client(loop, server.port, scheme="https", tls=tls)
        client.send()
        client.wait()
        assert client.statuses() == ["refused"]
    named = Client(
        loop, server.port, scheme="https", tls=Tls(ca=str(tmp_path / "ca.pem"), server_name="elsewhere.example")
    )
    named.send()
    named.wait()
    assert heard == [ASKED.fill(request_id(1, "baseline").encode())]
