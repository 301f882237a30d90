"""The store: immutable Parquet files in a folder or a bucket; what they hold together is the history.

Guarantee: a run that `add` returned for is never lost, whatever dies and whoever works at the same time; a reader sees
each run once, also while files are packed. It rests on three rules. A file's name is a digest of its rows, it appears
whole, and it never changes. A file is removed only after another one that has all its rows is there for good. Readers
take the union of the files, and of two entries of one run the one added last.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from harness.history.arrow import rows
from harness.history.entry import Entry
from harness.history.place import Place
from harness.history.table import SCHEMA, name_of, newest, read_table, rows_of, sorted_table, table_of, to_bytes

MOST_FILES = 32
"""`add` packs where there are more."""
_LISTINGS = 50


@dataclass(frozen=True, slots=True)
class Contents:
    """`table`: each run once. `damaged`: a line for each file that could not be read, and whose runs are missing."""

    table: pa.Table
    damaged: tuple[str, ...] = ()


class History:
    def __init__(self, place: Place) -> None:
        self.place = place

    def read(self, columns: Sequence[str] = tuple(SCHEMA.names), series: str | None = None) -> Contents:
        """The runs that were there when it was called, and perhaps some that came meanwhile. WorldError.

        `columns`: of SCHEMA; `run` and `added_us` are read in any case.
        """
        wanted = [name for name in SCHEMA.names if name in {*columns, "run", "added_us", "series"}]
        tables, damaged = self._union(wanted, series)
        if not tables:
            return Contents(SCHEMA.empty_table().select(wanted), tuple(damaged.values()))
        return Contents(newest(pa.concat_tables(tables)).unify_dictionaries(), tuple(damaged.values()))

    def add(
        self, entries: Sequence[Entry], added_us: int, *, said: bool = False
    ) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
        """Those of `entries` that were not there yet, kept in one file; and the damaged files. WorldError.

        A run that is there under another verdict gets the new one, and keeps its commit and branch: what is checked
        out where it is added again need not be what was measured. `said`: somebody named them, and they count.
        """
        kept_of_each = ("run", "digest", "commit", "branch", "added_us")
        known = self.read(kept_of_each)
        columns = (known.table[name].to_pylist() for name in kept_of_each)
        there = {run: rest for run, *rest in zip(*columns, strict=True)}
        new = []
        for one in {one.run: one for one in entries}.values():
            digest, commit, branch, before_us = there.get(one.run, ("", one.commit, one.branch, -1))
            kept = one if said else replace(one, commit=commit, branch=branch)
            if [kept.digest, kept.commit, kept.branch] != [digest, commit, branch]:
                new.append(kept)
                # Clocks differ, and go back: what is added later counts all the same.
                added_us = max(added_us, before_us + 1)
        if new:
            self._put(table_of(new, added_us))
        self.pack()
        return tuple(new), known.damaged

    def merge(self, other: History) -> tuple[int, tuple[str, ...]]:
        """The runs of another history, too: how many were not there yet, and the other's damaged files. WorldError."""
        known, found = self.read(("run", "digest", "added_us")), other.read()
        keys = ("run", "digest", "added_us")
        there = set(zip(*(known.table[key].to_pylist() for key in keys), strict=True))
        theirs = list(zip(*(found.table[key].to_pylist() for key in keys), strict=True))
        new = rows(found.table, np.asarray([place for place, row in enumerate(theirs) if row not in there], np.int64))
        if new.num_rows:
            self._put(new)
        self.pack()
        return new.num_rows, found.damaged

    def pack(self) -> None:
        """Makes one file of the smallest where there are many: those of which each is no larger than all the smaller
        ones together, so that a run is copied a few times in its life and not with each `add`.
        """
        counted = sorted((count, name) for name in self.place.names() if (count := rows_of(name)) is not None)
        if len(counted) <= MOST_FILES:
            return
        chosen: list[str] = []
        together = 0
        for count, name in counted:
            if len(chosen) > 1 and count > together:
                break
            chosen.append(name)
            together += count
        read, _ = self._take(chosen, SCHEMA.names, None)
        if len(read) < 2:
            return
        packed = self._put(newest(pa.concat_tables(read.values())))
        for name in read:
            if name != packed:
                self.place.remove(name)
        self.place.tidy()

    def _put(self, table: pa.Table) -> str:
        name = name_of(table)
        self.place.put(name, to_bytes(sorted_table(table)))
        return name

    def _union(self, columns: Sequence[str], series: str | None) -> tuple[list[pa.Table], dict[str, str]]:
        """A listing may miss a pack that came while it was made, and the files that left because of it. The next one
        has the pack; so listings go on until one brings nothing new.
        """
        tables: dict[str, pa.Table] = {}
        damaged: dict[str, str] = {}
        for _ in range(_LISTINGS):
            names = [name for name in sorted(self.place.names()) if name not in tables and name not in damaged]
            if not names:
                break
            read, bad = self._take(names, columns, series)
            tables |= read
            damaged |= bad
        return list(tables.values()), damaged

    def _take(
        self, names: Sequence[str], columns: Sequence[str], series: str | None
    ) -> tuple[dict[str, pa.Table], dict[str, str]]:
        """By name: the tables, and why there is none. What is gone is in neither."""
        tables: dict[str, pa.Table] = {}
        damaged: dict[str, str] = {}
        for name in names:
            try:
                with self.place.open(name) as source:
                    tables[name] = read_table(source, columns, series)
            except FileNotFoundError:
                continue
            except (pa.ArrowException, OSError, ValueError) as error:
                damaged[name] = f"{self.place.where}/{name}: {_why(error)}: the runs in it are missing here"
        return tables, damaged


def _why(error: Exception) -> str:
    if isinstance(error, ValueError) and not isinstance(error, pa.ArrowException):
        return f"this file of a history {error}"
    if isinstance(error, OSError) and error.errno:
        return f"cannot be read ({os.strerror(error.errno)})"
    return "is no whole Parquet file"
