"""What a run's journal still asks to be put back, and on whose servers and routers: pure, from its entries."""

from __future__ import annotations

from collections.abc import Sequence

from harness.ingress import OwnSplit
from harness.run.hooks import HOOK
from harness.run.journal import Entry, not_put_back
from harness.run.placed import PLACE

SWAP = "models.swap"
MODELS = ("models.set", SWAP)
ROUTES = ("route.set", "route.header")
SYNC = "repository.sync"
UNDONE = (HOOK, *MODELS, *ROUTES, "config.write", PLACE)
"""Actions that are put back. Servers and routers that a run starts itself end with it, and drains change nothing."""


def pending(entries: Sequence[Entry], live: frozenset[str] = frozenset()) -> list[Entry]:
    """What is to be put back, or spoken of (SYNC), newest first. Not what ended with the run, or ends with a server
    that is stopped: the models of a Triton of its own, and the split of a router of its own, unless that is among the
    `live`.
    """
    began = {entry.action for entry in entries}
    left = [entry for entry in not_put_back(list(entries)) if isinstance(entry.target, str)]
    stopped = set(started(left))
    found = []
    for entry in left:
        if entry.action not in (*UNDONE, SYNC):
            continue
        if entry.action in (*MODELS, SYNC) and ("server.start" in began or server(entry) in stopped):
            continue
        if _at_own_router(entry, began) and entry.target not in live:
            continue
        found.append(entry)
    return found


def started(entries: Sequence[Entry]) -> dict[str, list[int]]:
    """Servers that a command of the run started: they did not run before, and are stopped again. With the numbers of
    the actions that end with them.
    """
    known = [entry for entry in entries if isinstance(entry.target, str)]
    oldest = {thing(entry): entry for entry in sorted(known, key=lambda entry: -entry.seq) if entry.action == HOOK}
    urls = [url for url, entry in oldest.items() if entry.target == f"start {url}" and entry.before]
    return {url: [e.seq for e in known if e.action in MODELS and server(e) == url] for url in urls}


def thing(entry: Entry) -> str:
    """What was changed. Commands that start and stop one server, "start grpc://host:8001", change that."""
    url = entry.target.rpartition(" ")[2]
    return url if entry.action == HOOK and "://" in url else entry.target


def server(entry: Entry) -> str:
    """Whose versions were changed."""
    return entry.target.rpartition("/")[0]


def owes(entries: Sequence[Entry]) -> bool:
    """Whether anything is to be put back."""
    return any(entry.action in UNDONE for entry in pending(entries))


def targets(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Triton's addresses and the routers that these actions changed, each once: what a lease is of."""
    found = []
    for entry in entries:
        if entry.action in MODELS:
            found.append(server(entry))
        elif entry.action in ROUTES and not entry.target.startswith(OwnSplit.SCHEME):
            found.append(entry.target)
    return tuple(dict.fromkeys(found))


def _at_own_router(entry: Entry, began: set[str]) -> bool:
    """The harness's own split is a file, which stays."""
    return entry.action in ROUTES and "ingress.start" in began and not entry.target.startswith(OwnSplit.SCHEME)
