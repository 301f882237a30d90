"""One file of another tool, as samples in that tool's own time; and the small steps that every format needs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from harness.errors import UsageError
from harness.failures import kind_of
from harness.recording.files import conform
from harness.recording.schema import SAMPLES
from harness.types import Status

_ARM = re.compile(r"(?<![a-z])(baseline|candidate)(?![a-z])", re.IGNORECASE)
_REFUSED = re.compile(r"connection ?refused|no route to host|clientconnect|name resolution|no such host", re.IGNORECASE)
_CANCELLED = re.compile(r"cancel", re.IGNORECASE)


@dataclass(frozen=True)
class Run:
    """`samples`: the columns of SAMPLES; times in ns since 1970 if `epoch`, else from the tool's own begin; `arm` is ""
    where the file does not name it. See `ImportedArm` for the rest; `loads` has one for each stage, in their order.
    """

    tool: str
    samples: pa.Table
    loads: tuple[str, ...] = ()
    tokens: str = ""
    notes: tuple[str, ...] = ()
    step_ns: int = 1
    loses: str = ""
    epoch: bool = True


def samples_of(path: Path, rows: int, **columns: Any) -> pa.Table:
    """The columns that are known, the rest -1 or ""; `stage` is 0 unless given. Raises UsageError without any row."""
    if rows == 0:
        raise UsageError(f"{path}: holds no request")
    known = {"stage": np.zeros(rows, np.int32), "arm": pa.repeat("", rows), **columns}
    return conform(pa.table(known), SAMPLES, path, required=())


def arms_in(columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    """The arm of each row, by the words baseline and candidate in the first column that has both of them, else in the
    first that has one; "" where there is none, or both.
    """
    found = [_words(column) for column in columns]
    return max(found, key=lambda arms: len(set(pc.unique(arms).to_pylist()) - {""}))


def _words(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return mapped(column, lambda text: named(text or ""))


def named(text: str) -> str:
    words = {word.lower() for word in _ARM.findall(text)}
    return words.pop() if len(words) == 1 else ""


def mapped(column: pa.ChunkedArray, of: Callable[[Any], Any]) -> pa.ChunkedArray:
    """`of` each different value, once; columns of labels have few of them. None stays what `of` makes of it."""
    coded = pc.dictionary_encode(column, null_encoding="encode")
    chunks = [chunk.dictionary.to_pylist() for chunk in coded.chunks]
    known = {value: of(value) for value in dict.fromkeys(value for chunk in chunks for value in chunk)}
    parts = [
        pa.array([known[v] for v in chunk.dictionary.to_pylist()], pa.string()).take(chunk.indices)
        for chunk in coded.chunks
    ]
    return pa.chunked_array(parts, pa.string())


def failed_as(code: int, text: str) -> Status:
    """What became of a failed request, by the HTTP status (0 if it had none) and what the tool says of it."""
    kind = kind_of(text, str(code) if code else "")
    if kind == "out of memory":
        return "oom"
    if code == 499 or (code == 0 and _CANCELLED.search(text)):
        return "cancelled"
    if kind == "time-out":
        return "timeout"
    if code == 503 or kind == "queue full" or (code == 0 and _REFUSED.search(text)):
        return "refused"
    return "error"


def missing_columns(path: Path, tool: str, has: Sequence[str], wanted: Sequence[str]) -> None:
    """Raises UsageError naming the first column that is not there."""
    for name in wanted:
        if name not in has:
            raise UsageError(f"{path}: {tool}: column {name} is missing (has: {', '.join(has)})")


class OddRows:
    """Takes rows with another number of columns than the header. The last line of a tool that was killed is one."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, row: Any) -> str:
        self.texts.append(row.text)
        return "skip"

    def notes(self, path: Path, tool: str) -> tuple[str, ...]:
        """Says of a last line that was cut off. Raises UsageError for any other odd row."""
        if not self.texts:
            return ()
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            cut_off = file.read(1) != b"\n"
        if len(self.texts) > 1 or not cut_off:
            raise UsageError(f"{path}: {tool}: expected as many columns as in the first line: {self.texts[0][:100]}")
        return ("its last line is cut off: those before it count",)


def one_line(error: Exception | str, most: int = 300) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= most else f"{text[:most]} ..."


def as_milliseconds(values: Any) -> Any:
    """Milliseconds, any number, to whole ns; NaN and null are -1."""
    ms = np.asarray(values, np.float64)
    return np.where(np.isfinite(ms), np.round(np.nan_to_num(ms) * 1e6), -1).astype(np.int64)
