"""One arm over HTTP/1.1 from prepared bytes: kept connections, one for each request in flight."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from harness.load import outcome
from harness.load.engine.address import resolve
from harness.load.engine.exchange import Exchange
from harness.load.engine.http1 import Connection
from harness.load.engine.loop import Loop
from harness.load.outcome import Failure
from harness.load.payload import encode
from harness.load.spec import wire_of
from harness.load.template import Template
from harness.tensors import Tensor
from harness.types import Arm, ModelInfo


class HttpSender:
    """`connections`: at most so many; a request that finds none free waits for one, and is sent late or never. Its
    deadline counts from when it was given here.

    Raises UsageError and WorldError as `address.resolve` does.
    """

    def __init__(self, loop: Loop, arm: Arm, model: ModelInfo, connections: int | None = None) -> None:
        self._loop = loop
        self._arm = arm
        self._model = model
        self._wire = wire_of(arm, model)
        self._most = connections
        self._address = resolve(arm)
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._live: dict[Exchange, Connection] = {}
        self._waiting: deque[tuple[bytes, Exchange]] = deque()
        self._connecting: Callable[[], None] | None = None
        self._unsettled = 0
        self._closed = False
        self._was_there = False

    def prepare(self, tensors: Sequence[Tensor]) -> Template:
        return encode(self._wire, self._arm, self._model, tensors)

    def connect(self, connections: int, over: Callable[[], None]) -> None:
        wanted = min(connections, self._most or connections) - len(self._all)
        if wanted <= 0:
            over()
            return
        self._connecting, self._unsettled = over, wanted
        for _ in range(wanted):
            self._open()

    def send(self, template: Template, request_id: bytes, key: bytes, exchange: Exchange) -> None:
        if self._closed:
            self._loop.at(0, self._end, exchange, outcome.CANCELLED)
            return
        message = template.fill(request_id, key)
        if self._idle:
            connection = self._idle.pop()
        elif not self._waiting and self._may_open:
            connection = self._open()
        else:
            exchange.given_ns = self._loop.now_ns()
            self._waiting.append((message, exchange))
            return
        self._live[exchange] = connection
        connection.begin(message, exchange)
        exchange.given_ns = exchange.sent_ns

    def opened(self, connection: Connection) -> None:
        self._was_there = True
        self._next(connection)
        self._settled()

    def answered(self, connection: Connection, exchange: Exchange, keep: bool) -> None:
        del self._live[exchange]
        if keep:
            self._next(connection)
        else:
            self.ended(connection, None, None)
        exchange.on_done(exchange)

    def ended(self, connection: Connection, exchange: Exchange | None, failure: Failure | OSError | None) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if not connection.is_open:
            self._settled()
        self._pump()
        if isinstance(failure, OSError):
            failure = outcome.of_os_error(failure, was_there=self._was_there)
        if exchange:
            self._end(exchange, failure)

    def expire(self, given_before_ns: int) -> None:
        while self._waiting and self._waiting[0][1].given_ns < given_before_ns:
            self._end(self._waiting.popleft()[1], outcome.NEVER_SENT)
        while self._live and (oldest := next(iter(self._live))).given_ns < given_before_ns:
            self._drop(oldest, outcome.TIMEOUT)
        self._pump()

    def cancel(self) -> None:
        # What an ended request leads to may be the next one: that is not among these.
        waiting, self._waiting = self._waiting, deque()
        for _, exchange in waiting:
            self._end(exchange, outcome.CANCELLED)
        for exchange in tuple(self._live):
            self._drop(exchange, outcome.CANCELLED)
        self._pump()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def lingering(self) -> int:
        return 0

    def close(self) -> None:
        self._closed = True
        self.cancel()
        while self._all:
            self._all.pop().close()
        self._idle.clear()

    def _next(self, connection: Connection) -> None:
        if not self._waiting:
            self._idle.append(connection)
            return
        message, exchange = self._waiting.popleft()
        self._live[exchange] = connection
        connection.begin(message, exchange)

    def _pump(self) -> None:
        """Requests that wait for a connection get one each, as far as there may be more."""
        while self._waiting and not self._closed and self._may_open:
            self._next(self._open())

    @property
    def _may_open(self) -> bool:
        return self._most is None or len(self._all) < self._most

    def _open(self) -> Connection:
        connection = Connection(self._loop, self._address, self, streams=self._wire.endswith("-stream"))
        self._all.add(connection)
        return connection

    def _settled(self) -> None:
        """One of the connections that were opened ahead is there, or will not be."""
        if self._connecting:
            self._unsettled -= 1
            if self._unsettled <= 0:
                over, self._connecting = self._connecting, None
                over()

    def _drop(self, exchange: Exchange, failure: Failure) -> None:
        """An answer that may still come would be taken for the next one's: its connection goes, too."""
        connection = self._live[exchange]
        connection.exchange = None
        connection.close()
        self._all.discard(connection)
        self._end(exchange, failure)

    def _end(self, exchange: Exchange, failure: Failure | None) -> None:
        self._live.pop(exchange, None)
        exchange.done_ns = self._loop.now_ns()
        exchange.failure = failure
        exchange.on_done(exchange)
