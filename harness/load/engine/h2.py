"""A lean HTTP/2 client connection (RFC 9113): many streams, few Python steps for each frame.

Requests go out as prepared bytes, in one `send` wherever the server's windows have room for them; otherwise they wait
for WINDOW_UPDATE and go on. Our own windows are as large as they may be, so that no answer ever waits for the client.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, Protocol, TypeVar

from hpack import HPACKError

from harness.load.engine import h2_frames as h2
from harness.load.engine.address import Address
from harness.load.engine.h2_headers import Blocks
from harness.load.engine.loop import Loop
from harness.load.engine.transport import Transport

CONNECT_S = 10.0
"""A connection that is not ready by then is given up."""

# Of what was received, so much is given back at once: a handful of frames in a run.
_REPLENISH = 1 << 29
_OURS = h2.settings({h2.HEADER_TABLE_SIZE: 0, h2.ENABLE_PUSH: 0, h2.INITIAL_WINDOW_SIZE: h2.MAX_WINDOW})
_HELLO = h2.PREFACE + _OURS + h2.window_update(0, h2.MAX_WINDOW - h2.WINDOW_SIZE)
_unpack, _pack = h2.HEAD.unpack_from, h2.HEAD.pack


class Stream(ABC):
    """One request and its answer. After `end`, `reset` or `broken` nothing more is called."""

    __slots__ = ("id", "rest", "taken", "window")

    def __init__(self) -> None:
        self.id = 0
        self.rest: memoryview | None = None
        self.window = 0
        self.taken = 0

    @abstractmethod
    def headers(self, fields: Mapping[str, str]) -> None:
        """Header fields with which the answer does not end."""

    @abstractmethod
    def data(self, piece: bytes, now_ns: int) -> None:
        """A piece of the body, cut anywhere."""

    @abstractmethod
    def end(self, fields: Mapping[str, str], now_ns: int) -> None:
        """The answer is complete; `fields` are its last, none where it ended with data."""

    @abstractmethod
    def reset(self, code: int, words: str, now_ns: int) -> None:
        """The server gave this stream up (RST_STREAM), or never looked at it (GOAWAY: REFUSED_STREAM)."""

    @abstractmethod
    def broken(self, error: OSError, now_ns: int) -> None:
        """The connection broke."""


S = TypeVar("S", bound=Stream)


class User(Protocol):
    """Who owns connections. Each is told before the streams that it concerns."""

    def ready(self, connection: Connection[Any]) -> None:
        """Requests may be sent. Called again whenever there is room after there was none."""

    def leaving(self, connection: Connection[Any]) -> None:
        """No new requests; those in flight go on. At most once."""

    def lost(self, connection: Connection[Any], error: OSError | None) -> None:
        """It is gone, or never came about; None where it left and everything on it is answered. At most once, and not
        after `close`.
        """


class Connection(Generic[S]):
    """One connection. `streams` are those in flight, in the order in which they were sent."""

    def __init__(self, loop: Loop, address: Address, user: User) -> None:
        self.streams: dict[int, S] = {}
        self.is_ready = self.is_leaving = self._is_over = False
        self._loop = loop
        self._user = user
        self._blocks = Blocks()
        self._next = 1
        self._most = h2.MAX_STREAM
        self._frame_size, self._initial_window, self._window = h2.FRAME_SIZE, h2.WINDOW_SIZE, h2.WINDOW_SIZE
        self._taken = 0
        self._waiting: dict[int, Stream] = {}
        self._rest = b""
        self._partial: tuple[int, int, bytes] | None = None
        self._transport = Transport(loop, address, self)
        self._patience = loop.after(CONNECT_S, self._give_up)

    @property
    def room(self) -> bool:
        """Whether one more stream may be opened now."""
        return self.is_ready and not self.is_leaving and len(self.streams) < self._most

    def request(self, stream: S, block: bytes, body: bytes) -> None:
        """Sends HEADERS and all of DATA, or as much as the windows allow. Only where there is `room`."""
        stream.id = number = self._next
        self._next = number + 2
        self.streams[number] = stream
        size = len(body)
        head = _pack(len(block) << 8 | h2.HEADERS, h2.END_HEADERS, number)
        if size <= self._frame_size and size <= self._window and size <= self._initial_window:
            self._window -= size
            body_head = _pack(size << 8 | h2.DATA, h2.END_STREAM, number)
            self._transport.send(b"".join((head, block, body_head, body)))
        else:
            stream.rest, stream.window = memoryview(body), self._initial_window
            self._waiting[number] = stream
            self._transport.send(head + block)
            self._go_on()
        if number + 2 > h2.MAX_STREAM:
            self._leave()

    def abandon(self, stream: S) -> None:
        """RST_STREAM CANCEL; the stream hears nothing more."""
        if self.streams.pop(stream.id, None):
            self._waiting.pop(stream.id, None)
            self._transport.send(h2.reset(stream.id, h2.CANCEL))
            self._ended()

    def close(self) -> None:
        """At once; neither the user nor the streams are told."""
        self._patience.cancel()
        self.is_leaving = self._is_over = True
        self.streams.clear()
        self._waiting.clear()
        self._transport.send(h2.goaway(0, h2.NO_ERROR))
        self._transport.close()

    # ------------------------------------------------------------ the transport's side

    def opened(self) -> None:
        self._transport.send(_HELLO)

    def lost(self, error: OSError | None) -> None:
        self._lose(error or ConnectionResetError(errno.ECONNRESET, "closed before the answer was complete"))

    def received(self, data: bytes, now_ns: int) -> None:
        if self._rest:
            data = self._rest + data
        begin, size = 0, len(data)
        streams, decode = self.streams, self._blocks.decode
        try:
            while size - begin >= h2.HEAD_SIZE:
                word, flags, number = _unpack(data, begin)
                begin += h2.HEAD_SIZE
                end = begin + (word >> 8)
                if end > size:
                    if word >> 8 > h2.FRAME_SIZE:
                        raise _Wrong(h2.FRAME_SIZE_ERROR, f"a frame of {word >> 8} bytes")
                    begin -= h2.HEAD_SIZE
                    break
                kind = word & 0xFF
                if kind == h2.DATA and flags <= h2.END_STREAM and self._partial is None:
                    self._taken += end - begin
                    stream = streams.get(number)
                    if stream is not None:
                        stream.taken += end - begin
                        stream.data(data[begin:end], now_ns)
                        if flags:
                            self._end(number, _NO_FIELDS, now_ns)
                elif kind == h2.HEADERS and flags & _NOT_PLAIN == h2.END_HEADERS and self._partial is None:
                    self._fields(number, flags, decode(data[begin:end]), now_ns)
                else:
                    self._other(kind, flags, number, data[begin:end], now_ns)
                begin = end
        except (_Wrong, HPACKError) as error:
            self._wrong(error)
            return
        self._rest = data[begin:]
        if self._taken >= _REPLENISH:
            self._replenish()

    # ------------------------------------------------------------ frames

    def _fields(self, number: int, flags: int, fields: Mapping[str, str], now_ns: int) -> None:
        if flags & h2.END_STREAM:
            self._end(number, fields, now_ns)
        else:
            stream = self.streams.get(number)
            if stream is not None:
                stream.headers(fields)

    def _end(self, number: int, fields: Mapping[str, str], now_ns: int) -> None:
        stream = self.streams.pop(number, None)
        if stream is None:
            return
        if number in self._waiting:
            # Answered before it was all sent: the rest is of no use.
            del self._waiting[number]
            self._transport.send(h2.reset(number, h2.NO_ERROR))
        full = len(self.streams) + 1 == self._most
        stream.end(fields, now_ns)
        if full or self.is_leaving:
            self._ended()

    def _ended(self) -> None:
        """A stream is over: there may be room again, or nothing left to wait for."""
        if self.is_leaving and not self.streams and not self._is_over:
            self.close()
            self._user.lost(self, None)
        elif self.room:
            self._user.ready(self)

    def _other(self, kind: int, flags: int, number: int, payload: bytes, now_ns: int) -> None:
        """The frames that are rare, and rare forms of the others."""
        if not self.is_ready and kind != h2.SETTINGS:
            raise _Wrong(h2.PROTOCOL_ERROR, "the server does not speak HTTP/2")
        if self._partial and (kind != h2.CONTINUATION or number != self._partial[0]):
            raise _Wrong(h2.PROTOCOL_ERROR, "a header block was cut off")
        match kind:
            case h2.DATA:
                self._taken += len(payload)
                stream = self.streams.get(number)
                if stream is not None:
                    stream.taken += len(payload)
                    stream.data(_unpadded(flags & h2.PADDED, payload), now_ns)
                    if flags & h2.END_STREAM:
                        self._end(number, _NO_FIELDS, now_ns)
            case h2.HEADERS:
                self._block(number, flags, _unpadded(flags, payload), now_ns)
            case h2.CONTINUATION:
                if self._partial is None:
                    raise _Wrong(h2.PROTOCOL_ERROR, "CONTINUATION of nothing")
                _, first, before = self._partial
                self._block(number, first | flags & h2.END_HEADERS, before + payload, now_ns)
            case h2.RST_STREAM:
                self._waiting.pop(number, None)
                stream = self.streams.pop(number, None)
                if stream is not None:
                    stream.reset(_number(payload), "", now_ns)
                    self._ended()
            case h2.SETTINGS:
                if not flags & h2.ACK:
                    self._settings(payload)
            case h2.PUSH_PROMISE:
                raise _Wrong(h2.PROTOCOL_ERROR, "PUSH_PROMISE, which our settings forbid")
            case h2.PING:
                if not flags & h2.ACK:
                    self._transport.send(h2.frame(h2.PING, h2.ACK, 0, payload))
            case h2.GOAWAY:
                self._goaway(payload, now_ns)
            case h2.WINDOW_UPDATE:
                self._window_update(number, _number(payload) & h2.MAX_WINDOW)

    def _block(self, number: int, flags: int, block: bytes, now_ns: int) -> None:
        if flags & h2.END_HEADERS:
            self._partial = None
            self._fields(number, flags, self._blocks.decode(block), now_ns)
        elif len(block) > _MOST_HEADERS:
            raise _Wrong(h2.PROTOCOL_ERROR, "a header block without an end")
        else:
            self._partial = number, flags, block

    def _settings(self, payload: bytes) -> None:
        had_room = self.room
        for name, value in h2.read_settings(payload):
            if name == h2.MAX_CONCURRENT_STREAMS:
                self._most = value
            elif name == h2.MAX_FRAME_SIZE:
                self._frame_size = value
            elif name == h2.INITIAL_WINDOW_SIZE:
                if value > h2.MAX_WINDOW:
                    raise _Wrong(h2.FLOW_CONTROL_ERROR, f"an initial window of {value}")
                for stream in self._waiting.values():
                    stream.window += value - self._initial_window
                self._initial_window = value
        self._transport.send(h2.frame(h2.SETTINGS, h2.ACK, 0))
        self._patience.cancel()
        self.is_ready = True
        self._go_on()
        if self.room and not had_room:
            self._user.ready(self)

    def _goaway(self, payload: bytes, now_ns: int) -> None:
        last = _number(payload) & h2.MAX_STREAM
        code, words = _number(payload[4:]), payload[8:].decode(errors="replace")
        self._leave()
        for number in [number for number in self.streams if number > last]:
            self._waiting.pop(number, None)
            if refused := self.streams.pop(number, None):
                refused.reset(h2.REFUSED_STREAM, f"GOAWAY {h2.error_name(code)} {words}".rstrip(), now_ns)
        self._ended()

    def _leave(self) -> None:
        if not self.is_leaving:
            self.is_leaving = True
            self._user.leaving(self)

    # ------------------------------------------------------------ windows

    def _window_update(self, number: int, increment: int) -> None:
        if number == 0:
            self._window += increment
        elif number in self._waiting:
            self._waiting[number].window += increment
        else:
            return
        self._go_on()

    def _go_on(self) -> None:
        """Sends of the bodies that wait what the windows have room for, the oldest first."""
        for stream in tuple(self._waiting.values()):
            out: list[bytes | memoryview] = []
            rest = stream.rest
            assert rest is not None
            while (size := min(len(rest), self._frame_size, self._window, stream.window)) > 0:
                last = size == len(rest)
                out += (_pack(size << 8 | h2.DATA, h2.END_STREAM if last else 0, stream.id), rest[:size])
                rest = rest[size:]
                self._window -= size
                stream.window -= size
            stream.rest = rest
            if not rest:
                stream.rest = None
                del self._waiting[stream.id]
            if out:
                self._transport.send(b"".join(out))
            if self._window <= 0:
                return

    def _replenish(self) -> None:
        out = [h2.window_update(0, self._taken)]
        self._taken = 0
        for number, stream in self.streams.items():
            if stream.taken >= _REPLENISH >> 1:
                out.append(h2.window_update(number, stream.taken))
                stream.taken = 0
        self._transport.send(b"".join(out))

    # ------------------------------------------------------------ ends

    def _give_up(self) -> None:
        self._transport.close()
        self._lose(TimeoutError(errno.ETIMEDOUT, f"no HTTP/2 connection within {CONNECT_S:.0f} s"))

    def _wrong(self, error: Exception) -> None:
        code = error.code if isinstance(error, _Wrong) else h2.COMPRESSION_ERROR
        self._transport.send(h2.goaway(0, code, str(error)))
        self._transport.close()
        self._lose(ConnectionResetError(errno.EPROTO, f"not HTTP/2 as it should be: {error}"))

    def _lose(self, error: OSError) -> None:
        if self._is_over:
            return
        self._patience.cancel()
        self.is_leaving = self._is_over = True
        self._user.lost(self, error)
        now_ns = self._loop.now_ns()
        streams = tuple(self.streams.values())
        self.streams.clear()
        for stream in streams:
            stream.broken(error, now_ns)


class _Wrong(Exception):
    """The server broke the protocol: the connection ends with this code."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code


_NO_FIELDS: Mapping[str, str] = {}
_NOT_PLAIN = h2.END_HEADERS | h2.PADDED | h2.WITH_PRIORITY
_MOST_HEADERS = 1 << 18


def _number(payload: bytes) -> int:
    return int.from_bytes(payload[:4], "big")


def _unpadded(flags: int, payload: bytes) -> bytes:
    """Only what the server sent is its fault: a ValueError of our own callbacks is none of the protocol."""
    try:
        return h2.unpadded(flags, payload)
    except ValueError as error:
        raise _Wrong(h2.PROTOCOL_ERROR, str(error)) from error
