"""The corners of HTTP/2, each played by a server from a script."""

from __future__ import annotations

import threading

import pytest

from harness.load.engine import h2
from harness.load.engine.h2_frames import MAX_STREAM
from tests.load.engine.peer import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEAD,
    HEADERS,
    OK,
    PADDED,
    PING,
    PRIORITY,
    RST,
    SETTINGS,
    WAIT_S,
    WINDOW,
    Driver,
    Wire,
    answer,
    block,
    frame,
    linger,
    message,
    playing,
)


def test_preface_settings_and_ping() -> None:
    def script(wire: Wire) -> None:
        assert wire.preface == b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        _, _, ours = wire.until(SETTINGS)
        assert b"\0\x01\0\0\0\0" in ours  # no dynamic table
        wire.settings(table=4096)
        assert wire.until(SETTINGS, ack=True)[2] == b""
        stream, body = wire.request()
        wire.send(frame(PING, 0, 0, b"12345678"))
        assert wire.until(PING, ack=True) == (ACK, 0, b"12345678")
        wire.send(answer(stream, body))
        linger(wire)

    with playing(script) as arm, Driver(arm) as driver:
        [done] = driver.run(b"hello ")
        assert done.failure is None
        assert done.frames[0][1].startswith(b"hello 0000")
        assert done.sent_ns < done.frames[0][0] == done.done_ns


def test_nothing_is_sent_before_the_server_has_said_what_it_allows() -> None:
    def script(wire: Wire) -> None:
        wire.settings(most=1)
        for _ in range(3):
            stream, body = wire.request()
            wire.socket.settimeout(0.05)
            with pytest.raises(TimeoutError):
                wire.socket.recv(1)
            wire.socket.settimeout(WAIT_S)
            wire.send(answer(stream, body))
        linger(wire)

    with playing(script) as arm, Driver(arm, connections=1) as driver:
        assert [one.failure for one in driver.run(b"1", b"2", b"3")] == [None] * 3


def test_a_server_with_few_streams_gets_more_connections() -> None:
    """Neither connection answers before both have a request."""
    both = threading.Barrier(2, timeout=WAIT_S)

    def script(wire: Wire) -> None:
        wire.settings(most=1)
        stream, body = wire.request()
        both.wait()
        wire.send(answer(stream, body))
        linger(wire)

    with playing(script, script) as arm, Driver(arm) as driver:
        assert [one.failure for one in driver.run(b"1", b"2")] == [None, None]


def test_padding_priority_continuation_and_messages_cut_anywhere() -> None:
    whole = message(b"first") + message(b"") + message(b"x" * 300)

    def script(wire: Wire) -> None:
        wire.settings()
        stream, _ = wire.request()
        padded = bytes((3,)) + b"\0\0\0\0\x10" + HEAD[:4] + b"\0\0\0"
        wire.send(frame(HEADERS, PADDED | PRIORITY, stream, padded))
        wire.send(frame(CONTINUATION, 0, stream, HEAD[4:6]) + frame(CONTINUATION, END_HEADERS, stream, HEAD[6:]))
        for at in range(0, len(whole), 7):
            wire.send(frame(DATA, PADDED, stream, bytes((2,)) + whole[at : at + 7] + b"\0\0"))
        wire.send(frame(DATA, 0, stream, message(b"a") + message(b"b")))
        wire.send(frame(0x42, 0xFF, stream, b"a frame of a kind that nobody knows"))
        wire.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, OK))
        linger(wire)

    with playing(script) as arm, Driver(arm) as driver:
        [done] = driver.run(b"")
        assert done.failure is None
        assert [body for _, body in done.frames] == [b"first", b"", b"x" * 300, b"a", b"b"]
        assert [at for at, _ in done.frames] == sorted(at for at, _ in done.frames)


