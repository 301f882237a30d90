"""Failed requests by arm, status, class and code."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from harness.report.requests.reading import Piece
from harness.report.requests.summary import ErrorRow

# Classes are few; in somebody else's file each error may have a text of its own. What comes after so many has one row.
MOST_KINDS = 10_000
OTHERS = "(other errors)"
_KEYS = ("arm", "status", "error", "code")
_Kind = tuple[str, str, str, str]


class Kinds:
    """Counts them piece by piece. Requests that score count, too."""

    def __init__(self) -> None:
        self._found: dict[_Kind, tuple[int, float]] = {}

    def add(self, piece: Piece) -> None:
        failed = np.flatnonzero(piece.what % 2)
        if not len(failed):
            return
        rows = pa.array(failed)
        batch = piece.batch
        texts = {
            key: batch.column(key).take(rows).cast(pa.string()).fill_null("")
            if key in batch.schema.names
            else pa.array([""] * len(failed))
            for key in _KEYS
        }
        at = np.where(piece.at_ns >= 0, piece.at_ns * 1e-9, np.inf)[failed]
        table = pa.table(texts).append_column("at", [pa.array(at)])
        # One thread: groups then come in the order of the rows, and so the same ones are kept.
        grouped = pa.TableGroupBy(table, list(_KEYS), use_threads=False).aggregate([("at", "min"), ("at", "count")])
        columns = (grouped[name].to_pylist() for name in (*_KEYS, "at_min", "at_count"))
        for arm, status, error, code, first, count in zip(*columns, strict=True):
            self._count((arm, status, error, code), count, first)

    def _count(self, key: _Kind, count: int, first: float) -> None:
        if key not in self._found and len(self._found) >= MOST_KINDS:
            key = (key[0], key[1], OTHERS, "")
        before, earliest = self._found.get(key, (0, np.inf))
        self._found[key] = before + count, min(earliest, first)

    def rows(self, asked: Mapping[str, int], every: int) -> tuple[ErrorRow, ...]:
        """Most frequent first. `asked`: requests of each arm, `every` of all: what a share is of."""
        found = (
            ErrorRow(
                *kind,
                count=count,
                share=count / max(1, asked.get(kind[0], every)),
                first_s=first if np.isfinite(first) else float("nan"),
            )
            for kind, (count, first) in self._found.items()
        )
        return tuple(sorted(found, key=lambda row: (-row.count, row.arm, row.status, row.error, row.code)))
