"""Arrow columns to numpy and back, without what pyarrow's own conversions import: pandas, which takes half a second of
the two that a check may take.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]


def numbers(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Of a column of numbers without nulls; read-only."""
    return np.from_dlpack(column.combine_chunks())


def codes(column: pa.ChunkedArray) -> tuple[Ints, list[str]]:
    """Each row's text as a number, and the texts, in the order of their first row."""
    if not len(column):
        return np.empty(0, np.int64), []
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    encoded = column.unify_dictionaries().combine_chunks()
    known, first, places = np.unique(np.from_dlpack(encoded.indices), return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.empty(len(known), np.int64)
    number[order] = np.arange(len(known))
    every = encoded.dictionary.to_pylist()
    return number[places], [every[place] for place in known[order]]


def rows(table: pa.Table, places: Ints) -> pa.Table:
    """These rows, in this order."""
    held = np.ascontiguousarray(places, np.int64)
    return table.take(pa.Array.from_buffers(pa.int64(), len(held), [None, pa.py_buffer(held)]))


def rows_with(table: pa.Table, column: str, text: str) -> pa.Table:
    """Those that have `text` in a column."""
    found, known = codes(table[column])
    return rows(table, np.flatnonzero(found == known.index(text)) if text in known else np.empty(0, np.int64))
