"""One request on the wire, and what a sender is. A failed request is an Exchange with a failure, never an exception."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from harness.load.outcome import Failure
from harness.load.template import Template
from harness.tensors import Tensor

_NONE: Mapping[str, str] = MappingProxyType({})


class Exchange:
    """What is sent, and what came of it. Times are ns since the run's start.

    `sent_ns` is -1 as long as it is not sent, and for ever where it never was. `given_ns`: when HTTP's sender was given
    it. `frames` are (arrival, bytes): for unary calls one, the body; for gRPC streams one a message; for HTTP streams
    the pieces of the body as they came, which need not be whole events. `json_size` is HTTP's
    Inference-Header-Content-Length, -1 if none. `fields`: the header of the answer, names in lower case. `on_done` is
    called once, from the loop, when all of it is known.
    """

    __slots__ = (
        "done_ns", "failure", "fields", "frames", "given_ns", "json_size", "on_done", "owner", "sent_ns", "status",
    )  # fmt: skip

    def __init__(self, on_done: Callable[[Exchange], None], owner: Any = None) -> None:
        self.on_done = on_done
        self.owner = owner
        self.given_ns = self.sent_ns = self.done_ns = -1
        self.frames: list[tuple[int, bytes]] = []
        self.failure: Failure | None = None
        self.json_size = -1
        self.fields = _NONE
        self.status = 0
        """HTTP's, 0 where there is none."""


class Sender(Protocol):
    """One arm's wire. `prepare` may be slow, `send` may not. All but `prepare` are called in the loop's thread."""

    def prepare(self, tensors: Sequence[Tensor]) -> Template:
        """The bytes of a request of these inputs. Raises UsageError if they cannot be made."""

    def connect(self, connections: int, over: Callable[[], None]) -> None:
        """Try to have so many connections open before the first request; `over` is called when that is settled.
        No harm if it fails.
        """

    def send(self, template: Template, request_id: bytes, key: bytes, exchange: Exchange) -> None:
        """Sends, stamps `sent_ns` just before the first byte leaves, and later calls `exchange.on_done`."""

    def expire(self, given_before_ns: int) -> None:
        """Ends every request that was given to `send` earlier as timed out, whether or not it has left since."""

    def cancel(self) -> None:
        """Ends every request in flight as cancelled."""

    @property
    def waiting(self) -> int:
        """Requests that wait for a connection."""

    @property
    def lingering(self) -> int:
        """Requests that were ended here and that the server still works on: to be waited for before `close`."""

    def close(self) -> None:
        """Ends every request in flight as cancelled, and every connection. What is sent later is cancelled, too."""
