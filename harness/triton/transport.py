"""What Control asks of a wire protocol.

Two answers of the world are kept apart: nobody answers (Unreachable), and Triton answers "no" (Refused).
"""

from __future__ import annotations

from typing import Any, Protocol

from harness.errors import WorldError


class Refused(WorldError):
    """Triton answered, and the answer is an error. `unknown`: it knows no such model or version.

    `timed_out`: it accepted the call and had not finished when our patience ended; it may still be at work.
    """

    def __init__(self, message: str, *, unknown: bool = False, timed_out: bool = False) -> None:
        super().__init__(one_line(message))
        self.unknown, self.timed_out = unknown, timed_out


class Transport(Protocol):
    """Triton's control calls. Each raises Unreachable or Refused, within its timeout.

    Answers have the JSON form of the KServe v2 protocol and its repository extension, whatever the wire.
    """

    url: str

    def live(self) -> bool: ...

    def server_ready(self) -> bool: ...

    def ready(self, model: str, version: int) -> bool: ...

    def server(self) -> dict[str, Any]: ...

    def index(self) -> list[dict[str, Any]]: ...

    def metadata(self, model: str, version: int | None) -> dict[str, Any]: ...

    def config(self, model: str, version: int | None) -> dict[str, Any]: ...

    def load(self, model: str, config: str | None, timeout_s: float) -> None: ...

    def unload(self, model: str, timeout_s: float) -> None: ...

    def close(self) -> None: ...


def one_line(text: str) -> str:
    return " ".join(text.split())
