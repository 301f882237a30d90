"""The GPUs of this machine, found when NVML is opened, and again after a driver reset.

A GPU keeps its name (gpu0, gpu1, ... in NVML's order) by its UUID for as long as this lives: NVML counts anew when one
of them is gone.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

from harness.telemetry.nvml import mig
from harness.telemetry.nvml.binding import LOST, NO_PERMISSION, call, library
from harness.telemetry.nvml.card import Card
from harness.telemetry.source import SourceUnavailable


@dataclass
class Cards:
    """`all`: every GPU that was ever seen, also those that are lost now; () before the first `open`.

    `notes`: a line for each that was lost, and for each return.
    """

    nvml: Any = None
    all: tuple[Card, ...] = ()
    notes: list[str] = field(default_factory=list)
    is_open: bool = False
    _names: dict[str, str] = field(default_factory=dict)

    def open(self) -> None:
        """Does nothing where it is open. Raises SourceUnavailable: no driver, no GPU."""
        if self.is_open:
            return
        nvml = self.nvml = self.nvml or library()
        try:
            call(nvml, "nvmlInit")
        except nvml.NVMLError as error:
            raise SourceUnavailable(f"NVML: {error}") from error
        self.is_open = True
        try:
            found = self._found()
        except nvml.NVMLError as error:
            self.close()
            raise SourceUnavailable(f"NVML: {error}") from error
        if not found and not self.all:
            self.close()
            raise SourceUnavailable("NVML: this machine has no GPU")
        here = {card.name for card in found}
        absent = [Card(nvml, each.name, None, each.uuid, each.lost or "it is gone") for each in self.all]
        cards = [*found, *(card for card in absent if card.name not in here)]
        before = {card.name: card.lost for card in self.all}
        self.all = tuple(sorted(cards, key=lambda card: int(card.name.removeprefix("gpu"))))
        for card in found:
            if card.lost:
                self.note_lost(card)
            elif before.get(card.name):
                self.note_back(card, " since NVML was opened anew")

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            with contextlib.suppress(self.nvml.NVMLError):
                call(self.nvml, "nvmlShutdown")

    def note_lost(self, card: Card) -> None:
        self.note(f"NVML: {card.name} is lost: {card.lost}")

    def note_back(self, card: Card, since: str = "") -> None:
        self.note(f"NVML: {card.name} answers again{since}")

    def note(self, line: str) -> None:
        if line not in self.notes:
            self.notes.append(line)

    def _found(self) -> list[Card]:
        """Those that this process may see. Raises NVMLError."""
        nvml, found = self.nvml, list[Card]()
        for index in range(call(nvml, "nvmlDeviceGetCount")):
            try:
                handle = call(nvml, "nvmlDeviceGetHandleByIndex", index)
            except nvml.NVMLError as error:
                if error.value == NO_PERMISSION:
                    continue
                if error.value not in LOST:
                    raise
                if not self.all:  # else it is one of those that were known
                    found.append(Card(nvml, f"gpu{index}", None, "", str(error)))
                continue
            uuid = ""
            with contextlib.suppress(nvml.NVMLError):
                uuid = str(call(nvml, "nvmlDeviceGetUUID", handle))
            card = Card(nvml, self._name(uuid, index), handle, uuid)
            with contextlib.suppress(nvml.NVMLError):
                card.instances = mig.instances(nvml, card)
            found.append(card)
        return found

    def _name(self, uuid: str, index: int) -> str:
        if not uuid:
            return f"gpu{index}"
        taken = set(self._names.values())
        while uuid not in self._names:
            if (name := f"gpu{index}") not in taken:
                self._names[uuid] = name
            index += 1
        return self._names[uuid]
