"""HTTP/1.1 against a server of the test's own, which says what no good one would; the real one is in test_real."""

from __future__ import annotations

import resource
import socket
import threading
from collections.abc import Callable

import pytest

from harness.load.engine import http1
from harness.load.engine.exchange import Exchange
from harness.load.engine.loop import Loop
from harness.load.outcome import GENERATOR, TIMEOUT
from harness.load.template import Template
from tests.load.engine.conftest import run_until
from tests.load.engine.http_client import BODY, CHUNKED, PLAIN, Client, Make, answering, read_request
from tests.ports import closed_port


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


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n", b"1\r\nb\r\n0\r\n\r\n"),
        (b"Content-Length: 2\r\n\r\na", b"b"),
        (b"Content-Type: text/event-stream\r\n\r\na", b"b"),  # until the connection ends
    ],
)
def test_the_pieces_of_a_stream_are_stamped_as_they_come(loop: Loop, script: Make, first: bytes, second: bytes) -> None:
    """The second piece is sent only after the first one was seen."""
    seen_first = threading.Event()

    def serve(connection: socket.socket, _: int) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + first)
        assert seen_first.wait(60)
        connection.sendall(second)

    client = Client(loop, script(serve).port, api="generate")
    client.send()
    exchange = next(iter(client.sender._live))
    run_until(loop, lambda: len(exchange.frames) == 1)
    first_seen_ns = loop.now_ns()
    seen_first.set()
    client.wait()
    (first_ns, one), (second_ns, other) = exchange.frames
    assert (one, other, exchange.status, exchange.failure) == (b"a", b"b", 200, None)
    assert first_ns <= first_seen_ns < second_ns <= exchange.done_ns


@pytest.mark.parametrize("framing", [b"", b"Content-Length: 1000\r\n", b"Transfer-Encoding: chunked\r\n"])
@pytest.mark.parametrize("late", [False, True])
def test_a_stream_that_breaks_keeps_what_came_before(loop: Loop, script: Make, framing: bytes, late: bool) -> None:
    go_on = threading.Event()

    def serve(connection: socket.socket, _: int) -> None:
        read_request(connection)
        size = b"5\r\n" if b"chunked" in framing else b""
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n" + size + b"piece")
        go_on.wait(60)
        # Closed so, a connection is reset.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    client = Client(loop, script(serve).port, api="generate")
    client.send()
    exchange = next(iter(client.sender._live))
    run_until(loop, lambda: len(exchange.frames) == 1)
    if late:
        client.sender.expire(loop.now_ns())
    go_on.set()
    client.wait()
    assert client.statuses() == ["timeout" if late else "error"]
    assert [piece for _, piece in exchange.frames] == [b"piece"]


@pytest.mark.parametrize("framing", [b"", b"Content-Length: 10\r\n"])
def test_a_body_in_pieces_that_is_no_stream_is_one(loop: Loop, script: Make, framing: bytes) -> None:
    seen_first = threading.Event()

    def serve(connection: socket.socket, _: int) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\nfirst")
        assert seen_first.wait(60)
        connection.sendall(b"other")

    client = Client(loop, script(serve).port)
    client.send()
    exchange = next(iter(client.sender._live))
    run_until(loop, lambda: len(exchange.frames) == 1)
    seen_first.set()
    client.wait()
    assert exchange.frames == [(exchange.done_ns, b"firstother")]


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
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "undecodable"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"7" * 5000 + b"\r\n\r\n", "undecodable"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n", "undecodable"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 70_000, "undecodable"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 2000 + PLAIN, "undecodable"),
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
    with closed_port() as port:
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
    # Two of them never left, and say so.
    found = sorted((e.owner, e.sent_ns >= 0, e.failure.error) for e in client.answers.done if e.failure)
    assert found == [(1, True, "deadline"), (2, False, "no free connection"), (3, False, "no free connection")]
    assert all(e.done_ns > 50_000_000 for e in client.answers.done)


