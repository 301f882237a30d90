"""What the metrics pages of a run leave unsaid of the engines that serve its arms: told before anybody misses it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from harness.errors import CanaryError
from harness.run.put_back import Say
from harness.telemetry import Page, SourceUnavailable, Value, unsaid
from harness.triton import Control
from harness.types import Arm

Served = tuple[str, dict[str, Any]]
"""`model/version`, and its configuration in the JSON form."""


class Engines:
    """`look` as often as other versions may serve; `notes` holds each thing once, and `say` was told it."""

    def __init__(self, pages: Sequence[str], say: Say) -> None:
        self._pages, self._say = tuple(pages), say
        self.notes: list[str] = []

    def look(self, arms: Iterable[tuple[Arm, Control | None]]) -> None:
        """Nothing is said of a server that cannot be asked, nor of engines while a page does not answer: that is told
        where the page is read.
        """
        served = [one for arm, control in arms if control is not None for one in _served(arm, control)]
        wanted = any(unsaid(config, device, None) for device, config in served)
        shown = _shown(self._pages) if wanted or len(self._pages) > 1 else []
        if shown is None:
            return
        self._note(_twice(shown))
        values = [value for _, page in shown for value in page] if self._pages else None
        self._note(unsaid(config, device, values) for device, config in served)

    def _note(self, notes: Iterable[str | None]) -> None:
        for note in notes:
            if note and note not in self.notes:
                self.notes.append(note)
                self._say(note)


def _served(arm: Arm, control: Control) -> list[Served]:
    """The model of an arm, or the steps of its ensemble: those that serve now."""
    found: list[Served] = []
    with suppress(CanaryError):
        ready = control.loaded(arm.model)
        version = arm.version or max(ready, default=0)
        if version not in ready:
            return []
        for model, number in control.steps(arm.model, version) or ((arm.model, version),):
            found.append((f"{model}/{number}", control.config(model, number)))
    return found


def _shown(urls: Sequence[str]) -> list[tuple[str, list[Value]]] | None:
    """What each page holds now; None where one does not answer."""
    found = []
    for url in urls:
        page = Page(url)
        try:
            found.append((url, page.shown()))
        except SourceUnavailable:
            return None
        finally:
            page.close()
    return found


def _twice(shown: Sequence[tuple[str, list[Value]]]) -> Iterable[str]:
    """One line a page that speaks of what an earlier one speaks of."""
    owners: dict[tuple[str, str], str] = {}
    for url, values in shown:
        things = {(value.source, value.device) for value in values}
        both = sorted(thing for thing in things if thing in owners)
        if both:
            names = ", ".join(device for _, device in both)
            yield f"{url} speaks of {names} as {owners[both[0]]} does, which is read: their numbers are not mixed"
        owners.update({thing: url for thing in things if thing not in owners})