def test_a_body_waits_for_the_streams_window_and_goes_on() -> None:
    got: list[int] = []

    def script(wire: Wire) -> None:
        wire.settings(window=10)
        flags, stream, piece = wire.until(DATA)
        got.append(len(piece))
        wire.send(frame(WINDOW, 0, stream, (50).to_bytes(4, "big")))
        flags, stream, more = wire.until(DATA)
        got.append(len(more))
        piece += more
        assert not flags
        wire.settings(window=110)  # 100 more for every stream
        flags, stream, more = wire.until(DATA)
        got.append(len(more))
        piece += more
        assert not flags
        wire.settings(window=0)  # 110 less than none: nothing may come until 111 are given back
        wire.send(frame(WINDOW, 0, stream, (110).to_bytes(4, "big")) + frame(WINDOW, 0, stream, (5).to_bytes(4, "big")))
        flags, stream, more = wire.until(DATA)
        got.append(len(more))
        piece += more
        wire.send(frame(WINDOW, 0, stream, (1000).to_bytes(4, "big")))
        flags, stream, more = wire.until(DATA)
        assert flags & END_STREAM
        wire.send(answer(stream, (piece + more)[5:]))
        linger(wire)

    with playing(script) as arm, Driver(arm) as driver:
        # The stream begins once the settings are known.
        driver.sender.connect(1, driver.loop.stop)
        driver.loop.run()
        [done] = driver.run(b"y" * 300)
        assert done.failure is None
        assert got == [10, 50, 100, 5]
        assert done.frames[0][1][:300] == b"y" * 300


def test_the_connections_window_holds_for_all_streams() -> None:
    sizes: dict[int, int] = {}

    def script(wire: Wire) -> None:
        wire.settings(window=1 << 20)
        ended = 0
        while sum(sizes.values()) < 65535:
            flags, stream, piece = wire.until(DATA)
            sizes[stream] = sizes.get(stream, 0) + len(piece)
            ended += flags & END_STREAM
            assert len(piece) <= 16384
        wire.socket.settimeout(0.05)
        with pytest.raises(TimeoutError):
            wire.socket.recv(1)
        wire.socket.settimeout(WAIT_S)
        wire.send(frame(WINDOW, 0, 0, (1 << 20).to_bytes(4, "big")))
        while ended < 2:
            flags, stream, piece = wire.until(DATA)
            sizes[stream] += len(piece)
            ended += flags & END_STREAM
        wire.send(answer(1, b"1") + answer(3, b"2"))
        linger(wire)

    with playing(script) as arm, Driver(arm) as driver:
        first, second = driver.run(b"z" * 50_000, b"z" * 50_000)
        assert (first.failure, second.failure) == (None, None)
        assert sizes == {1: 50_024, 3: 50_024}


def test_an_answer_before_all_is_sent_ends_the_sending() -> None:
    def script(wire: Wire) -> None:
        wire.settings(window=10)
        _, stream, _ = wire.until(DATA)
        wire.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, block((":status", "200"), ("grpc-status", "3"))))
        _, number, code = wire.until(RST)
        assert (number, code) == (stream, b"\0\0\0\0")
        wire.settings(window=100)
        stream, body = wire.request()
        wire.send(answer(stream, body))
        linger(wire)

    with playing(script) as arm, Driver(arm) as driver:
        [done] = driver.run(b"y" * 300)
        assert done.failure
        assert done.failure.code == "INVALID_ARGUMENT"
        assert driver.run(b"y")[0].failure is None


def test_what_was_received_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(h2, "_REPLENISH", 1 << 17)

    def script(wire: Wire) -> None:
        wire.settings()
        stream, _ = wire.request()
        wire.send(frame(HEADERS, END_HEADERS, stream, HEAD))
        back = {0: 0, stream: 0}
        body = message(b"w" * (16384 * 16 - 5))
        for at in range(0, len(body), 16384):
            wire.send(frame(DATA, 0, stream, body[at : at + 16384]))
        while min(back.values()) < 1 << 17:
            _, number, payload = wire.until(WINDOW)
            back[number] += int.from_bytes(payload, "big")
            assert back[number] <= len(body)
        wire.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, OK))
        linger(wire)

    with playing(script) as arm, Driver(arm) as driver:
        [done] = driver.run(b"")
        assert done.failure is None
        assert len(done.frames[0][1]) == 16384 * 16 - 5


