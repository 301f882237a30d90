"""A function of NVML that is asked again and again: bound once to a card, and to the memory that it fills."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from harness.telemetry.nvml.binding import FUNCTION_NOT_FOUND
from harness.telemetry.nvml.card import Card


class Told(NamedTuple):
    """`times` and then `by` make a reading of what stands in the buffer's `member`."""

    metric: str
    unit: str
    member: str = "value"
    times: float = 1.0
    by: float = 1.0


class Gauge(NamedTuple):
    """A function of NVML, and the buffer that it fills: a type of ctypes, or the name of one of pynvml's, whose version
    is pynvml's constant `version`. `argument`: one before the buffer, also by pynvml's name for it.
    """

    function: str
    buffer: Any
    told: tuple[Told, ...] = ()
    version: str = ""
    argument: str = ""

    def bound(self, nvml: Any, card: Card) -> Bound:
        """Raises NVMLError where there is no such function, or the card does not answer it. An older pynvml does not
        know newer types: as `library.call`.
        """
        kind = getattr(nvml, self.buffer, None) if isinstance(self.buffer, str) else self.buffer
        if kind is None or not all(hasattr(nvml, name) for name in (self.version, self.argument) if name):
            raise nvml.NVMLError(FUNCTION_NOT_FOUND)
        given = (ctypes.c_uint(getattr(nvml, self.argument)),) if self.argument else ()
        version = getattr(nvml, self.version) if self.version else 0
        pointer = nvml._nvmlGetFunctionPointer(self.function)
        found = Bound(self.told, kind, version, pointer, (card.handle, *given))
        function, arguments = found.into((kind * 1)())
        if code := function(*arguments):
            raise nvml.NVMLError(code)
        return found


class Bound(NamedTuple):
    """A gauge that a card answers."""

    told: tuple[Told, ...]
    kind: Any
    version: int
    function: Callable[..., int]
    before: tuple[Any, ...]

    def into(self, buffer: Any) -> tuple[Callable[..., int], tuple[Any, ...]]:
        """What to call, and with what, so that it fills `buffer`, an array of one; it gives NVML's return code."""
        if self.version:
            buffer[0].version = self.version
        return self.function, (*self.before, ctypes.byref(buffer))

    def members(self) -> Iterator[tuple[int, str, Told]]:
        """Of the buffer: where each stands in it, and its type by the letter that ctypes and struct have for it."""
        types = dict(getattr(self.kind, "_fields_", ()))
        for told in self.told:
            if types:
                yield getattr(self.kind, told.member).offset, types[told.member]._type_, told
            else:
                yield 0, self.kind._type_, told
