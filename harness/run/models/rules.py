"""What a change of versions may do, how it is checked, and what it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Persist = Literal["no", "write", "show"]


@dataclass(frozen=True, slots=True)
class Rules:
    """`persist`: config.pbtxt is made to say the same, so that a restart keeps it, or the edit is only shown.

    `probe`: each version that shall serve answers a probe. `versioned_clients`: the operator's word that every client
    names its version, so a higher version may become READY while requests arrive. `dependents`: ensembles that use the
    model may be changed with it. `window_s`: how long the counters are watched for requests. `needs_bytes`: what a
    version that joins takes of each device, where the operator knows better than what was measured. `unfit`: it may be
    loaded although it does not fit beside what serves.
    """

    persist: Persist = "no"
    probe: bool = True
    versioned_clients: bool = False
    dependents: bool = False
    window_s: float = 2.0
    needs_bytes: float | None = None
    unfit: bool = False


@dataclass(frozen=True, slots=True)
class Changed:
    """READY versions of `model` by server URL, before and after; `took_s` is the whole change over all servers.

    `called`: servers that were sent anything. `draining`: versions that left and still finish their last requests.
    `notes`: what could not be checked or done, one line each. `diff`: the edit of config.pbtxt that was not written.
    """

    model: str
    before: Mapping[str, tuple[int, ...]]
    after: Mapping[str, tuple[int, ...]]
    took_s: float
    called: tuple[str, ...] = ()
    draining: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    diff: str = ""