def test_the_time_that_a_request_waited_counts_towards_its_deadline_and_not_towards_its_latency(
    loop: Loop, script: Make
) -> None:
    release = threading.Event()

    def serve(connection: socket.socket, _: int) -> None:
        read_request(connection)
        release.wait(60)
        connection.sendall(PLAIN)
        read_request(connection)
        threading.Event().wait(60)

    client = Client(loop, script(serve).port, connections=1)
    client.send(2)
    given_ns = loop.now_ns()
    loop.after(0.05, release.set)
    run_until(loop, lambda: len(client.answers.done) == 1)
    (exchange,) = client.sender._live
    assert exchange.sent_ns - given_ns > 40_000_000
    client.sender.expire(given_ns)
    client.wait()
    assert client.statuses() == ["200", "timeout"]
    assert exchange.failure == TIMEOUT


def test_requests_leave_in_the_order_in_which_they_were_given(loop: Loop, script: Make) -> None:
    """Those that wait go before one that is asked for when a place becomes free: the deadline looks at the first."""
    client = Client(loop, script(lambda connection, _: threading.Event().wait(60)).port, connections=1)
    client.send(3)
    first = next(iter(client.sender._live))
    landed = first.on_done

    def one_more(exchange: Exchange) -> None:
        landed(exchange)
        client.send()

    first.on_done = one_more
    loop.after(0.01, lambda: client.sender.expire(first.given_ns + 1))
    run_until(loop, lambda: len(client.answers.done) == 1)
    assert [e.owner for e in client.sender._live] == [2]
    assert [e.owner for _, e in client.sender._waiting] == [3, 4]


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


def refusing(then: Callable[[], object]) -> Callable[[socket.socket, int], None]:
    """A server that reads a little of the first, large body, refuses it, and closes the connection after `then`."""

    def serve(connection: socket.socket, number: int) -> None:
        if number > 1:
            answering(PLAIN)(connection, number)
            return
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 9\r\n\r\ntoo large")
        then()

    return serve


def test_an_answer_to_half_a_request_counts_though_the_server_hangs_up(loop: Loop, script: Make) -> None:
    """What is sent after that breaks."""
    got, go_on, closed = threading.Event(), threading.Event(), threading.Event()

    def serve(connection: socket.socket, number: int) -> None:
        if number == 1:
            connection.recv(1, socket.MSG_PEEK)
            got.set()
            go_on.wait(60)
        refusing(lambda: None)(connection, number)
        connection.close()
        closed.set()

    client = Client(loop, script(serve).port)
    client.sent = 1
    client.sender.send(Template.of(b"x" * 50_000_000), b"", b"", client.answers.exchange())
    run_until(loop, got.is_set)
    # The loop looks again only when all of this has happened.
    go_on.set()
    assert closed.wait(60)
    client.wait()
    client.send()
    client.wait()
    assert client.statuses() == ["413", "200"]
    assert [body for _, body in client.answers.done[0].frames] == [b"too large"]


def test_the_next_request_does_not_wait_behind_one_that_was_answered_half_sent(loop: Loop, script: Make) -> None:
    """The server reads no more of that one, but keeps the connection."""
    answered = threading.Event()
    client = Client(loop, script(refusing(lambda: answered.wait(20))).port)
    client.sent = 1
    client.sender.send(Template.of(b"x" * 50_000_000), b"", b"", client.answers.exchange())
    client.wait()
    client.send()
    try:
        client.wait()
    finally:
        answered.set()
    assert client.statuses() == ["413", "200"]


def test_heads_that_differ_every_time_do_not_keep_out_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "_heads", {})
    for number in range(3000):
        http1._parse(b"HTTP/1.1 200 OK\r\nX-Id: %d" % number)
    assert len(http1._heads) <= 1024
    usual = b"HTTP/1.1 200 OK\r\nContent-Length: 5"
    http1._parse(usual)
    assert http1._heads[usual].length == 5


def test_cancel_ends_them_all(loop: Loop, script: Make) -> None:
    client = Client(loop, script(lambda connection, _: threading.Event().wait(60)).port, connections=2)
    client.send(4)
    loop.after(0.02, client.sender.cancel)
    client.wait()
    assert client.statuses() == ["cancelled"] * 4
    assert sorted(e.sent_ns >= 0 for e in client.answers.done) == [False, False, True, True]
    client.sender.close()
    client.send()
    client.wait()
    assert (client.statuses()[-1], client.answers.done[-1].sent_ns) == ("cancelled", -1)


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
