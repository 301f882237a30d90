"""What Control asks of a wire protocol.

Two answers of the world are kept apart: nobody answers (Unreachable), and Triton answers "no" (Refused).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol

from harness.errors import WorldError
from harness.tensors import Tensor
from harness.triton.access import Access
from harness.triton.answer import Answer

# Triton's words, on both wires, where a restricted protocol misses its header.
_EXPECTED = re.compile(r"is restricted, expecting header '([^']+)'")


class Refused(WorldError):
    """Triton answered, and the answer is an error. `unknown`: it knows no such model or version.

    `unfinished`: it accepted the call, and our patience or a proxy's ended before its answer came; it may still be
    at work.
    """

    def __init__(self, message: str, *, unknown: bool = False, unfinished: bool = False) -> None:
        super().__init__(one_line(message))
        # The statistics extension has words of its own for it.
        self.unknown = unknown or "unknown model" in message or "is not available" in message
        self.unfinished = unfinished


class Transport(Protocol):
    """Triton's control calls. Each raises Unreachable or Refused, within its timeout.

    Answers have the JSON form of the KServe v2 protocol and its extensions, whatever the wire; gRPC writes 64-bit
    numbers as text.
    """

    url: str

    def live(self) -> bool: ...

    def server_ready(self) -> bool: ...

    def ready(self, model: str, version: int) -> bool: ...

    def server(self) -> dict[str, Any]: ...

    def index(self) -> list[dict[str, Any]]: ...

    def metadata(self, model: str, version: int | None) -> dict[str, Any]: ...

    def config(self, model: str, version: int | None) -> dict[str, Any]: ...

    def statistics(self, model: str) -> list[dict[str, Any]]:
        """A row for each READY version of `model`."""
        ...

    def infer(self, model: str, version: int | None, tensors: Sequence[Tensor], timeout_s: float) -> Answer:
        """One request to a model that answers each request once."""
        ...

    def stream(self, model: str, version: int | None, tensors: Sequence[Tensor], timeout_s: float) -> Answer:
        """One request to a decoupled model, and all that it answers."""
        ...

    def load(self, model: str, config: str | None, timeout_s: float) -> None: ...

    def unload(self, model: str, timeout_s: float) -> None: ...

    def http_status(self, path: str) -> int | None:
        """What a plain GET of `path` is answered; None over gRPC, which has no paths."""
        ...

    def close(self) -> None: ...


def no_entry(url: str, said: str, access: Access) -> Refused:
    """What to tell somebody whom the server, or a proxy before it, does not let in. No header's value is in it."""
    wanted = _EXPECTED.search(said)
    if wanted is None:
        return Refused(f"{url}: does not let us in, it wants other credentials: {access.hide(said)}")
    given = any(name.lower() == wanted[1].lower() for name in access.headers)
    why = "and does not accept the value that it was given" if given else "which was not given"
    return Refused(f"{url}: this part of its API is restricted: it asks for the header {wanted[1]!r}, {why}")


def one_line(text: str) -> str:
    return " ".join(text.split())
