"""The rows as they stand in docs/triton.md."""

from __future__ import annotations

from collections.abc import Sequence

from harness.triton.conformance.row import Group, Row

_HEAD = "| row | what Triton does | what triton-canary does about it |\n|---|---|---|"


def markdown(groups: Sequence[Group]) -> str:
    """A table for each group."""
    tables = []
    for group in groups:
        rows = "\n".join(f"| `{row.name}`{_mark(row)} | {row.claim} | {row.safeguard} |" for row in group.rows)
        tables.append(f"### {group.title}\n\n{_HEAD}\n{rows}\n")
    return "\n".join(tables)


def _mark(row: Row) -> str:
    return " ³" if row.own else " ²" if row.disturbs else " ¹" if row.metrics else ""
