"""What the driver tells by itself: Xid errors, and ECC errors as they happen."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Sequence
from typing import Any

from harness.telemetry.nvml.binding import TIMEOUT, call
from harness.telemetry.nvml.card import Card
from harness.telemetry.nvml.fields import ECC

XID = "gpu.xid"
_ANY = 0xFFFFFFFF
"""The number of no MIG instance."""
_MOST = 100
"""Events of one poll: a card that fails may send more than anybody can read."""


class Events:
    """gpu.xid: the Xid's number, one reading an event; NVIDIA's documentation "XID Errors" says what each means.

    After an ECC event the counters are read at once. A card whose driver has no events is left out without a word.
    """

    def __init__(self, nvml: Any, cards: Sequence[Card]) -> None:
        self._nvml = nvml
        self._cards = {card.address: card for card in cards if not card.lost}
        self._set: Any = None
        with contextlib.suppress(nvml.NVMLError):
            self._set = call(nvml, "nvmlEventSetCreate")
        registered = [card for card in self._cards.values() if self._set is not None and self._register(card)]
        if not registered:
            self.close()

    def read(self) -> list[tuple[str, str, float, str]]:
        """(device, metric, value, unit) of what happened since the last call. Never waits.

        Raises NVMLError: a card was lost, and with it the events of all; what is left needs an Events of its own. From
        then on there is nothing to read.
        """
        found: list[tuple[str, str, float, str]] = []
        while self._set is not None and len(found) < _MOST:
            try:
                event = call(self._nvml, "nvmlEventSetWait_v2", self._set, 0)
            except self._nvml.NVMLError as error:
                if error.value != TIMEOUT:
                    self.close()
                    raise
                break
            card = self._cards.get(ctypes.cast(event.device, ctypes.c_void_p).value)
            if card is None:
                continue
            if event.eventType & self._nvml.nvmlEventTypeXidCriticalError:
                instance = "" if event.gpuInstanceId == _ANY else f"/mig{event.gpuInstanceId}"
                found.append((f"{card.name}{instance}", XID, float(event.eventData), "1"))
                continue
            for question in ECC:
                with contextlib.suppress(self._nvml.NVMLError):
                    found += [(card.name, *field) for field in card.ask(question) or ()]
        return found

    def close(self) -> None:
        taken, self._set = self._set, None
        if taken is not None:
            with contextlib.suppress(self._nvml.NVMLError):
                call(self._nvml, "nvmlEventSetFree", taken)

    def _register(self, card: Card) -> bool:
        nvml = self._nvml
        wanted = nvml.nvmlEventTypeXidCriticalError
        wanted |= nvml.nvmlEventTypeSingleBitEccError | nvml.nvmlEventTypeDoubleBitEccError
        with contextlib.suppress(nvml.NVMLError):
            if wanted := wanted & call(nvml, "nvmlDeviceGetSupportedEventTypes", card.handle):
                call(nvml, "nvmlDeviceRegisterEvents", card.handle, wanted, self._set)
                return True
        return False
