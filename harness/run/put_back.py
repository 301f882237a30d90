"""Putting traffic and models back to what they were: after a failed step, a signal, or a crash.

The journal alone says what to do, newest action first, so that traffic leaves the candidate before the candidate is
unloaded. Each step is journaled too: running it twice does nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from harness.errors import CanaryError
from harness.ingress import Ingress, OwnSplit
from harness.run.journal import Entry, Journal, not_put_back
from harness.run.world import apply_versions
from harness.triton import Control, write_config

Say = Callable[[str], None]


def put_back(journal: Journal, say: Say, live: Mapping[str, Ingress] | None = None) -> list[str]:
    """Undo what is not undone yet. `live` holds the routers of a run that is still alive, by target.

    Returns one line for each thing that could not be put back, with the command that finishes it; it does not stop
    at the first, because a dead Triton is no reason to leave the traffic where it is.
    """
    failures: list[str] = []
    entries = journal.entries()
    server_was_ours = any(entry.action == "server.start" for entry in entries)
    for entry in not_put_back(entries):
        undo = _UNDO.get(entry.action)
        if undo is None:
            continue
        if entry.action == "models.set" and server_was_ours:
            say(f"{_model(entry)[1]}: nothing to unload, its server is the run's own and ends with it")
            continue
        try:
            with journal.action(entry.action, entry.target, before=entry.wanted, wanted=entry.before, undoes=entry.seq):
                say(undo(entry, live or {}))
        except CanaryError as error:
            failures.append(
                f"{entry.action} {entry.target}: {error}; to finish: triton-canary recover {journal.folder}"
            )
        except OSError as error:
            failures.append(f"{entry.action} {entry.target}: {error.strerror}: {error.filename}")
    return failures


def _undo_route(entry: Entry, live: Mapping[str, Ingress]) -> str:
    ingress = live.get(entry.target) or OwnSplit(Path(entry.target.removeprefix(OwnSplit.SCHEME)))
    ingress.set(entry.before)
    return f"traffic: {1 - entry.before:.0%} to the baseline"


def _undo_models(entry: Entry, _live: Mapping[str, Ingress]) -> str:
    url, model = _model(entry)
    apply_versions(Control(url), model, entry.before)
    return f"{model}: versions {entry.before} serve, as before"


def _undo_config(entry: Entry, _live: Mapping[str, Ingress]) -> str:
    write_config(Path(entry.target), entry.before)
    return f"{entry.target}: as before"


def _model(entry: Entry) -> tuple[str, str]:
    url, _, model = entry.target.rpartition("/")
    return url, model


_UNDO: dict[str, Callable[[Entry, Mapping[str, Ingress]], str]] = {
    "route.set": _undo_route,
    "models.set": _undo_models,
    "config.write": _undo_config,
}
