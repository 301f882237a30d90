"""Putting traffic and models back to what they were: after a failed step, a signal, or a crash.

The journal alone says what to do. Of each target only the oldest state matters: the states between are not walked
through again, because some of them are what went wrong. Versions that have to serve come first, then the traffic, then
the versions that have to go. Each step is journaled too: running it twice does nothing twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from harness.ingress import Ingress, OwnSplit
from harness.run.journal import Entry, Journal, not_put_back
from harness.run.swap import SWAP
from harness.run.world import apply_versions
from harness.triton import Control, access, write_config

Say = Callable[[str], None]


@dataclass(frozen=True)
class Live:
    """What a run that is still alive holds: routers by target, connections by URL."""

    ingresses: dict[str, Ingress] = field(default_factory=dict)
    controls: dict[str, Control] = field(default_factory=dict)


def put_back(journal: Journal, say: Say, live: Live | None = None) -> list[str]:
    """Bring every target to the state that it had before the run's first action on it.

    Returns one line for each thing that could not be put back, with the command that finishes it. It does not stop at
    the first: a dead Triton is no reason to leave the traffic where it is.
    """
    return _PutBack(journal, say, live or Live()).all()


class _PutBack:
    def __init__(self, journal: Journal, say: Say, live: Live) -> None:
        self._journal, self._say, self._live = journal, say, live
        self._failures: dict[str, str] = {}
        entries = journal.entries()
        self._pending = not_put_back(entries)
        if any(entry.action == "server.start" for entry in entries):
            # The run's own server ends with it, and its models with the server.
            own = ("models.set", SWAP, "repository.sync")
            self._pending = [entry for entry in self._pending if entry.action not in own]

    def all(self) -> list[str]:
        for entry in self._oldest(SWAP):
            self._step(entry, self._undone(entry), self._swap)
        for entry in self._oldest("models.set"):
            self._step(entry, [], self._serve_again)
        for entry in self._oldest("route.set"):
            self._step(entry, self._undone(entry), self._route)
        for entry in self._oldest("models.set"):
            self._step(entry, self._undone(entry), self._models)
        for entry in self._oldest("config.write"):
            self._step(entry, self._undone(entry), self._config)
        for entry in self._oldest("repository.sync"):
            self._say(f"{entry.target}: what was synced stays: a version never changes, and only loaded ones serve")
        return list(self._failures.values())

    def _oldest(self, action: str) -> list[Entry]:
        """The first pending action on each target; `not_put_back` lists the newest first."""
        return list({entry.target: entry for entry in self._pending if entry.action == action}.values())

    def _undone(self, oldest: Entry) -> list[int]:
        same = (oldest.action, oldest.target)
        return [entry.seq for entry in self._pending if (entry.action, entry.target) == same]

    def _step(self, entry: Entry, undoes: list[int], undo: Callable[[Entry], str]) -> None:
        key = f"{entry.action} {entry.target}"
        if key in self._failures:
            return
        try:
            with self._journal.action(entry.action, entry.target, wanted=entry.before, undoes=undoes):
                done = undo(entry)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next target must get its turn
            self._failures[key] = f"{key}: {error}; to finish: triton-canary recover {self._journal.folder}"
            return
        if done:
            self._say(done)

    def _serve_again(self, entry: Entry) -> str:
        """Versions that the traffic will need, beside those that have it now."""
        url, model = _model(entry)
        control = self._control(url)
        served = control.loaded(model)
        if set(entry.before) <= set(served):
            return ""
        apply_versions(control, model, sorted({*entry.before, *served}))
        return f"{model}: versions {entry.before} serve again"

    def _swap(self, entry: Entry) -> str:
        """What does not fit beside the others leaves before they come."""
        url, model = _model(entry)
        control = self._control(url)
        served = set(control.loaded(model))
        if served - set(entry.before):
            apply_versions(control, model, sorted(served & set(entry.before)))
        apply_versions(control, model, entry.before)
        return f"{model}: exactly versions {entry.before} serve, as before"

    def _route(self, entry: Entry) -> str:
        ingress = self._live.ingresses.get(entry.target)
        if ingress is None:
            ingress = OwnSplit(Path(entry.target.removeprefix(OwnSplit.SCHEME)))
        ingress.set(entry.before)
        return f"{100 * (1 - entry.before):.3g} % to the baseline, as before"

    def _models(self, entry: Entry) -> str:
        url, model = _model(entry)
        apply_versions(self._control(url), model, entry.before)
        return f"{model}: exactly versions {entry.before} serve, as before"

    @staticmethod
    def _config(entry: Entry) -> str:
        write_config(Path(entry.target), entry.before)
        return f"{entry.target}: as before"

    def _control(self, url: str) -> Control:
        if url not in self._live.controls:
            # After a crash nobody holds the run's headers any more.
            self._live.controls[url] = Control(url, access(environment=os.environ))
        return self._live.controls[url]


def _model(entry: Entry) -> tuple[str, str]:
    url, _, model = entry.target.rpartition("/")
    return url, model
