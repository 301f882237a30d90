"""What a run's journal still asks to be put back, and on whose servers and routers: pure, from its entries."""

from __future__ import annotations

from collections.abc import Sequence

from harness.ingress import OwnSplit
from harness.run.hooks import HOOK
from harness.run.journal import Entry, not_put_back

SWAP = "models.swap"
MODELS = ("models.set", SWAP)
ROUTES = ("route.set", "route.header")
SYNC = "repository.sync"
UNDONE = (HOOK, *MODELS, *ROUTES, "config.write")
"""Actions that are put back. Servers and routers that a run starts itself end with it, and drains change nothing."""


def pending(entries: Sequence[Entry], live: frozenset[str] = frozenset()) -> list[Entry]:
    """What is to be put back, or spoken of (SYNC), newest first. Not what ended with the run: the models of a Triton of
    its own, and the split of a router of its own, unless that is among the `live`.
    """
    started = {entry.action for entry in entries}
    found = []
    for entry in not_put_back(list(entries)):
        if entry.action not in (*UNDONE, SYNC) or not isinstance(entry.target, str):
            continue
        if entry.action in (*MODELS, SYNC) and "server.start" in started:
            continue
        if _at_own_router(entry, started) and entry.target not in live:
            continue
        found.append(entry)
    return found


def owes(entries: Sequence[Entry]) -> bool:
    """Whether anything is to be put back."""
    return any(entry.action in UNDONE for entry in pending(entries))


def targets(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Triton's addresses and the routers that these actions changed, each once: what a lease is of."""
    found = []
    for entry in entries:
        if entry.action in MODELS:
            found.append(entry.target.rpartition("/")[0])
        elif entry.action in ROUTES and not entry.target.startswith(OwnSplit.SCHEME):
            found.append(entry.target)
    return tuple(dict.fromkeys(found))


def _at_own_router(entry: Entry, started: set[str]) -> bool:
    """The harness's own split is a file, which stays."""
    return entry.action in ROUTES and "ingress.start" in started and not entry.target.startswith(OwnSplit.SCHEME)
