"""HTTP/1.1 against a server of the test's own, which says what no good one would; the real one is in test_real."""

from __future__ import annotations

import resource
import socket
import threading

import pytest

from harness.load.engine.loop import Loop
from harness.load.outcome import GENERATOR
from harness.load.template import Template
from tests.load.engine.conftest import run_until
from tests.load.engine.http_client import BODY, CHUNKED, PLAIN, Client, Make, answering, read_request


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
