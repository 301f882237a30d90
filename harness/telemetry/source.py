"""What a source of readings is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from harness.errors import WorldError


class Value(NamedTuple):
    """A Reading without its time, see `harness.types`. What cannot be read is left out, never 0."""

    source: str
    device: str
    metric: str
    value: float
    unit: str


class SourceUnavailable(WorldError):
    """A source has nothing to say now; one line why. It may have later."""


class Source(Protocol):
    """`read` answers within about a second, or raises SourceUnavailable. Called from one thread only."""

    name: str

    def read(self) -> Iterable[Value]: ...

    def close(self) -> None: ...
