"""Words and findings that the kinds of operation share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from harness.types import Finding, Outcome

_MOST_NAMES = 4
_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


def fact(metric: str, outcome: Outcome, reason: str) -> Finding:
    """A finding on what must hold and no figure measures. Digests are shortened; the facts keep all."""
    return Finding(metric, outcome, _DIGEST.sub(r"\1...", reason), kind="watch", unit="1")


def failed(findings: Sequence[Finding]) -> str:
    """The first failure, and how many more there are."""
    reasons = [finding.reason for finding in findings if finding.outcome == "fail"]
    return reasons[0] + (f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else "")


def names(items: Iterable[str]) -> str:
    """`a, b, c, d and 3 more`."""
    every = list(items)
    shown = ", ".join(every[:_MOST_NAMES])
    return f"{shown} and {len(every) - _MOST_NAMES} more" if len(every) > _MOST_NAMES else shown


def amount(number: int, one: str, many: str = "") -> str:
    """`1 version`, `2 versions`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def versions(numbers: Iterable[int]) -> str:
    """`version 2`, `versions 1, 2`, `no version`."""
    every = [str(number) for number in numbers]
    return f"version{'' if len(every) == 1 else 's'} {names(every)}" if every else "no version"
