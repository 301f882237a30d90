"""GrpcSender against gRPC's own server, and against servers that answer what no good one would."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from harness.errors import UsageError
from harness.load import outcome
from harness.load.engine import grpc as sender_module
from harness.load.engine.grpc_call import STATUS
from harness.types import Arm, Tls
from tests.load.engine.peer import (
    ANY,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEAD,
    HEADERS,
    OK,
    RST,
    STREAMED,
    Driver,
    Wire,
    answer,
    block,
    frame,
    linger,
    message,
    playing,
)
from tests.ports import closed_port

Handler = Callable[[bytes, Any], Any]


class _Service(grpc.GenericRpcHandler):
    """`unary` answers ModelInfer, `stream` ModelStreamInfer; messages stay bytes."""

    def __init__(self, unary: Handler | None, stream: Handler | None) -> None:
        self._unary, self._stream = unary, stream

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if details.method == "/inference.GRPCInferenceService/ModelInfer":
            return grpc.unary_unary_rpc_method_handler(self._unary)
        assert details.method == "/inference.GRPCInferenceService/ModelStreamInfer"
        return grpc.stream_stream_rpc_method_handler(self._each)

    def _each(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        assert self._stream
        for request in requests:
            yield from self._stream(request, context)


@contextmanager
def serving(
    unary: Handler | None = None,
    stream: Handler | None = None,
    *,
    port: int = 0,
    credentials: Any = None,
    **options: Any,
) -> Iterator[Arm]:
    settings = (
        ("grpc.so_reuseport", int(port > 0)),  # a port that is given may be kept for it
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
    )
    server = grpc.server(ThreadPoolExecutor(16), [_Service(unary, stream)], options=settings, **options)
    if credentials:
        port = server.add_secure_port(f"127.0.0.1:{port}", credentials)
    else:
        port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield Arm(f"grpc{'s' if credentials else ''}://127.0.0.1:{port}", "any")
    finally:
        server.stop(0).wait()


def echo(request: bytes, context: Any) -> bytes:
    return request


def test_every_status_and_its_words() -> None:
    codes = {code.name: code for code in grpc.StatusCode}

    def abort(request: bytes, context: Any) -> bytes:
        context.abort(codes[request[:-19].decode()], f"{request[:-19].decode()}: 100 % größer\n")

    with serving(abort) as arm, Driver(arm) as driver:
        for name in STATUS[1:]:
            [done] = driver.run(name.encode())
            assert done.failure
            assert (done.failure.code, done.failure.message) == (name, f"{name}: 100 % größer\n")
            if name != "CANCELLED":
                assert done.failure == outcome.of_grpc(name, done.failure.message)
            assert done.sent_ns < done.done_ns
    # What the server cancels is a failure of the server, and no request that we cancelled.
    assert driver.done[0].failure
    assert driver.done[0].failure.status == "error"


def test_metadata_travels_in_lower_case() -> None:
    seen: list[dict[str, Any]] = []

    def note(request: bytes, context: Any) -> bytes:
        seen.append(dict(context.invocation_metadata()))
        return request

    with serving(note) as arm:
        arm = replace(arm, headers={"X-Canary": "v 2", "User-Agent": "mine"})
        with Driver(arm) as driver:
            assert [one.failure for one in driver.run(b"1", b"2")] == [None, None]
    assert [(one["x-canary"], one["user-agent"]) for one in seen] == [("v 2", "mine")] * 2


@pytest.mark.parametrize(
    "headers",
    [{"grpc-timeout": "1S"}, {":path": "/x"}, {"TE": "gzip"}, {"x": "a\r\nb"}, {"x": "ü"}, {"x": "y" * 20_000}],
)
def test_headers_that_cannot_travel(headers: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="header"):
        Driver(Arm("grpc://127.0.0.1:1", "any", headers=headers))


def test_large_messages_both_ways_on_one_connection() -> None:
    body = bytes(range(256)) * (8 << 12)
    with serving(echo) as arm, Driver(arm) as driver:
        for done in driver.run(body, b"small", body, body):
            assert done.failure is None
            assert len(done.frames) == 1
        assert [len(one.frames[0][1]) for one in driver.done].count(len(body) + 19) == 3
        assert all(one.frames[0][1][:-19] in (body, b"small") for one in driver.done)


def test_every_message_of_a_stream_is_stamped_as_it_arrives() -> None:
    go_on, last_seen = threading.Event(), threading.Event()

    def stream(request: bytes, context: Any) -> Iterator[bytes]:
        yield b"1"
        go_on.wait(20)
        for number in range(2, 6):
            yield str(number).encode() * number
        # The trailer comes later, and is not the end of the answer.
        last_seen.wait(20)

    with serving(stream=stream) as arm, Driver(arm, STREAMED) as driver:
        exchange = driver.send()
        driver.until(lambda: exchange.frames)
        seen_ns = driver.loop.now_ns()
        go_on.set()
        driver.until(lambda: len(exchange.frames) == 5)
        assert not driver.done
        last_ns = driver.loop.now_ns()
        last_seen.set()
        driver.until(lambda: driver.done)
        assert exchange.failure is None
        assert [body for _, body in exchange.frames] == [b"1", b"22", b"333", b"4444", b"55555"]
        assert exchange.frames[0][0] <= seen_ns < exchange.frames[1][0]
        assert exchange.done_ns == exchange.frames[-1][0] <= last_ns


def test_a_stream_that_fails_keeps_what_came_before() -> None:
    def stream(request: bytes, context: Any) -> Iterator[bytes]:
        yield b"1"
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "CUDA out of memory")

    with serving(stream=stream) as arm, Driver(arm, STREAMED) as driver:
        [done] = driver.run(b"")
        assert done.failure
        assert done.failure.status == "oom"
        assert [body for _, body in done.frames] == [b"1"]


def test_a_server_that_compresses_unasked_cannot_be_read() -> None:
    with serving(echo, compression=grpc.Compression.Gzip) as arm, Driver(arm) as driver:
        [done] = driver.run(b"a" * 10_000)
        assert done.failure
        assert (done.failure.status, done.failure.error) == ("error", "undecodable")
        assert "compressed" in done.failure.message


def test_requests_are_spread_over_the_connections() -> None:
    peers: set[str] = set()
    all_there = threading.Barrier(6, timeout=20)

    def note(request: bytes, context: Any) -> bytes:
        peers.add(context.peer())
        all_there.wait()
        return request

    with serving(note) as arm, Driver(arm, connections=3) as driver:
        driver.sender.connect(8, driver.loop.stop)
        driver.loop.run()
        assert [one.failure for one in driver.run(*[b"x"] * 6)] == [None] * 6
    assert len(peers) == 3


def test_a_deadline_ends_the_request_at_once_and_its_stream_later() -> None:
    held, answered = threading.Event(), threading.Event()

    def slow(request: bytes, context: Any) -> bytes:
        if request.startswith(b"slow"):
            held.wait(20)
            answered.set()
        return request

    with serving(slow) as arm, Driver(arm) as driver:
        first, second = driver.send(b"slow"), driver.send(b"slow")
        driver.until(lambda: len(driver.sender._open) == 1)
        driver.sender.expire(second.sent_ns)
        assert first.failure == outcome.TIMEOUT
        assert driver.done == [first]
        assert driver.sender.lingering == 1
        # Others go on, on the same connection, and the late answer is nobody's.
        assert driver.run(b"quick")[0].failure is None
        held.set()
        driver.until(lambda: not driver.sender.lingering and second in driver.done)
        assert answered.is_set()
        assert second.failure is None
        assert first.frames == []


def test_a_stream_that_stays_silent_is_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "SILENT_S", 0.2)
    begun, cancelled = threading.Event(), threading.Event()

    def stream(request: bytes, context: Any) -> Iterator[bytes]:
        if request.startswith(b"talk"):
            for _ in range(50):
                time.sleep(0.01)
                yield b"word"
        else:
            context.add_callback(cancelled.set)
            begun.set()
            cancelled.wait(20)

    with serving(stream=stream) as arm, Driver(arm, STREAMED) as driver:
        silent = driver.send(b"hush")
        # The silence counts from the sending: a server that has not begun by then would never hear of the request.
        driver.until(begun.is_set)
        driver.sender.cancel()
        assert silent.failure == outcome.CANCELLED
        driver.until(cancelled.is_set)
        assert driver.sender.lingering == 0
        talking = driver.send(b"talk")
        driver.until(lambda: talking.frames)
        driver.sender.cancel()
        heard = len(talking.frames)
        time.sleep(0.1)
        driver.until(lambda: not driver.sender.lingering)
        assert len(talking.frames) == heard
        assert talking.done_ns >= talking.frames[-1][0]


def test_requests_that_wait_for_the_server_expire_and_are_cancelled() -> None:
    def script(wire: Wire) -> None:
        wire.settings(most=1)
        linger(wire)

    with playing(script) as arm, Driver(arm, connections=1) as driver:
        driver.sender.connect(1, driver.loop.stop)
        driver.loop.run()
        one, two, three = driver.send(), driver.send(), driver.send()
        driver.sender.expire(three.sent_ns)
        assert [x.failure for x in (one, two, three)] == [outcome.TIMEOUT, outcome.TIMEOUT, None]
        driver.sender.cancel()
        assert three.failure == outcome.CANCELLED
        driver.sender.cancel()


def test_without_a_server_requests_are_refused_and_with_it_answered() -> None:
    with closed_port() as port, Driver(Arm(f"grpc://127.0.0.1:{port}", "any")) as driver:
        driver.sender.connect(1, driver.loop.stop)
        driver.loop.run()
        for done in (*driver.run(b"1", b"2"), *driver.run(b"3")):
            assert done.failure
            assert (done.failure.status, done.failure.code) == ("refused", "ECONNREFUSED")
            assert done.failure.error == "connection refused", "nobody was ever there"
            assert 0 <= done.sent_ns <= done.done_ns
        with serving(echo, port=port):
            deadline = time.monotonic() + 20
            while driver.run(b"4")[0].failure and time.monotonic() < deadline:
                pass
            assert driver.done[-1].failure is None
        driver.until(lambda: not driver.sender._open)
        for done in driver.run(b"5", b"6"):
            assert done.failure
            assert (done.failure.status, done.failure.error) == ("refused", "server died")
        with serving(echo, port=port):
            while driver.run(b"7")[0].failure and time.monotonic() < deadline + 20:
                pass
            assert driver.done[-1].failure is None


def test_a_connection_that_breaks_fails_what_is_in_flight() -> None:
    def first(wire: Wire) -> None:
        wire.settings()
        wire.request()
        stream, _ = wire.request()
        wire.send(frame(HEADERS, END_HEADERS, stream, HEAD) + frame(DATA, 0, stream, message(b"half")[:-1]))

    def second(wire: Wire) -> None:
        wire.settings()
        stream, body = wire.request()
        wire.send(answer(stream, body))
        linger(wire)

    with playing(first, second) as arm, Driver(arm) as driver:
        for done in driver.run(b"1", b"2"):
            assert done.failure
            assert (done.failure.status, done.failure.error) == ("error", "connection broken")
        assert driver.run(b"3")[0].failure is None


@pytest.mark.parametrize(
    ("reply", "status", "code", "words"),
    [
        (((HEADERS, 5, block((":status", "503"))),), "refused", "UNAVAILABLE", "HTTP status 503"),
        (((HEADERS, 4, block((":status", "404"))), (DATA, 1, b"<html>")), "error", "UNIMPLEMENTED", "404"),
        (((HEADERS, 4, HEAD), (DATA, 1, message(b"x"))), "error", "INTERNAL", "without a status"),
        (((HEADERS, 4, HEAD), (DATA, 0, message(b"xyz")[:-1]), (HEADERS, 5, OK)), "error", "GRPC", "within a message"),
        (((HEADERS, 4, HEAD), (DATA, 0, message(b"x", 1)), (HEADERS, 5, OK)), "error", "GRPC", "compressed"),
        (((HEADERS, 4, HEAD), (HEADERS, 5, block(("grpc-status", "77")))), "error", "UNKNOWN", ""),
        (((HEADERS, 4, HEAD), (HEADERS, 5, block(("grpc-status", "x")))), "error", "UNKNOWN", ""),
        (((HEADERS, 4, HEAD), (HEADERS, 5, block(("grpc-status", "7" * 5000)))), "error", "UNKNOWN", ""),
    ],
)
def test_answers_that_are_none(reply: tuple[tuple[int, int, bytes], ...], status: str, code: str, words: str) -> None:
    def script(wire: Wire) -> None:
        wire.settings()
        stream, _ = wire.request()
        assert all(flags in (0, END_STREAM, END_HEADERS, END_STREAM | END_HEADERS) for _, flags, _ in reply)
        wire.send(b"".join(frame(kind, flags, stream, payload) for kind, flags, payload in reply))
        linger(wire)

    with playing(script) as arm, Driver(arm) as driver:
        [done] = driver.run(b"1")
        assert done.failure
        assert (done.failure.status, done.failure.code) == (status, code)
        assert words in done.failure.message


def test_a_closed_sender_says_goodbye_and_resets_nothing() -> None:
    kinds: list[int] = []

    def script(wire: Wire) -> None:
        wire.settings()
        wire.request()
        try:
            while True:
                kinds.append(wire.next()[0])
        except (EOFError, ConnectionError):
            return

    with playing(script) as arm:
        with Driver(arm) as driver:
            driver.send(b"1")
            driver.until(lambda: driver.sender._open)
            driver.sender.cancel()
        assert driver.done[0].failure == outcome.CANCELLED
    assert RST not in kinds
    assert kinds[-1] == 7  # GOAWAY


def test_tls_with_certificates_of_both_sides(tmp_path: Path) -> None:
    authority = trustme.CA()
    ours, theirs = authority.issue_cert("client.test"), authority.issue_cert("triton.test")
    ca, cert, key = tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem"
    authority.cert_pem.write_to_path(ca)
    ours.private_key_pem.write_to_path(key)
    for part in ours.cert_chain_pems:
        part.write_to_path(cert, append=True)
    chain = b"".join(part.bytes() for part in theirs.cert_chain_pems)
    credentials = grpc.ssl_server_credentials(
        [(theirs.private_key_pem.bytes(), chain)], authority.cert_pem.bytes(), require_client_auth=True
    )
    body = bytes(3 << 20)
    with serving(echo, credentials=credentials) as arm:
        good = Tls(str(ca), str(cert), str(key), server_name="triton.test")
        with Driver(replace(arm, tls=good)) as driver:
            for done in driver.run(b"1", body, b"2"):
                assert done.failure is None
        for bad in (replace(good, server_name=None), replace(good, ca=None), replace(good, cert=None, key=None)):
            with Driver(replace(arm, tls=bad)) as driver:
                [done] = driver.run(b"1")
                assert done.failure
                assert done.failure.status in ("refused", "error")


def test_closing_within_an_answer_does_no_harm() -> None:
    with serving(echo) as arm, Driver(arm, ANY) as driver:
        driver.run(b"1")
        template = driver.send(b"2")
        template.on_done = lambda _: (driver.sender.close(), driver.loop.stop())
        driver.loop.run()
        assert template.failure is None
