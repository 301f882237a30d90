"""A limit on memory in an operation: what was read in each of its windows of time, held against it.

By the same rules as a canary's gate on `memory.peak` (`amounts.memory`): one reading above the limit breaks it, and it
is kept only where the readings cover every window. A window that was not read never passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.judge.amounts.memory import Held, figures, held, limit_text, of_facts
from harness.types import Finding, Gate, Outcome

Facts = Mapping[str, Any]
METRIC = "memory.peak"
NOT_READ: Facts = {"missing": "nobody read it"}


def gate_of(limit: Facts) -> Gate:
    """`limit` as observations.json has it: {"limit": 0.9, "limit_kind": "share"}."""
    return Gate(METRIC, limit=float(limit["limit"]), limit_kind=limit["limit_kind"])


def limit_words(limit: Facts) -> str:
    """`90 %`, `40 GiB`."""
    return limit_text(gate_of(limit))


def held_in(read: Facts | None, limit: Facts) -> Held | str:
    """Of one window; or why there is nothing to hold against the limit."""
    found = of_facts(read or NOT_READ)
    return found if isinstance(found, str) else held(found, gate_of(limit))


def fullest(windows: Sequence[tuple[str, Facts]], limit: Facts) -> tuple[str, Held] | None:
    """The window, and the peak, that came nearest to the limit or went furthest beyond it."""
    seen = [(name, held_in(read, limit)) for name, read in windows]
    known = [(name, one) for name, one in seen if not isinstance(one, str)]
    return max(known, key=lambda each: each[1].fill, default=None)


def judged(windows: Sequence[tuple[str, Facts]], limit: Facts, complete: bool) -> Finding:
    """`memory.peak` over windows, each with its name in sentences. `complete`: none is missing."""
    gate, top = gate_of(limit), fullest(windows, limit)
    seen = [(name, held_in(read, limit)) for name, read in windows]
    unknown = [f"{name}: {one if isinstance(one, str) else one.unknown}" for name, one in seen if _open(one)]
    unknown += [] if complete else ["not all of it was seen"]
    if top is None:
        return _finding(
            gate, "no data", f"Memory was not measured: {unknown[0] if unknown else 'it was not seen'}", None
        )
    said = f"{top[1].said} ({top[0]})"
    if any(not isinstance(one, str) and one.broken for _, one in seen):
        return _finding(gate, "fail", said, top[1])
    return _finding(gate, "no data" if unknown else "pass", f"{said}; but {unknown[0]}" if unknown else said, top[1])


def _open(one: Held | str) -> bool:
    return isinstance(one, str) or bool(one.unknown)


def _finding(gate: Gate, outcome: Outcome, reason: str, seen: Held | None) -> Finding:
    return Finding(METRIC, outcome, reason[:1].upper() + reason[1:], kind="watch", **figures(gate, seen))
