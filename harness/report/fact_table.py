"""A table of an operation's facts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class FactTable(NamedTuple):
    """`rows` have as many cells as `columns`; cells are plain text."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
