"""The other side of the wire, played frame by frame from a script; and a loop that runs until something holds."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import hpack

from harness.load.engine.exchange import Exchange
from harness.load.engine.grpc import GrpcSender
from harness.load.engine.loop import Loop
from harness.load.template import REQUEST_ID, Template, request_id
from harness.types import Arm, ModelInfo, TensorSpec

DATA, HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 1, 1, 4, 8, 32
WAIT_S = 20.0

ANY = ModelInfo("any", "python", (1,), (TensorSpec("IN", "BYTES", (1,)),), (), 0, decoupled=False)
STREAMED = ModelInfo("any", "python", (1,), (TensorSpec("IN", "BYTES", (1,)),), (), 0, decoupled=True)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def message(body: bytes, flag: int = 0) -> bytes:
    """One gRPC message with its prefix."""
    return bytes((flag,)) + struct.pack(">I", len(body)) + body


def block(*fields: tuple[str, str]) -> bytes:
    """A header block as any server would write it, with Huffman codes and a dynamic table of no size."""
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    return bytes(encoder.encode(fields))


HEAD = block((":status", "200"), ("content-type", "application/grpc"))
OK = block(("grpc-status", "0"), ("grpc-message", ""))


def answer(stream: int, *bodies: bytes) -> bytes:
    """A whole answer that went well."""
    data = b"".join(frame(DATA, 0, stream, message(body)) for body in bodies)
    return frame(HEADERS, END_HEADERS, stream, HEAD) + data + frame(HEADERS, END_HEADERS | END_STREAM, stream, OK)


class Wire:
    """One accepted connection, after the client's preface."""

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        accepted.settimeout(WAIT_S)
        self.preface = self._read(24)

    def settings(self, **values: int) -> None:
        names = {"table": 1, "most": 3, "window": 4, "frame": 5}
        self.send(frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", names[k], v) for k, v in values.items())))

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def next(self) -> tuple[int, int, int, bytes]:
        """(kind, flags, stream, payload) of the next frame; EOFError where the client has closed."""
        head = self._read(9)
        if len(head) < 9:
            raise EOFError
        return head[3], head[4], int.from_bytes(head[5:9], "big"), self._read(int.from_bytes(head[:3], "big"))

    def _read(self, count: int) -> bytes:
        """So many bytes, fewer at the end. What is behind them stays in the socket, where scripts look for it."""
        data = b""
        while len(data) < count and (more := self.socket.recv(count - len(data))):
            data += more
        return data

    def until(self, kind: int, *, ack: bool = False) -> tuple[int, int, bytes]:
        """(flags, stream, payload) of the next frame of this kind; others are passed over."""
        while True:
            found, flags, stream, payload = self.next()
            if found == kind and not (kind in (SETTINGS, PING) and bool(flags & ACK) != ack):
                return flags, stream, payload

    def request(self) -> tuple[int, bytes]:
        """(stream, message) of the next request, all of it."""
        _, stream, _ = self.until(HEADERS)
        body, flags = b"", 0
        while not flags & END_STREAM:
            flags, number, payload = self.until(DATA)
            assert number == stream
            body += payload
        return stream, body[5:]


@contextmanager
def playing(*scripts: Callable[[Wire], Any]) -> Iterator[Arm]:
    """A server whose connections are played by `scripts`, one each; what a script raises is raised at the end."""
    raised: list[BaseException] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(WAIT_S)

        def play(script: Callable[[Wire], Any], accepted: socket.socket) -> None:
            try:
                with accepted:
                    script(Wire(accepted))
            except Exception as error:  # noqa: BLE001
                raised.append(error)

        def accept() -> None:
            for script in scripts:
                try:
                    accepted, _ = listener.accept()
                except TimeoutError as error:
                    raised.append(error)
                    return
                players.append(threading.Thread(target=play, args=(script, accepted), daemon=True))
                players[-1].start()

        players = [threading.Thread(target=accept, daemon=True)]
        players[0].start()
        yield Arm(f"grpc://127.0.0.1:{listener.getsockname()[1]}", "any")
        for thread in players:
            thread.join(WAIT_S * 2)
            assert not thread.is_alive(), "a script did not come to its end"
    if raised:
        raise raised[0]


def linger(wire: Wire) -> None:
    """Stays until the client closes."""
    try:
        while True:
            wire.next()
    except (EOFError, ConnectionError):
        return


class Driver:
    """A sender and its loop, run from a test until something holds."""

    def __init__(self, arm: Arm, model: ModelInfo = ANY, connections: int | None = None) -> None:
        self.loop = Loop(time.monotonic_ns())
        self.sender = GrpcSender(self.loop, arm, model, connections)
        self.done: list[Exchange] = []
        self._sent = 0

    def send(self, body: Template | bytes = b"") -> Exchange:
        """Sends; `body` is followed by the request's id."""
        template = body if isinstance(body, Template) else Template.of(body + REQUEST_ID.encode())
        exchange = Exchange(self.done.append)
        self._sent += 1
        self.sender.send(template, request_id(self._sent, "baseline").encode(), b"", exchange)
        return exchange

    def until(self, holds: Callable[[], Any]) -> None:
        deadline = time.monotonic() + WAIT_S

        def look() -> None:
            if holds() or time.monotonic() > deadline:
                self.loop.stop()
            else:
                self.loop.after(0.002, look)

        look_first = self.loop.after(0, look)
        self.loop.run()
        look_first.cancel()
        assert holds(), "waited in vain"

    def run(self, *bodies: Template | bytes) -> list[Exchange]:
        """Sends all of them and waits until each is done."""
        sent = [self.send(body) for body in bodies]
        self.until(lambda: all(one in self.done for one in sent))
        return sent

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        self.sender.close()
        self.loop.close()
        assert len(self.done) == len(set(map(id, self.done))), "an exchange was told twice"
