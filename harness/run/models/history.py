"""What a journal says of one model: pure, from its entries.

A change of a model over all servers of a site is one action `models.change` around its steps (`models.set` on each
server, `config.write`, `version.move`, ...). Where it is neither done nor undone it was cut off, and its `before` is
what to go back to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.run.journal import Entry

CHANGE = "models.change"
TUNE = "models.tune"
HOLD = "models.hold"
STEPS = ("models.set", TUNE, "config.write", "version.move", "version.archive", "version.remove")
Served = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Past:
    """A change with its steps. `before`, `wanted`: READY versions by server URL."""

    entry: Entry
    before: Served
    wanted: Served
    steps: tuple[Entry, ...] = ()

    @property
    def config(self) -> Entry | None:
        """The first write of config.pbtxt: its `before` is the text that there was."""
        return next((step for step in self.steps if step.action == "config.write" and step.undoes is None), None)

    def tuned(self, when: Literal["before", "wanted"]) -> Mapping[str, Any]:
        """The dynamic batcher's setting by server URL, of a change that was about it; {} of any other."""
        said = getattr(self.entry, when)
        found = said.get(TUNE, {}) if isinstance(said, dict) else {}
        return dict(found)

    @property
    def was_nothing(self) -> bool:
        """All was as wanted: an undo after it means the change before."""
        return self.before == self.wanted and not self.steps and set(self.entry.wanted or ()) <= {"served"}


@dataclass(frozen=True, slots=True)
class History:
    """`last`: the last change that was done. `unfinished`: those that were cut off since, oldest first."""

    last: Past | None = None
    unfinished: tuple[Past, ...] = field(default=())

    @property
    def wanted(self) -> Served | None:
        """What should serve, by server: None where the journal does not know."""
        if self.unfinished:
            return self.unfinished[0].before
        return self.last.wanted if self.last else None


def history(entries: Sequence[Entry], model: str) -> History:
    """A restore that was cut off counts as not begun: what it wanted is what is still wanted."""
    last, unfinished = None, list[Past]()
    for past in _changes(entries, model):
        if past.entry.state == "done":
            if not (last and not unfinished and past.was_nothing and past.wanted == last.wanted):
                last = past
            unfinished = []
        elif _pending(past.steps) and not (past.entry.wanted or {}).get("restores"):
            unfinished.append(past)
    return History(last, tuple(unfinished))


def models(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Every model that the journal knows, in the order of their first change."""
    return tuple(dict.fromkeys(entry.target for entry in entries if entry.action in (CHANGE, HOLD)))


def setting_of(tuned: Mapping[str, Any], url: str) -> tuple[bool, Any]:
    """Whether the journal knows the setting of `url` (a server that joined later has what all others have), and it."""
    if url in tuned:
        return True, tuned[url]
    different = [section for section in tuned.values() if section != next(iter(tuned.values()))]
    return (True, next(iter(tuned.values()))) if tuned and not different else (False, None)


def for_server(served: Served, url: str) -> tuple[int, ...] | None:
    """What `url` should serve; a server that joined later, what all others do. None: the journal cannot tell."""
    if url in served:
        return served[url]
    sets = set(served.values())
    return sets.pop() if len(sets) == 1 else None


def _changes(entries: Sequence[Entry], model: str) -> list[Past]:
    found: list[Past] = []
    for position, entry in enumerate(entries):
        if entry.action != CHANGE or entry.target != model:
            continue
        steps: list[Entry] = []
        for step in entries[position + 1 :]:
            if step.action == CHANGE:
                break
            steps.append(step)
        found.append(Past(entry, _served(entry.before), _served(entry.wanted), tuple(steps)))
    return found


def _pending(steps: Sequence[Entry]) -> list[Entry]:
    undone = {seq for step in steps if step.undoes and step.state == "done" for seq in step.undoes}
    return [step for step in steps if step.action in STEPS and step.undoes is None and step.seq not in undone]


def _served(value: Any) -> Served:
    served = value.get("served", {}) if isinstance(value, dict) else {}
    return {str(url): tuple(int(version) for version in versions) for url, versions in served.items()}
