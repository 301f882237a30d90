"""One HTTP/1.1 connection: a request at a time, its answer scanned and not taken apart.

Triton says the same head to every request of a kind: what a head means is looked up by its bytes and parsed once.
"""

from __future__ import annotations

import errno
from typing import NamedTuple, Protocol

from harness.load.engine.address import Address
from harness.load.engine.exchange import Exchange
from harness.load.engine.loop import Loop
from harness.load.engine.transport import Transport
from harness.load.outcome import Failure

_MOST_HEADS = 1024
_LONGEST_HEAD = 1 << 16


class Head(NamedTuple):
    """`length` -1: chunked, or until the connection ends. `json_size` -1: no Inference-Header-Content-Length."""

    status: int
    length: int
    chunked: bool
    keep: bool
    json_size: int


class Pool(Protocol):
    """Who owns a connection."""

    def opened(self, connection: Connection) -> None:
        """It is there, and carries nothing yet."""

    def answered(self, connection: Connection, exchange: Exchange, keep: bool) -> None:
        """The answer is complete; `keep`: the connection may carry the next request, otherwise it is closed."""

    def ended(self, connection: Connection, exchange: Exchange | None, failure: Failure | OSError | None) -> None:
        """It is gone, with what it carried."""


class Connection:
    """`exchange` is what it carries, None if nothing."""

    def __init__(self, loop: Loop, address: Address, pool: Pool) -> None:
        self.exchange: Exchange | None = None
        self.is_open = False
        self._loop = loop
        self._pool = pool
        self._rest = b""
        self._head: Head | None = None
        self._left = 0
        self._body: list[bytes] = []
        self._transport = Transport(loop, address, self)

    def begin(self, message: bytes, exchange: Exchange) -> None:
        self.exchange = exchange
        exchange.sent_ns = self._loop.now_ns()
        self._transport.send(message)

    def close(self) -> None:
        self._transport.close()

    def opened(self) -> None:
        self.is_open = True
        if self.exchange is None:
            self._pool.opened(self)

    def lost(self, error: OSError | None) -> None:
        exchange, self.exchange = self.exchange, None
        head = self._head
        if exchange and error is None and head and head.length < 0 and not head.chunked:
            # The end of the connection is the end of such an answer.
            self._finish(exchange, self._loop.now_ns())
            self._pool.answered(self, exchange, keep=False)
            return
        if exchange and error is None:
            error = ConnectionResetError(errno.ECONNRESET, "closed before the answer was complete")
        self._pool.ended(self, exchange, error)

    def received(self, data: bytes, now_ns: int) -> None:
        exchange = self.exchange
        if exchange is None:
            self._fail(Failure("error", "undecodable", "HTTP", "an answer that nobody asked for"))
            return
        try:
            over = self._take(data, now_ns, exchange)
        except ValueError as error:
            self._fail(Failure("error", "undecodable", "HTTP", str(error)))
            return
        if over:
            head = self._head
            assert head
            self._finish(exchange, now_ns)
            self.exchange, self._head = None, None
            keep = head.keep and not self._rest
            if not keep:
                self.close()
            self._pool.answered(self, exchange, keep)

    def _take(self, data: bytes, now_ns: int, exchange: Exchange) -> bool:
        """Whether the answer is complete."""
        head = self._head
        if head is None:
            if self._rest:
                data = self._rest + data
                self._rest = b""
            end = data.find(b"\r\n\r\n")
            if end < 0:
                if len(data) > _LONGEST_HEAD:
                    raise ValueError("a head without end")
                self._rest = data
                return False
            head = _heads.get(data[:end]) or _parse(data[:end])
            data = data[end + 4 :]
            if head.status < 200:  # an interim answer: the real one follows
                return self._take(data, now_ns, exchange) if data else False
            self._head = head
            self._left = head.length
        if head.chunked:
            return self._chunks(data, now_ns, exchange)
        if head.length < 0:
            if data:
                self._body.append(data)
            return False
        if len(data) > self._left:
            self._rest = data[self._left :]
            data = data[: self._left]
        self._left -= len(data)
        self._body.append(data)
        return self._left == 0

    def _chunks(self, data: bytes, now_ns: int, exchange: Exchange) -> bool:
        """Chunked: each piece of the body is a frame with its arrival. `_left`: -1 a size is next, -2 the trailer."""
        data, self._rest = self._rest + data, b""
        while data:
            if self._left > 2:
                piece = data[: self._left - 2]
                exchange.frames.append((now_ns, piece))
                data = data[len(piece) :]
                self._left -= len(piece)
                continue
            if self._left >= 0:  # the line end behind a chunk
                cut = min(self._left, len(data))
                data, self._left = data[cut:], self._left - cut
                if self._left == 0:
                    self._left = -1
                continue
            line, found, after = data.partition(b"\r\n")
            if not found:
                self._rest = data
                return False
            data = after
            if self._left == -2:
                if not line:
                    self._rest = data
                    return True
                continue
            size = int(line.partition(b";")[0], 16)
            self._left = size + 2 if size else -2
        return False

    def _finish(self, exchange: Exchange, now_ns: int) -> None:
        head = self._head
        assert head
        exchange.status, exchange.json_size, exchange.done_ns = head.status, head.json_size, now_ns
        body = self._body
        if body:
            exchange.frames.append((now_ns, body[0] if len(body) == 1 else b"".join(body)))
            self._body = []

    def _fail(self, failure: Failure) -> None:
        exchange, self.exchange = self.exchange, None
        self.close()
        self._pool.ended(self, exchange, failure)


_heads: dict[bytes, Head] = {}


def _parse(raw: bytes) -> Head:
    """Raises ValueError for what is no head of HTTP/1."""
    line, *fields = raw.decode("latin-1").split("\r\n")
    if not line.startswith("HTTP/1."):
        raise ValueError(f"expected HTTP/1.1, found {line[:40]!r}")
    status = int(line[9:12])
    values = {name.strip().lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    chunked = "chunked" in values.get("transfer-encoding", "").lower()
    length = -1 if chunked else int(values.get("content-length", -1))
    if status in (204, 304):
        length = 0
    close = "close" in values.get("connection", "").lower()
    keep = not close and line.startswith("HTTP/1.1") and (chunked or length >= 0)
    head = Head(status, length, chunked, keep, int(values.get("inference-header-content-length", -1)))
    if len(_heads) < _MOST_HEADS:
        _heads[raw] = head
    return head
