"""Requests that go on while something is changed: the proof that nobody noticed."""

from __future__ import annotations

import threading
import time
from typing import Any

from harness.errors import CanaryError
from harness.triton import Control
from harness.triton.probe import fault, probe_inputs

_MOST_ERRORS = 5
PATIENCE_S = 60.0


class Steady:
    """Probes of one version, `rate` a second at most, one after the other, from a thread of its own.

    start() returns after the first answer, facts() after one more: the requests cover all that lies between.
    """

    def __init__(self, control: Control, model: str, version: int, rate: float) -> None:
        self._control, self._model, self._version, self._rate = control, model, version, rate
        self._thread = threading.Thread(target=self._run, name=f"steady v{version}", daemon=True)
        self._end = threading.Event()
        self._told = threading.Condition()
        self._sent = self._failed = 0
        self._slowest_s = 0.0
        self._errors: list[str] = []

    def start(self) -> None:
        self._thread.start()
        self._one_more(0)

    def stop(self) -> None:
        """May be called twice, and without start()."""
        self._end.set()
        if self._thread.ident is not None:
            self._thread.join(PATIENCE_S)
        self._control.close()

    def facts(self) -> dict[str, Any]:
        """Raw counts up to now. `covers`: requests were answered before start() returned, and after this call began."""
        # The one that is under way may have been sent before: the second from now was not.
        covers = self._one_more(self._sent + 1)
        with self._told:
            return {
                "version": self._version, "rate": self._rate, "sent": self._sent, "failed": self._failed,
                "errors": list(self._errors), "slowest_s": self._slowest_s, "covers": covers,
            }  # fmt: skip

    def _one_more(self, sent: int) -> bool:
        with self._told:
            return self._told.wait_for(lambda: self._sent > sent, PATIENCE_S)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._end.is_set():
            began = time.monotonic()
            error = self._ask()
            took_s = time.monotonic() - began
            with self._told:
                self._sent += 1
                self._failed += bool(error)
                self._slowest_s = max(self._slowest_s, took_s)
                if error and error not in self._errors and len(self._errors) < _MOST_ERRORS:
                    self._errors.append(error)
                self._told.notify_all()
            due = max(due + 1 / self._rate, began)
            self._end.wait(max(0.0, due - time.monotonic()))

    def _ask(self) -> str:
        """What was wrong, "" if nothing was."""
        try:
            if not hasattr(self, "_info"):
                self._info = self._control.metadata(self._model, self._version)
                self._inputs = probe_inputs(self._info, seed=0)
            answer = self._control.infer(self._model, self._version, self._inputs)
        except CanaryError as error:
            return str(error)
        return fault(answer, self._info, self._version)
