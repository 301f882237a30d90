"""A loop, a scripted server, and a way to wait in the loop for what should happen."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.load.engine.exchange import Exchange
from harness.load.engine.loop import Loop


class Script:
    """Accepts connections on 127.0.0.1; `serve(connection, number)` handles each in a thread of its own."""

    def __init__(self, serve: Callable[[socket.socket, int], None], tls: ssl.SSLContext | None = None) -> None:
        self._serve, self._tls = serve, tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._handle, args=(connection, self.connections), daemon=True).start()

    def _handle(self, connection: socket.socket, number: int) -> None:
        try:
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            self._serve(connection, number)
        except OSError:
            return
        finally:
            connection.close()

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def script() -> Iterator[Callable[..., Script]]:
    made: list[Script] = []

    def make(serve: Callable[[socket.socket, int], None], tls: ssl.SSLContext | None = None) -> Script:
        made.append(Script(serve, tls))
        return made[-1]

    yield make
    for one in made:
        one.close()


opened: list[Any] = []
"""Senders that a test has made: closed before its loop is."""


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop(time.monotonic_ns())
    yield loop
    while opened:
        opened.pop().close()
    loop.close()


def run_until(loop: Loop, condition: Callable[[], bool], deadline_s: float = 60.0) -> None:
    """Runs the loop until `condition` holds; the deadline is there for failures only."""
    end = time.monotonic() + deadline_s

    def look() -> None:
        if condition() or time.monotonic() > end:
            loop.stop()
        else:
            loop.after(0.002, look)

    look_again = loop.after(0.0, look)
    loop.run()
    look_again.cancel()
    assert condition(), "it did not happen"


class Answers:
    """Exchanges in the order in which they were done."""

    def __init__(self) -> None:
        self.done: list[Exchange] = []

    def exchange(self, owner: object = None) -> Exchange:
        return Exchange(self.done.append, owner)
