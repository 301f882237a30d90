"""The source of GPU readings: which questions are asked of which card, and when."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

from harness.telemetry.nvml import about
from harness.telemetry.nvml.binding import LACKING, LOST
from harness.telemetry.nvml.card import Card
from harness.telemetry.nvml.cards import Cards
from harness.telemetry.nvml.events import Events
from harness.telemetry.nvml.fast import NAME, frame_of
from harness.telemetry.nvml.slow import Slow
from harness.telemetry.source import SourceUnavailable, Value

SLOW_S = 1.0
RETRY_S = 1.0
"""How often a lost card is asked again, and NVML opened anew once no card answers."""
EVENTS_S = 0.1
"""How often events are taken over, at most: the driver keeps them until then."""
LOST_METRIC = "gpu.lost"


class Nvml:
    """Source "nvml", devices gpu0, gpu1, ..., and gpu0/mig3 for a MIG instance (see `mig`), gpu0:... for a process.

    At every poll, microseconds each:
    gpu.memory.used, free, total   bytes; where the driver tells what it keeps for itself, that is
                                   gpu.memory.reserved, and not part of used
    gpu.utilization                ratio of the time in which any kernel ran (not how busy it kept the GPU)
    gpu.memory.utilization         ratio of the time in which memory was read or written
    gpu.power W, gpu.energy J (since the driver was loaded), gpu.temperature C, gpu.clock.sm Hz, gpu.clock.memory Hz
    gpu.xid                        the number of an Xid error, one reading an event
    gpu.throttle.*                 0 or 1, of the reasons that the driver can tell; told when it changes, and every
                                   `slow_s`

    Every `slow_s`: gpu.power.limit W, gpu.temperature.memory C, gpu.pcie.rx and tx bytes/s, gpu.ecc.corrected and
    uncorrected (since the driver was loaded), gpu.memory.process and its peak (see `processes`), and which MIG
    instances there are. `apart`: a thread asks them, so that a slow answer delays no fast one; a reading's
    time is then that of the poll that took it over, up to one poll late.

    A field that a card or driver lacks is absent, never 0, and is not asked again until NVML is opened anew. A card
    that does not answer any more has one reading at every poll, gpu.lost 1, until it does; the others go on. Once none
    answers (a driver reset) NVML is opened anew. `read` raises SourceUnavailable only where no GPU was ever seen.
    """

    name = NAME

    def __init__(
        self, slow_s: float = SLOW_S, *, apart: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:  # fmt: skip
        self._slow_s, self._apart, self._clock = slow_s, apart, clock
        self._cards = Cards()
        self._slow = Slow(self._cards, slow_s, clock)
        self._events: Events | None = None
        self._reopen_s = self._renew_s = self._look_s = clock()

    @property
    def notes(self) -> tuple[str, ...]:
        """What was lost and came back, in the order of appearance."""
        return tuple(self._cards.notes)

    def missing(self) -> str | None:
        """Why there is nothing to read, in one line; None where there is a GPU."""
        try:
            self._cards.open()
        except SourceUnavailable as error:
            return str(error)
        return None

    def devices(self) -> list[dict[str, Any]]:
        """For each GPU `index` and what it tells of `name`, `uuid`, `memory_bytes`, `driver`, `cuda` (the newest that
        the driver has), `vbios`; where it is cut by MIG `mig`: `device`, `uuid`, `memory_bytes`, `multiprocessors` and
        `slices` of each instance.
        """
        return [] if self.missing() is not None else about.devices(self._cards)

    def read(self) -> Iterable[Value]:
        """To be gone through once. What was polled is known by now, and becomes readings as one goes."""
        if not self._cards.all:
            self._cards.open()
        if self._apart:
            self._slow.start()
        now_s = self._clock()
        values = self._all_fast(now_s)
        if all(card.lost for card in self._cards.all) and now_s >= self._reopen_s:
            self._reopen_s = now_s + RETRY_S
            if self._reopen():
                values = self._all_fast(now_s)
        if now_s >= self._look_s:
            self._look_s = now_s + EVENTS_S
            values.append(self._happened(now_s))
        values.append([Value(NAME, *found) for found in self._slow.take()])
        return chain.from_iterable(values)

    def close(self) -> None:
        """A later `read` opens NVML anew, and finds what is there then."""
        self._slow.stop()
        self._close()
        self._cards.all = ()

    def _close(self) -> None:
        self._let_go_of_events()
        self._cards.close()

    def _reopen(self) -> bool:
        """After a driver reset handles are void until NVML is opened anew."""
        with self._slow.asking:
            self._close()
            try:
                self._cards.open()
            except SourceUnavailable:
                return False
        return True

    def _all_fast(self, now_s: float) -> list[Iterable[Value]]:
        values: list[Iterable[Value]] = []
        for card in self._cards.all:
            if not card.lost or (now_s >= card.retry_s and card.handle is not None and self._cards.is_open):
                values.append(self._fast(card, now_s))
            if card.lost:
                values.append((Value(NAME, card.name, LOST_METRIC, 1.0, "1"),))
                continue
            values += [self._fast(instance, now_s) for instance in card.instances]
        return values

    def _fast(self, card: Card, now_s: float) -> Iterable[Value]:
        """Sets `card.lost`: whether it answers."""
        frame, failed = frame_of(card)
        answered, now_failed = frame.ask()
        if now_failed:
            failed += now_failed.values()
        why = next((code for code in failed if code in LOST), None)
        if why is None and frame.size == len(now_failed):
            why = failed[-1] if failed else 0
        was = card.lost
        card.lost = "" if why is None else str(card.nvml.NVMLError(why)) if why else "it answers nothing"
        if failed and not LACKING.isdisjoint(failed):
            card.forget()
        if card.lost:
            card.retry_s = now_s + RETRY_S
            card.forget()
            for instance in card.instances:
                instance.lost = card.lost
        if card.lost and not was:
            self._cards.note_lost(card)
        elif was and not card.lost:
            self._cards.note_back(card)
            self._let_go_of_events()
        return () if card.lost else frame.values(answered, now_failed, now_s, self._slow_s)

    def _happened(self, now_s: float) -> list[Value]:
        """A lost card silences the events of all: those of the others are asked for anew."""
        if not self._cards.is_open:
            return []
        if self._events is None:
            self._events = Events(self._cards.nvml, self._cards.all)
        try:
            return [Value(NAME, *each) for each in self._events.read()]
        except self._cards.nvml.NVMLError:
            if now_s >= self._renew_s:
                self._renew_s = now_s + RETRY_S
                self._events = Events(self._cards.nvml, self._cards.all)
            return []

    def _let_go_of_events(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None


def memory_of_all(values: Iterable[Value], metric: str = "gpu.memory.used") -> float:
    """Bytes over all GPUs; a MIG instance's are its GPU's. Raises SourceUnavailable: one of them does not answer."""
    cards = [value for value in values if "/" not in value.device]
    if lost := [value.device for value in cards if value.metric == LOST_METRIC]:
        raise SourceUnavailable(f"NVML: {' and '.join(lost)} does not answer any more")
    return sum(value.value for value in cards if value.metric == metric)
