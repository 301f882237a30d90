"""One HTTP/1.1 connection: a request at a time, its answer scanned and not taken apart.

Triton says the same head to every request of a kind: what a head means is looked up by its bytes and parsed once.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from harness.load.engine.address import Address
from harness.load.engine.exchange import Exchange
from harness.load.engine.loop import Loop
from harness.load.engine.transport import Transport
from harness.load.outcome import Failure

_MOST_HEADS = 1024
_LONGEST_HEAD = 1 << 16
# Interim answers (1xx) to one request.
_MOST_INTERIM = 100


class Head(NamedTuple):
    """`length` -1: chunked, or until the connection ends. `json_size` -1: no Inference-Header-Content-Length."""

    status: int
    length: int
    chunked: bool
    keep: bool
    json_size: int
    fields: Mapping[str, str]


class Pool(Protocol):
    """Who owns a connection."""

    def opened(self, connection: Connection) -> None:
        """It is there, and carries nothing yet."""

    def answered(self, connection: Connection, exchange: Exchange, keep: bool) -> None:
        """The answer is complete; `keep`: the connection may carry the next request, otherwise it is closed."""

    def ended(self, connection: Connection, exchange: Exchange | None, failure: Failure | OSError | None) -> None:
        """It is gone, with what it carried."""


class Connection:
    """`exchange` is what it carries, None if nothing. `streams`: the pieces of a body stay apart; otherwise they become
    one.
    """

    def __init__(self, loop: Loop, address: Address, pool: Pool, *, streams: bool) -> None:
        self.exchange: Exchange | None = None
        self.is_open = False
        self._loop = loop
        self._pool = pool
        self._streams = streams
        self._rest = b""
        self._head: Head | None = None
        self._left = self._interim = 0
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
        except Exception as error:  # noqa: BLE001  nothing of ours is called: whatever it is, the server's bytes did it
            self._fail(Failure("error", "undecodable", "HTTP", str(error)))
            return
        if over:
            head = self._head
            assert head
            self._finish(exchange, now_ns)
            self.exchange, self._head, self._interim = None, None, 0
            # An answer to half a request: the next one would wait behind what nobody wants any more.
            keep = head.keep and not self._rest and not self._transport.behind
            if not keep:
                self.close()
            self._pool.answered(self, exchange, keep)

    def _take(self, data: bytes, now_ns: int, exchange: Exchange) -> bool:
        """Whether the answer is complete."""
        head = self._head
        while head is None:
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
                head = None
                self._interim += 1
                if self._interim > _MOST_INTERIM:
                    raise ValueError("interim answers without end")
                continue
            self._head = head
            self._left = head.length
            exchange.status, exchange.json_size, exchange.fields = head.status, head.json_size, head.fields
        if head.chunked:
            return self._chunks(data, now_ns, exchange)
        if head.length >= 0:
            if len(data) > self._left:
                self._rest = data[self._left :]
                data = data[: self._left]
            self._left -= len(data)
        if data:
            exchange.frames.append((now_ns, data))
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
                if len(data) > _LONGEST_HEAD:
                    raise ValueError("a chunk's size without end")
                self._rest = data
                return False
            data = after
            if self._left == -2:
                if not line:
                    self._rest = data
                    return True
                continue
            size = int(line.partition(b";")[0], 16)
            if size < 0:
                raise ValueError(f"a chunk of {size} bytes")
            self._left = size + 2 if size else -2
        return False

    def _finish(self, exchange: Exchange, now_ns: int) -> None:
        exchange.done_ns = now_ns
        if len(exchange.frames) > 1 and not self._streams:
            exchange.frames = [(now_ns, b"".join(piece for _, piece in exchange.frames))]

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
    if length < 0 and "content-length" in values and not chunked:
        raise ValueError(f"a body of {length} bytes")
    if status in (204, 304):
        length = 0
    close = "close" in values.get("connection", "").lower()
    keep = not close and line.startswith("HTTP/1.1") and (chunked or length >= 0)
    head = Head(status, length, chunked, keep, int(values.get("inference-header-content-length", -1)), values)
    # Heads that differ every time (a date, an id) must not fill the memory, nor keep out those that come again.
    if len(_heads) >= _MOST_HEADS:
        _heads.clear()
    _heads[raw] = head
    return head
