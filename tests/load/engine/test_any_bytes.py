"""Whatever a server says, an answer ends as an answer or as a failure: what a callback raises would end the run."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from harness.load.engine import h2, http1
from harness.load.engine.address import Address
from harness.load.engine.exchange import Exchange
from harness.load.engine.grpc_call import Call
from harness.load.outcome import Failure
from harness.load.reply import Reader
from harness.types import Wire
from tests.load.conftest import SMOLLM2, TINY
from tests.load.engine.fake_loop import FakeLoop
from tests.load.engine.http_client import CHUNKED, PLAIN
from tests.load.engine.peer import GOAWAY, PING, RST, SETTINGS, WINDOW, answer, block, frame
from tests.load.test_reply import BINARY, MESSAGE, final, piece

ADDRESS = Address(0, (), "h", "h:1", None)
HTTP = [
    PLAIN,
    CHUNKED,
    b"HTTP/1.1 200 OK\r\nInference-Header-Content-Length: %d\r\n\r\n" % BINARY.json_size + BINARY.frames[0][1],
    b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + b"HTTP/1.1 500 Oh\r\nContent-Length: 16\r\n\r\n" + b'{"error":"no"}\r\n',
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n13\r\ndata: {"error":1}\n\n\r\n0\r\n\r\n',
]
HTTP2 = [
    answer(1, MESSAGE),
    answer(1, piece(b"a", 5), piece(b"b", 6, "stop"), final()),
    frame(4, 0, 0, b"\0\3\0\0\0\7\0\4\0\1\0\0") + frame(PING, 0, 0, b"12345678") + answer(1, b""),
    frame(WINDOW, 0, 0, b"\0\0\1\0") + frame(RST, 0, 1, b"\0\0\0\7") + frame(GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\0words"),
    frame(1, 5, 1, block((":status", "200"), ("grpc-status", "13"), ("grpc-message", "%E2%82%AC %"))),
]


class Quiet:
    """A transport that says nothing; and whoever owns a connection."""

    behind = closed = False

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


@pytest.fixture(autouse=True)
def unconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (h2, http1):
        monkeypatch.setattr(module, "Transport", lambda *_: Quiet())


def spoilt(rng: random.Random, said: bytes) -> list[bytes]:
    """In pieces, with bytes changed, left out, doubled or put in."""
    data = bytearray(said)
    for _ in range(rng.randrange(5)):
        at, size = rng.randrange(len(data)), rng.randrange(1, 9)
        match rng.randrange(4):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                del data[at : at + size]
            case 2:
                data[at:at] = data[at : at + size]
            case _:
                data[at:at] = rng.choice((rng.randbytes(size), b"\r\n", b"\xff" * size, b"-1", b"9" * 5000))
        data = data or bytearray(b"\0")
    cuts = sorted(rng.randrange(len(data)) for _ in range(rng.randrange(4)))
    return [bytes(data[a:b]) for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@pytest.mark.parametrize("said", HTTP, ids=range(len(HTTP)))
@pytest.mark.parametrize("wire", ["http", "generate", "generate-stream", "openai-stream"])
def test_http(said: bytes, wire: Wire) -> None:
    loop: Any = FakeLoop()
    for seed in range(1000):
        told: list[Exchange] = []
        connection = http1.Connection(loop, ADDRESS, Pool(), streams=wire.endswith("-stream"))
        connection.begin(b"", Exchange(told.append))
        for data in spoilt(random.Random(seed), said):
            if connection.exchange:
                connection.received(data, 1)
        if connection.exchange:
            connection.lost(None)
        [exchange] = told
        read(exchange, wire)


@pytest.mark.parametrize("said", HTTP2, ids=range(len(HTTP2)))
@pytest.mark.parametrize("wire", ["grpc", "grpc-stream"])
def test_http2(said: bytes, wire: Wire) -> None:
    loop: Any = FakeLoop()
    for seed in range(2000):
        told: list[Exchange] = []
        connection: h2.Connection[Call] = h2.Connection(loop, ADDRESS, Quiet())
        connection.received(frame(SETTINGS, 0, 0), 0)
        connection.request(Call(Exchange(told.append)), b"", b"")
        for data in spoilt(random.Random(seed), said):
            if not connection._is_over:
                connection.received(data, 1)
        if not connection._is_over:
            connection.lost(None)
        [exchange] = told
        read(exchange, wire)


class Pool(Quiet):
    def answered(self, connection: object, exchange: Exchange, keep: bool) -> None:
        exchange.on_done(exchange)

    def ended(self, _: object, exchange: Exchange | None, failure: Any) -> None:
        assert exchange
        exchange.failure = failure if isinstance(failure, Failure) else Failure("error", "broken", "")
        exchange.on_done(exchange)


def read(exchange: Exchange, wire: Wire) -> None:
    for model in (TINY, SMOLLM2):
        for wanted in (True, False):
            reply = Reader(model, wire, digests=wanted, tokens=wanted).read(exchange)
            f"{reply.version}{reply.finish_reason}{reply.text}".encode()
            assert max(reply.k, reply.isl, reply.osl, *reply.token_ids, *reply.topk_ids) < 2**31
