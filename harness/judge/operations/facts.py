"""Words and findings that the kinds of operation share."""

from __future__ import annotations

from collections.abc import Iterable

from harness.types import Finding, Outcome

_MOST_NAMES = 4


def fact(metric: str, outcome: Outcome, reason: str) -> Finding:
    """A finding on something that must hold, and that no figure measures."""
    return Finding(metric, outcome, reason, kind="watch", unit="1")


def names(items: Iterable[str]) -> str:
    """`a, b, c, d and 3 more`."""
    every = list(items)
    shown = ", ".join(every[:_MOST_NAMES])
    return f"{shown} and {len(every) - _MOST_NAMES} more" if len(every) > _MOST_NAMES else shown


def amount(number: int, one: str, many: str = "") -> str:
    """`1 version`, `2 versions`."""
    return f"{number} {one if number == 1 else many or one + 's'}"
