"""After a failure, a signal or a crash: a change of what serves that was cut off goes back to what was before it.

Changes that had come to their end stay: each was verified, and the version that it brought or took is whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import CanaryError, WorldError
from harness.run.journal import Journal
from harness.run.lease import Lost
from harness.run.models import Site, open_site, restore
from harness.run.models.history import history, models
from harness.run.models.hold import holds
from harness.run.owed import ROUTES, pending
from harness.run.put_back import Live, put_back
from harness.triton import access

if TYPE_CHECKING:
    from harness.run.operations.course import Place, Say


def undo_what_was_cut_off(places: Iterable[Place], say: Say) -> list[str]:
    """Of the servers that are not the run's own; one line for each thing that could not be undone."""
    return [line for place in places if place.server is None for line in _undo(place.site, say, place.known)]


def undo_routes(journal: Journal, say: Say) -> list[str]:
    """Of routers that are not the run's own: where a header led before. The same lines."""
    if not any(entry.action in ROUTES for entry in pending(journal.entries())):
        return []
    return put_back(journal, say, Live(fences=[fence_of(journal)]))


def fence_of(journal: Journal) -> Callable[[], None]:
    """Before something is put back: raises Lost where somebody else has had it meanwhile. That no lease can be written
    holds nothing.
    """

    def fence() -> None:
        try:
            journal.fence()
        except Lost:
            raise
        except WorldError:
            return

    return fence


def recover_operation(folder: Path, meta: dict[str, Any], say: Say) -> list[str]:
    """The same from the folder of an operation that died. Running it again is harmless."""
    scenario = meta.get("scenario", {})
    failures = []
    for place in scenario.get("regions") or [scenario.get("target", {})]:
        if not place.get("url") or not place.get("repository"):
            continue  # the run's own server ended with it; where there is no repository it sent a load, and no more
        try:
            with open_site([place["url"]], access(environment=os.environ), Path(place["repository"]), say=say) as site:
                failures += _undo(site, say)
        except CanaryError as error:
            failures.append(f"{place['url']}: {error}; to finish: triton-canary recover {folder}")
    return failures + undo_routes(Journal(folder), say)


def _undo(site: Site, say: Say, known: int = 0) -> list[str]:
    """Of the models that were touched after the journal's first `known` actions: no other operator's."""
    failures = []
    entries = site.journal.entries()
    for model in models(entries[known:]):
        if not history(entries, model).unfinished and not holds(entries, model):
            continue
        try:
            for restored in restore(site, model):
                for line in restored.done:
                    say(f"{model}: {line}")
        except CanaryError as error:
            urls = " ".join(f"--url {control.url}" for control in site.servers)
            failures.append(f"{error}; to finish: triton-canary models restore {model} {urls}")
    return failures
