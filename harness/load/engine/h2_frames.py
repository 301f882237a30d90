"""HTTP/2's frames (RFC 9113) as bytes: what both sides of a connection are made of."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS, PADDED, WITH_PRIORITY = 0x4, 0x8, 0x20

# Settings.
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = range(1, 6)

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = range(4)
FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = 6, 7, 8, 9
ERRORS = (
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_SIZE = 9
FRAME_SIZE, WINDOW_SIZE = 1 << 14, (1 << 16) - 1
"""What holds until a side's SETTINGS say otherwise."""
MAX_WINDOW = MAX_STREAM = (1 << 31) - 1

# A frame's head: 24 bits of length and 8 of type read as one number, flags, stream.
HEAD = struct.Struct(">IBI")
_SETTING = struct.Struct(">HI")


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return HEAD.pack(len(payload) << 8 | kind, flags, stream) + payload


def settings(values: Mapping[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(name, value) for name, value in values.items()))


def window_update(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def reset(stream: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def goaway(last: int, code: int, words: str = "") -> bytes:
    return frame(GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big") + words.encode())


def read_settings(payload: bytes) -> Iterator[tuple[int, int]]:
    """(setting, value) in order; a rest that is no setting is left out."""
    yield from _SETTING.iter_unpack(payload[: len(payload) // 6 * 6])


def error_name(code: int) -> str:
    return ERRORS[code] if code < len(ERRORS) else f"ERROR_{code}"


def unpadded(flags: int, payload: bytes) -> bytes:
    """What a DATA or HEADERS frame carries. ValueError where its padding is longer than the frame."""
    begin, end = 0, len(payload)
    if flags & PADDED:
        if not payload:
            raise ValueError("padding without its length")
        begin, end = 1, end - payload[0]
    if flags & WITH_PRIORITY:
        begin += 5
    if begin > end:
        raise ValueError("more padding than frame")
    return payload[begin:end]
