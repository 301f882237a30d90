"""A server of HTTP/2 frames and nothing more: it answers ModelStreamInfer of `ticker`, its own clock in each chunk.

It reads a request's COUNT and PERIOD_US and sends that many chunks. Chunks that are due together leave together, each
stamped as it is written. It knows one connection, honours no window (the client's are as large as can be) and takes
the header blocks on trust.
"""

from __future__ import annotations

import heapq
import select
import socket
import struct
import time
from multiprocessing.connection import Connection

from tritonclient.grpc import service_pb2

from tests.load.engine.peer import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEAD,
    HEADERS,
    OK,
    PING,
    SETTINGS,
    WINDOW,
    frame,
    message,
)


def serve(told: Connection) -> None:
    """Tells the port and then serves until it is ended."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        told.send(listener.getsockname()[1])
        accepted, _ = listener.accept()
    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    accepted.sendall(frame(SETTINGS, 0, 0) + frame(WINDOW, 0, 0, (1 << 30).to_bytes(4, "big")))
    due: list[tuple[int, int, int, int]] = []
    rest = b""
    seen = 0
    while True:
        wait_s = max(0.0, (due[0][0] - time.monotonic_ns()) / 1e9) if due else None
        if select.select([accepted], [], [], wait_s)[0]:
            data = accepted.recv(1 << 16)
            if not data:
                return
            rest += data
            if not seen:
                rest, seen = rest[24:], 1  # the preface
            rest = _read(accepted, rest, due)
        out, now = bytearray(), time.monotonic_ns()
        while due and due[0][0] <= now:
            at, stream, left, period = heapq.heappop(due)
            if left:
                out += frame(DATA, 0, stream, message(_chunk(time.monotonic_ns())))
                heapq.heappush(due, (at + period, stream, left - 1, period))
            else:
                out += frame(HEADERS, END_HEADERS | END_STREAM, stream, OK)
        if out:
            accepted.sendall(out)


def _read(accepted: socket.socket, data: bytes, due: list[tuple[int, int, int, int]]) -> bytes:
    """Takes whole frames; what is left is returned."""
    while len(data) >= 9 and len(data) >= (end := 9 + int.from_bytes(data[:3], "big")):
        kind, flags, stream = data[3], data[4], int.from_bytes(data[5:9], "big")
        if kind == HEADERS:
            accepted.sendall(frame(HEADERS, END_HEADERS, stream, HEAD))
        elif kind == DATA:
            request = service_pb2.ModelInferRequest.FromString(data[14:end])
            count, period_us = (struct.unpack("<i", raw)[0] for raw in request.raw_input_contents)
            heapq.heappush(due, (time.monotonic_ns(), stream, count, period_us * 1000))
        elif kind in (SETTINGS, PING) and not flags:
            accepted.sendall(frame(kind, 1, 0, b"" if kind == SETTINGS else data[9:end]))
        data = data[end:]
    return data


def _chunk(clock_ns: int) -> bytes:
    answer = service_pb2.ModelStreamInferResponse()
    answer.infer_response.outputs.add(name="CLOCK", datatype="INT64", shape=[1])
    answer.infer_response.raw_output_contents.append(struct.pack("<q", clock_ns))
    return bytes(answer.SerializeToString())
