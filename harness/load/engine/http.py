"""Triton's HTTP from prepared bytes over keep-alive connections, for the Locust process (gevent sockets)."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from typing import Any

import gevent
from geventhttpclient.response import HTTPParseError, HTTPResponse

from harness.load import outcome
from harness.load.outcome import Failure
from harness.load.payload import HttpBody, encode_http, http_message
from harness.load.reply import Exchange
from harness.load.spec import host_of
from harness.tensors import Tensor
from harness.types import Arm, ModelInfo

BLOCK = 65536


class HttpSender:
    """One arm over HTTP/1.1: a connection for each request in flight, kept and reused."""

    def __init__(self, arm: Arm, model: ModelInfo, now_ns: Callable[[], int]) -> None:
        self._arm = arm
        self._model = model
        self._now_ns = now_ns
        host, _, port = host_of(arm.url).rpartition(":")
        self._address = (host.strip("[]"), int(port)) if host else (port, 80)
        self._idle: list[Any] = []
        self._live: set[Any] = set()
        self._cancelled = False

    def prepare(self, tensors: Sequence[Tensor]) -> HttpBody:
        return encode_http(self._model, self._arm, tensors)

    def connect(self, timeout_s: float) -> None:
        try:
            self._idle.append(self._open(timeout_s))
        except OSError:
            return

    def send(self, payload: HttpBody, request_id: str, timeout_s: float) -> Exchange:
        message = http_message(self._arm, payload, request_id)
        sent_ns = self._now_ns()
        connection: Any = None
        deadline = gevent.Timeout.start_new(timeout_s)
        try:
            connection = self._take() or self._open(timeout_s)
            self._live.add(connection)
            connection.sendall(message)
            response = _receive(connection)
            done_ns = self._now_ns()
            if response.should_keep_alive():
                self._live.discard(connection)
                self._idle.append(connection)
                connection = None
            return _exchange(sent_ns, done_ns, response)
        except gevent.Timeout as error:
            if error is not deadline:
                raise
            return Exchange(sent_ns, self._now_ns(), [], outcome.TIMEOUT)
        except OSError as error:
            failure = outcome.CANCELLED if self._cancelled else outcome.of_os_error(error)
            return Exchange(sent_ns, self._now_ns(), [], failure)
        except HTTPParseError as error:
            return Exchange(sent_ns, self._now_ns(), [], Failure("error", "undecodable", "HTTP", str(error)))
        finally:
            deadline.close()
            if connection is not None:
                self._live.discard(connection)
                connection.close()

    def _take(self) -> Any:
        """An idle connection that the server has not closed meanwhile; None if there is none."""
        while self._idle:
            connection = self._idle.pop()
            try:
                connection._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except BlockingIOError:
                return connection
            except OSError as error:
                if error.errno not in (errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT):
                    raise
            # Closed, or bytes that nobody asked for: neither is usable.
            connection.close()
        return None

    def _open(self, timeout_s: float) -> Any:
        connection = socket.create_connection(self._address, timeout=timeout_s)
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def cancel(self) -> None:
        # A closed connection wakes whoever waits for it.
        self._cancelled = True
        for connection in tuple(self._live):
            connection.close()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()


def _receive(connection: Any) -> HTTPResponse:
    response = HTTPResponse("POST")
    while not response.message_complete:
        data = connection.recv(BLOCK)
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "closed before the answer was complete")
        response.feed(data)
    return response


def _exchange(sent_ns: int, done_ns: int, response: HTTPResponse) -> Exchange:
    body = bytes(response._body_buffer)
    if response.status_code != 200:
        message = body[:2000].decode(errors="replace")
        return Exchange(sent_ns, done_ns, [], outcome.of_http(response.status_code, message))
    size = response.get("inference-header-content-length")
    return Exchange(sent_ns, done_ns, [(done_ns, body)], json_size=int(str(size)) if size else -1)
