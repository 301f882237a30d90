"""The outputs of a recording as columns: no Python object is made of what is not looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
TOGETHER = 256  # answers that are compared at once


class Rows:
    """The outputs table by row number."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self.pair_id: Ints = table["pair_id"].to_numpy()
        self.stage = table["stage"].to_numpy()
        self.k = table["k"].to_numpy()

    def all(self, kind: str, arm: str) -> Ints:
        wanted = pc.and_(pc.equal(self.table["kind"], kind), pc.equal(self.table["arm"], arm))
        return np.flatnonzero(wanted.to_numpy(zero_copy_only=False))

    def work(self, rows: Ints) -> int:
        """How many pairs of tokens are held against each other, to compare those with answers like them."""
        sizes = pc.list_value_length(self.table["topk_ids"].take(pa.array(rows)))
        return int((pc.fill_null(sizes, 0).to_numpy() * np.maximum(self.k[rows], 0).astype(np.int64)).sum())

    def differ(self, one: Ints, two: Ints) -> npt.NDArray[np.bool_]:
        """Whether answers have different digests; where there are none, different texts or tokens."""
        found = np.zeros(len(one), np.bool_)
        for at in range(0, len(one), TOGETHER):
            first, second = one[at : at + TOGETHER], two[at : at + TOGETHER]
            digests = self._texts("digest", first), self._texts("digest", second)
            texts = pc.not_equal(self._texts("text", first), self._texts("text", second))
            tokens = [_Lists.of(self.table["token_ids"], rows) for rows in (first, second)]
            same = np.flatnonzero((tokens[0].length == tokens[1].length) & (tokens[0].length > 0))
            other = tokens[0].length != tokens[1].length
            if len(same):
                length = tokens[0].length[same]
                unequal = tokens[0].some(same, length) != tokens[1].some(same, length)
                other[same] = np.logical_or.reduceat(unequal, np.cumsum(length) - length)
            digested = pc.or_(pc.not_equal(digests[0], ""), pc.not_equal(digests[1], ""))
            by_digest = pc.not_equal(*digests)
            found[at : at + TOGETHER] = pc.if_else(digested, by_digest, pc.or_(texts, pa.array(other))).to_numpy(
                zero_copy_only=False
            )
        return found

    def prompt(self, row: int) -> int:
        return int(self.table["prompt"][int(row)].as_py())

    def text(self, row: int) -> str:
        return str(self.table["text"][int(row)].as_py() or "")

    def _texts(self, name: str, rows: Ints) -> pa.Array:
        return pc.fill_null(self.table[name].take(pa.array(rows)).combine_chunks(), "")


@dataclass(frozen=True)
class Latest:
    """The generated answers of an arm: `pairs` ascend, each once; `rows` of the table, the last one of each pair."""

    pairs: Ints
    rows: Ints

    @classmethod
    def of(cls, rows: Rows, arm: str) -> Latest:
        mine = rows.all("generated", arm)[::-1]
        pairs, first = np.unique(rows.pair_id[mine], return_index=True)
        return cls(pairs, mine[first])

    def has(self, pairs: Ints) -> npt.NDArray[np.bool_]:
        return np.isin(pairs, self.pairs)

    def rows_of(self, pairs: Ints) -> Ints:
        """Of pairs that are there."""
        return np.asarray(self.rows[np.searchsorted(self.pairs, pairs)])


@dataclass(frozen=True)
class _Lists:
    """A column of lists, of some rows: the values of all, and where each begins and how long it is."""

    values: npt.NDArray[Any]
    begin: Ints
    length: Ints

    @classmethod
    def of(cls, column: pa.ChunkedArray, rows: Ints) -> _Lists:
        taken = column.take(pa.array(rows)).combine_chunks()
        length = np.asarray(pc.fill_null(pc.list_value_length(taken), 0).to_numpy(zero_copy_only=False), np.int64)
        values = np.asarray(pc.list_flatten(taken).to_numpy(zero_copy_only=False))
        return cls(values, np.cumsum(length) - length, length)

    def some(self, which: Ints, length: Ints) -> npt.NDArray[Any]:
        """The first `length` values of each of those lists, one after the other."""
        ends = np.cumsum(length)
        inside = np.arange(ends[-1]) - np.repeat(ends - length, length)
        return np.asarray(self.values[np.repeat(self.begin[which], length) + inside])


@dataclass(frozen=True)
class Tops:
    """The likeliest tokens of some answers: `k` for each of `tokens`."""

    k: Ints
    tokens: Ints
    ids: _Lists
    logs: _Lists

    @classmethod
    def of(cls, rows: Rows, some: Ints) -> Tops:
        k = np.maximum(rows.k[some], 0).astype(np.int64)
        ids, logs = (_Lists.of(rows.table[name], some) for name in ("topk_ids", "topk_logprobs"))
        whole = np.minimum(ids.length, logs.length) // np.maximum(k, 1)
        return cls(k, np.where(k > 0, whole, 0), ids, logs)

    def stacked(self, which: Ints, tokens: Ints, k: int) -> tuple[Ints, Floats]:
        """Ids and log-probabilities of the first `tokens` of each of those answers, of shape (tokens, k)."""
        ids, logs = (lists.some(which, tokens * k).reshape(-1, k) for lists in (self.ids, self.logs))
        return ids, logs.astype(np.float64)
