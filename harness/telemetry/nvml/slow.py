"""The questions that NVML takes long to answer, at a pace of their own."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from harness.telemetry.nvml import mig
from harness.telemetry.nvml.card import Card, Question
from harness.telemetry.nvml.cards import Cards
from harness.telemetry.nvml.fields import SLOW
from harness.telemetry.nvml.processes import Processes

Found = tuple[str, str, float, str]


class Slow:
    """Asks every `every_s`: in `take`, or between `start` and `stop` in a thread of its own.

    `asking` is held while a question is under way, one question at a time: who holds it may close NVML.
    """

    def __init__(self, cards: Cards, every_s: float, clock: Callable[[], float]) -> None:
        self.asking = threading.Lock()
        self._cards, self._every_s, self._clock = cards, every_s, clock
        self._due_s = clock()
        self._found: deque[Found] = deque()
        self._processes: dict[str, Processes] = {}
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def start(self) -> None:
        """A second call does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="nvml-slow", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Waits for the question that is under way."""
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        self._stopping.clear()

    def take(self) -> list[Found]:
        """(device, metric, value, unit) of what was answered since the last call."""
        if self._thread is None and self._clock() >= self._due_s:
            self._round()
        return [self._found.popleft() for _ in range(len(self._found))]

    def _run(self) -> None:
        while not self._stopping.wait(max(0.0, self._due_s - self._clock())):
            try:
                self._round()
            except Exception as error:  # noqa: BLE001 - nobody would miss a thread that ended
                self._cards.note(f"NVML: {type(error).__name__}: {error}")

    def _round(self) -> None:
        late = (self._clock() - self._due_s) // self._every_s
        self._due_s += self._every_s * (max(0.0, late) + 1)
        for card in self._cards.all:
            with self.asking, contextlib.suppress(card.nvml.NVMLError):
                if not card.lost:
                    card.instances = mig.instances(card.nvml, card)
            for each in (card, *card.instances):
                for question in SLOW:
                    self._found.extend((each.name, *field) for field in self._ask(each, question) or ())
                # Of a card that is cut up the processes are those of its instances.
                if each is not card or not card.instances:
                    self._found.extend(self._processes.setdefault(each.name, Processes()).read(each, self._ask))

    def _ask(self, card: Card, question: Question) -> Any:
        """None where there is no answer now."""
        with self.asking, contextlib.suppress(card.nvml.NVMLError):
            return None if card.lost else card.ask(question)
        return None
