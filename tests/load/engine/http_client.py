"""An HttpSender with a loop, and what a scripted server says to it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace

from harness.load.engine.http import HttpSender
from harness.load.engine.loop import Loop
from harness.load.template import Template, request_id
from harness.types import Arm
from tests.load.conftest import TINY
from tests.load.engine.conftest import Answers, Script, opened, run_until

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


class Client:
    def __init__(self, loop: Loop, port: int, *, scheme: str = "http", **changes: object) -> None:
        connections = changes.pop("connections", None)
        arm = replace(Arm(f"{scheme}://127.0.0.1:{port}", "tiny", 1), **changes)  # type: ignore[arg-type]
        self.loop = loop
        self.sender = HttpSender(loop, arm, TINY, connections)  # type: ignore[arg-type]
        self.answers = Answers()
        self.sent = 0
        opened.append(self.sender)

    def send(self, number: int = 1) -> None:
        for _ in range(number):
            self.sent += 1
            exchange = self.answers.exchange(self.sent)
            self.sender.send(ASKED, request_id(self.sent, "baseline").encode(), b"", exchange)

    def wait(self) -> None:
        run_until(self.loop, lambda: len(self.answers.done) == self.sent)

    def statuses(self) -> list[str]:
        return [e.failure.status if e.failure else str(e.status) for e in self.answers.done]
