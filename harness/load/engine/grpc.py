"""Triton's gRPC from prepared HTTP/2 frames: unary calls, and one stream for each request of a decoupled model."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Sequence

from harness.errors import UsageError
from harness.load import outcome
from harness.load.engine.address import resolve
from harness.load.engine.exchange import Exchange
from harness.load.engine.grpc_call import Call, request_block
from harness.load.engine.h2 import Connection
from harness.load.engine.h2_frames import MAX_WINDOW
from harness.load.engine.loop import Loop
from harness.load.outcome import Failure
from harness.load.payload import encode
from harness.load.spec import wire_of
from harness.load.template import Template
from harness.tensors import Tensor
from harness.types import Arm, ModelInfo

PAUSE_S, MAX_PAUSE_S = 0.1, 1.0
"""Between a failed attempt to connect and the next one: doubled from the one to the other."""
REFUSAL_S = 0.01
"""Refused without an attempt, a request ends so much later: a closed loop without a server must not spin."""
SILENT_S = 10.0
"""A request that is ended here (deadline, cancel) leaves its stream open until the server ends it, or has been silent
on it for so long; only then is it reset. Triton 2.51 crashes or hangs where a stream is reset, or its connection
closed, while it is writing to it (SIGSEGV, or SIGABRT "too many operations"): with chunks as fast as it can send them
after 50 to 350 resets, or 50 at once; at deadlines under overload also with unary calls, and where a stream had been
silent for 1 s. 10,000 streams reset in the pauses of 100 ms between their chunks did no harm.
"""
CONNECTIONS = 1
"""Where nobody says. More gain nothing: 8 unary calls in flight cost 21.6 us each on 1, 23.6 us on 8 at the same rate,
and the stamps of 500 streams are as good on 1 as on 4 (p99 0.25 and 0.23 ms).
"""


class GrpcSender:
    """One arm over gRPC. See `Sender`.

    Requests are spread over `connections`, each to the one with the fewest in flight. None: one, and a further one
    whenever the server allows no more streams on those there are. `sent_ns` is when a request was given here: where it
    must wait for a connection or for the server's leave, that is the server's time and not the generator's.
    """

    def __init__(self, loop: Loop, arm: Arm, model: ModelInfo, connections: int | None = None) -> None:
        """Raises UsageError or WorldError for an address or headers that cannot be used."""
        self._loop = loop
        self._now_ns = loop.now_ns
        self._arm = arm
        self._model = model
        self._address = resolve(arm)
        self._block = request_block(arm, self._address, "ModelStreamInfer" if model.decoupled else "ModelInfer")
        self._wanted, self._grows = connections or CONNECTIONS, connections is None
        self._open: list[Connection[Call]] = []
        self._connecting: set[Connection[Call]] = set()
        self._leaving: set[Connection[Call]] = set()
        self._waiting: deque[tuple[Call, bytes]] = deque()
        self._refused: deque[Call] = deque()
        self._refusal = outcome.EMPTY
        self._was_there = False
        self._retry_ns = 0
        self._pause_s = PAUSE_S
        self._is_sweeping = False
        self._overs: list[Callable[[], None]] = []

    def prepare(self, tensors: Sequence[Tensor]) -> Template:
        template = encode(wire_of(self._arm, self._model), self._arm, self._model, tensors)
        if template.size > MAX_WINDOW:
            raise UsageError(f"a request of {template.size} bytes is more than gRPC carries")
        return template

    def connect(self, connections: int, over: Callable[[], None]) -> None:
        self._overs.append(over)
        for _ in range(min(connections, self._wanted) - len(self._open) - len(self._connecting)):
            self._connect()
        self._settle()

    def send(self, template: Template, request_id: bytes, key: bytes, exchange: Exchange) -> None:
        body = b"\0" + template.size.to_bytes(4, "big") + template.fill(request_id, key)
        call, there = Call(exchange), self._open
        exchange.sent_ns = now_ns = self._now_ns()
        if len(there) == 1 == self._wanted and there[0].room and not self._waiting:
            there[0].request(call, self._block, body)
        elif there or self._connecting or now_ns >= self._retry_ns:
            self._waiting.append((call, body))
            self._distribute()
            if len(there) + len(self._connecting) < self._wanted and now_ns >= self._retry_ns:
                self._connect()
        else:
            self._refuse(call)

    def expire(self, sent_before_ns: int) -> None:
        self._end(outcome.TIMEOUT, sent_before_ns)

    def cancel(self) -> None:
        self._end(outcome.CANCELLED, self._now_ns() + 1)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def lingering(self) -> int:
        """How many streams the server has not ended yet, though their requests were ended here. To be waited for, a
        while, before `close`: a closed connection is the harshest way of cancelling.
        """
        return sum(call.is_told for connection in self._all() for call in connection.streams.values())

    def close(self) -> None:
        self.cancel()
        self._tell_refused()
        for connection in self._all():
            connection.close()
        self._open.clear()
        self._connecting.clear()
        self._leaving.clear()

    # ------------------------------------------------------------ ends

    def _end(self, failure: Failure, sent_before_ns: int) -> None:
        ended: list[Call] = []
        while self._waiting and self._waiting[0][0].exchange.sent_ns < sent_before_ns:
            ended.append(self._waiting.popleft()[0])
        for connection in self._all():
            for call in connection.streams.values():
                if call.exchange.sent_ns >= sent_before_ns:
                    break
                if not call.is_told:
                    ended.append(call)
        for call in ended:
            call.fail(failure, self._now_ns())
        if ended and not self._is_sweeping:
            self._is_sweeping = True
            self._sweep()

    def _sweep(self) -> None:
        """Resets the streams of ended requests that the server has nothing to say on; again, while there are any."""
        silent_ns = self._now_ns() - int(SILENT_S * 1e9)
        for connection in self._all():
            for call in tuple(connection.streams.values()):
                if call.is_told and (call.heard_ns < silent_ns or call.rest is not None):
                    connection.abandon(call)
        self._is_sweeping = self.lingering > 0
        if self._is_sweeping:
            self._loop.after(SILENT_S / 10, self._sweep)

    # ------------------------------------------------------------ connections

    def ready(self, connection: Connection[Call]) -> None:
        if connection in self._connecting:
            self._connecting.discard(connection)
            self._open.append(connection)
            self._was_there = True
            self._pause_s, self._retry_ns = PAUSE_S, 0
            self._settle()
        self._distribute()

    def leaving(self, connection: Connection[Call]) -> None:
        if connection in self._open:
            self._open.remove(connection)
            self._leaving.add(connection)

    def lost(self, connection: Connection[Call], error: OSError | None) -> None:
        self._leaving.discard(connection)
        if connection in self._open:
            self._open.remove(connection)
        elif connection in self._connecting:
            self._connecting.discard(connection)
            error = error or ConnectionResetError(errno.ECONNRESET, "the server left")
            self._refusal = outcome.of_os_error(error, was_there=self._was_there)
            self._retry_ns = self._now_ns() + int(self._pause_s * 1e9)
            self._pause_s = min(self._pause_s * 2, MAX_PAUSE_S)
            self._settle()
        self._distribute()

    def _connect(self) -> None:
        self._connecting.add(Connection(self._loop, self._address, self))

    def _settle(self) -> None:
        if not self._connecting:
            overs, self._overs = self._overs, []
            for over in overs:
                over()

    def _distribute(self) -> None:
        """Waiting requests to the connections with room, the least busy first; another connection where that helps."""
        while self._waiting:
            best = min((one for one in self._open if one.room), key=_busy, default=None)
            if best is None:
                break
            call, body = self._waiting.popleft()
            best.request(call, self._block, body)
        if not self._waiting or self._connecting:
            return
        may_connect = self._now_ns() >= self._retry_ns
        if may_connect and (self._grows or len(self._open) < self._wanted):
            self._connect()
        elif not self._open:
            waiting, self._waiting = self._waiting, deque()
            for call, _ in waiting:
                self._refuse(call)

    def _refuse(self, call: Call) -> None:
        if not self._refused:
            self._loop.after(REFUSAL_S, self._tell_refused)
        self._refused.append(call)

    def _tell_refused(self) -> None:
        refused, self._refused = self._refused, deque()
        for call in refused:
            call.fail(self._refusal, self._now_ns())

    def _all(self) -> tuple[Connection[Call], ...]:
        return (*self._open, *self._connecting, *self._leaving)


def _busy(connection: Connection[Call]) -> int:
    return len(connection.streams)
