"""One gRPC call: the header fields of a request, the messages and the status of its answer."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from harness.errors import UsageError
from harness.load import outcome
from harness.load.engine import h2_frames as h2
from harness.load.engine import h2_headers
from harness.load.engine.address import Address
from harness.load.engine.exchange import Exchange
from harness.load.engine.h2 import Stream
from harness.load.outcome import Failure
from harness.types import Arm

SERVICE = "/inference.GRPCInferenceService/"
# Before each message: whether it is compressed (1 byte) and its length (4).
PREFIX = 5

STATUS = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
_NAMES = {str(number): name for number, name in enumerate(STATUS)}
# What an answer that is none of gRPC's, or a reset stream, means: as gRPC's own clients have it.
_HTTP = {
    "400": "INTERNAL",
    "401": "UNAUTHENTICATED",
    "403": "PERMISSION_DENIED",
    "404": "UNIMPLEMENTED",
    "429": "UNAVAILABLE",
    "502": "UNAVAILABLE",
    "503": "UNAVAILABLE",
    "504": "UNAVAILABLE",
}
_RESET = {
    "REFUSED_STREAM": "UNAVAILABLE",
    "CANCEL": "CANCELLED",
    "ENHANCE_YOUR_CALM": "RESOURCE_EXHAUSTED",
    "INADEQUATE_SECURITY": "PERMISSION_DENIED",
}
# Fields that the protocol sets, or that HTTP/2 forbids.
_NOT_YOURS = {"te", "content-type", "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"}


def request_block(arm: Arm, address: Address, method: str) -> bytes:
    """The header block of every request to this arm. Raises UsageError for headers that cannot travel."""
    fields = {
        ":method": "POST",
        ":scheme": "https" if address.tls else "http",
        ":path": SERVICE + method,
        ":authority": address.authority,
        "te": "trailers",
        "content-type": "application/grpc",
        "user-agent": "triton-canary",
        "grpc-accept-encoding": "identity",
    }
    for name, value in arm.headers.items():
        low = name.lower()
        if not low or low.startswith((":", "grpc-")) or low in _NOT_YOURS:
            raise UsageError(f"the header {name!r} cannot be sent over gRPC")
        if not f"{name}{value}".isascii() or not f"{name}{value}".isprintable():
            raise UsageError(f"the header {name!r} holds more than printable ASCII, which is all that gRPC carries")
        fields[low] = value
    block = h2_headers.block(fields.items())
    if len(block) > h2.FRAME_SIZE:
        raise UsageError(f"the headers take {len(block)} bytes; gRPC servers accept {h2.FRAME_SIZE} at most")
    return block


class Call(Stream):
    """A request in flight. Its exchange is told once: when the status is there or can no longer come, or `fail`s.

    After that the stream may go on for a while; `heard_ns` is then when it last had something to say.
    """

    __slots__ = ("_buffer", "_failure", "exchange", "heard_ns", "is_told")

    def __init__(self, exchange: Exchange) -> None:
        # Not super(): one call less for each request.
        self.rest, self.taken = None, 0
        self.exchange = exchange
        self.heard_ns = -1
        self.is_told = False
        self._buffer: bytearray | None = None
        self._failure: Failure | None = None

    def headers(self, fields: Mapping[str, str]) -> None:
        self.exchange.fields = fields
        status = fields.get(":status", "")
        if status != "200" and not status.startswith("1"):
            self._failure = _of_http(status)

    def data(self, piece: bytes, now_ns: int) -> None:
        size = len(piece) - PREFIX
        whole = size >= 0 and not piece[0] and int.from_bytes(piece[1:PREFIX], "big") == size
        if whole and self._buffer is None and self._failure is None:
            # Mostly a frame is one message.
            self.exchange.frames.append((now_ns, piece[PREFIX:]))
        else:
            self._pieces(piece, now_ns)

    def end(self, fields: Mapping[str, str], now_ns: int) -> None:
        exchange, code = self.exchange, fields.get("grpc-status")
        if not exchange.fields:
            exchange.fields = fields
        if code == "0" and self._failure is None and not self._buffer:
            # The last message ends the answer; the trailer comes later and says nothing more.
            exchange.done_ns = exchange.frames[-1][0] if exchange.frames else now_ns
            exchange.on_done(exchange)
        else:
            self.fail(self._failure or self._trouble(fields), now_ns)

    def reset(self, code: int, words: str, now_ns: int) -> None:
        name = h2.error_name(code)
        self.fail(_of_status(_RESET.get(name, "INTERNAL"), words or f"RST_STREAM {name}"), now_ns)

    def broken(self, error: OSError, now_ns: int) -> None:
        self.fail(outcome.of_os_error(error), now_ns)

    def fail(self, failure: Failure, now_ns: int) -> None:
        """Ends the exchange, if it has not ended."""
        if self.is_told:
            return
        exchange, self.is_told = self.exchange, True
        self.heard_ns = exchange.frames[-1][0] if exchange.frames else exchange.sent_ns
        self._failure = exchange.failure = failure
        exchange.done_ns = now_ns
        exchange.on_done(exchange)

    def _pieces(self, piece: bytes, now_ns: int) -> None:
        """Messages over several frames, or several in one."""
        if self._failure is not None:
            self.heard_ns = now_ns
            return
        if self._buffer is None:
            self._buffer = bytearray()
        buffer = self._buffer
        buffer += piece
        while len(buffer) >= PREFIX:
            if buffer[0]:
                self._failure = _undecodable("a compressed message, which was not asked for")
                self._buffer = None
                return
            end = PREFIX + int.from_bytes(buffer[1:PREFIX], "big")
            if len(buffer) < end:
                return
            self.exchange.frames.append((now_ns, bytes(buffer[PREFIX:end])))
            del buffer[:end]
        if not buffer:
            self._buffer = None

    def _trouble(self, fields: Mapping[str, str]) -> Failure:
        code, status = fields.get("grpc-status"), fields.get(":status", "200")
        if code is None:
            return _of_http(status) if status != "200" else _of_status("INTERNAL", "the answer ended without a status")
        if code == "0":
            return _undecodable("the answer ended within a message")
        return _of_status(_NAMES.get(code, "UNKNOWN"), unquote(fields.get("grpc-message", "")))


def _of_http(status: str) -> Failure:
    return _of_status(_HTTP.get(status, "UNKNOWN"), f"HTTP status {status or 'missing'} instead of gRPC")


def _of_status(name: str, message: str) -> Failure:
    if name == "CANCELLED":
        # Ours are ended before the server can say so: this one it cancelled itself, and failed by that.
        return Failure("error", "cancelled by the server", name, message)
    return outcome.of_grpc(name, message)


def _undecodable(message: str) -> Failure:
    return Failure("error", "undecodable", "GRPC", message)