def test_goaway_refuses_what_came_later_and_lets_the_rest_end() -> None:
    def first(wire: Wire) -> None:
        wire.settings()
        streams = [wire.request()[0] for _ in range(3)]
        wire.send(frame(GOAWAY, 0, 0, b"\x7f\xff\xff\xff\0\0\0\0"))
        wire.send(frame(GOAWAY, 0, 0, streams[0].to_bytes(4, "big") + b"\0\0\0\x0bslow down"))
        wire.send(answer(streams[0], b"one"))
        linger(wire)

    def second(wire: Wire) -> None:
        wire.settings()
        stream, body = wire.request()
        wire.send(answer(stream, body))
        linger(wire)

    with playing(first, second) as arm, Driver(arm) as driver:
        one, two, three = driver.run(b"1", b"2", b"3")
        assert one.failure is None
        for refused in (two, three):
            assert refused.failure
            assert (refused.failure.status, refused.failure.code) == ("refused", "UNAVAILABLE")
            assert "ENHANCE_YOUR_CALM slow down" in refused.failure.message
        assert driver.run(b"4")[0].failure is None
        assert not driver.sender._leaving


@pytest.mark.parametrize(
    ("code", "status", "name"),
    [
        (7, "refused", "UNAVAILABLE"),
        (8, "error", "CANCELLED"),
        (11, "error", "RESOURCE_EXHAUSTED"),
        (2, "error", "INTERNAL"),
        (99, "error", "INTERNAL"),
    ],
)
def test_a_reset_stream_fails_and_the_others_go_on(code: int, status: str, name: str) -> None:
    def script(wire: Wire) -> None:
        wire.settings()
        one, two = wire.request()[0], wire.request()[0]
        wire.send(frame(RST, 0, one, code.to_bytes(4, "big")) + answer(two, b"fine"))
        linger(wire)

    with playing(script) as arm, Driver(arm) as driver:
        one, two = driver.run(b"1", b"2")
        assert one.failure
        assert (one.failure.status, one.failure.code) == (status, name)
        assert two.failure is None


def test_the_last_stream_number_is_followed_by_a_new_connection() -> None:
    streams: dict[bytes, int] = {}

    def script(wire: Wire) -> None:
        wire.settings()
        stream, body = wire.request()
        streams[body[:1]] = stream
        wire.send(answer(stream, body))
        linger(wire)

    with playing(script, script) as arm, Driver(arm) as driver:
        driver.sender.connect(1, driver.loop.stop)
        driver.loop.run()
        driver.sender._open[0]._next = MAX_STREAM
        assert [one.failure for one in driver.run(b"1", b"2")] == [None, None]
        assert streams == {b"1": MAX_STREAM, b"2": 1}


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        frame(HEADERS, 0, 1, HEAD) + frame(DATA, 0, 1, b"within a header block"),
        frame(DATA, PADDED, 1, b"\x09abc"),
        frame(HEADERS, END_HEADERS, 1, b"\xff" * 20),
        frame(5, END_HEADERS, 1, b"\0\0\0\x02" + HEAD),
        frame(SETTINGS, 0, 0, b"\0\x04\xff\xff\xff\xff"),
        frame(CONTINUATION, END_HEADERS, 1, HEAD),
    ],
    ids=["HTTP/1", "cut block", "padding", "block", "push", "window", "continuation"],
)
def test_a_server_that_breaks_the_protocol_ends_the_connection(said: bytes) -> None:
    def script(wire: Wire) -> None:
        if not said.startswith(b"HTTP"):
            wire.settings()
            wire.request()
        wire.send(said)
        linger(wire)

    with playing(script) as arm, Driver(arm) as driver:
        [done] = driver.run(b"1")
        assert done.failure
        assert (done.failure.status, done.failure.error) == ("error", "connection broken")
        assert "not HTTP/2 as it should be" in done.failure.message
