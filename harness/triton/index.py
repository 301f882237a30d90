"""Triton's repository index as data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.triton.transport import one_line

READY = "READY"
LOADING = "LOADING"
UNLOADING = "UNLOADING"
UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class VersionState:
    """One version of a model. `state`: READY, LOADING, UNLOADING or UNAVAILABLE.

    `reason` is Triton's and is kept by Triton: the traceback of a load that failed stays there through later
    successful loads of other versions; a version that was unloaded says "unloaded".
    """

    version: int
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Index:
    """Model name to the states of the versions that Triton has ever tried, in the order of their numbers.

    A model that lies in the repository and was never loaded has no versions here, whatever its directory
    holds.
    """

    models: Mapping[str, tuple[VersionState, ...]]

    @staticmethod
    def of(rows: Iterable[Mapping[str, Any]]) -> Index:
        """From the rows of Triton's answer: `name`, and of a known version `version`, `state`, `reason`."""
        models: dict[str, list[VersionState]] = {}
        for row in rows:
            states = models.setdefault(str(row["name"]), [])
            if row.get("version"):
                reason = one_line(str(row.get("reason", "")))
                states.append(VersionState(int(row["version"]), str(row.get("state", "")), reason))
        return Index({name: tuple(sorted(states, key=lambda s: s.version)) for name, states in models.items()})

    def states(self, model: str) -> tuple[VersionState, ...]:
        return self.models.get(model, ())

    def ready(self, model: str) -> tuple[int, ...]:
        return self.in_state(model, READY)

    def in_state(self, model: str, *wanted: str) -> tuple[int, ...]:
        return tuple(state.version for state in self.states(model) if state.state in wanted)

    def of_version(self, model: str, version: int) -> VersionState | None:
        return next((state for state in self.states(model) if state.version == version), None)
