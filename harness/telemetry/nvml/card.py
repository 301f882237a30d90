"""One GPU or MIG instance, and what it has turned out to lack."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple

from harness.telemetry.nvml.binding import LACKING

Way = Callable[[Any, "Card"], Any]


class Question(NamedTuple):
    """What is asked of a card, and in which ways: the first that card and driver know is kept to."""

    name: str
    ways: tuple[Way, ...]


class Card:
    """`lost`: why it does not answer any more, "" while it does. `instances`: the MIG instances on it.

    A card is made anew when NVML is opened anew: then everything is asked again.
    """

    def __init__(self, nvml: Any, name: str, handle: Any, uuid: str = "", lost: str = "") -> None:
        self.nvml, self.name, self.handle, self.uuid, self.lost = nvml, name, handle, uuid, lost
        self.instances: tuple[Card, ...] = ()
        self.retry_s = 0.0
        """When a lost card is asked again."""
        self._ways: dict[str, int] = {}
        self.frame: Any = None
        """See `fast.frame_of`."""

    def ask(self, question: Question) -> Any:
        """The answer; None where the card lacks it, which is asked once. Raises NVMLError: it did not answer now."""
        number = self._ways.get(question.name, 0)
        while number < len(question.ways):
            try:
                return question.ways[number](self.nvml, self)
            except self.nvml.NVMLError as error:
                if error.value not in LACKING:
                    raise
            number += 1
            self._ways[question.name] = number
        return None

    def forget(self) -> None:
        """What it lacks: a card that answers nothing looks like one that lacks everything."""
        self._ways.clear()
        self.frame = None

    @property
    def address(self) -> int | None:
        """Of NVML's handle, by which its events name the card."""
        return ctypes.cast(self.handle, ctypes.c_void_p).value
