"""Samples as numpy columns: what the judge computes on. About 60 bytes a sample."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

ARMS = ("baseline", "candidate", "stable", "unknown")
STATUSES = ("ok", "error", "timeout", "oom", "refused", "cancelled")
BASELINE, CANDIDATE, STABLE, UNKNOWN = 0, 1, 2, 3
OK, TIMEOUT, CANCELLED = 0, 2, 5


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """One row a sample. `arm` and `status` index ARMS and STATUSES; `error` and `version` index their names.

    Times are int64 nanoseconds from the run's start, -1 unknown. `score` marks requests that score given
    tokens: their failures count, their times do not. `due_ns` also puts a request into its block, so where it is
    unknown (another tool's recording) it is when the request was sent, or else done, and `due_known` is false: then
    nothing is measured from it.
    """

    arm: npt.NDArray[np.int8]
    stage: npt.NDArray[np.int32]
    pair_id: Ints
    score: Bools
    due_ns: Ints
    due_known: Bools
    sent_ns: Ints
    first_ns: Ints
    done_ns: Ints
    status: npt.NDArray[np.int8]
    error: npt.NDArray[np.int32]
    version: npt.NDArray[np.int32]
    osl: npt.NDArray[np.int32]
    worker: npt.NDArray[np.int16]
    error_names: tuple[str, ...]
    version_names: tuple[str, ...]

    @classmethod
    def of(cls, table: pa.Table) -> Columns:
        """From a table with the columns of harness.recording.schema.SAMPLES."""
        error, error_names = _codes(table["error"])
        version, version_names = _codes(table["version"])
        assignment, assignments = _codes(table["assignment"])
        score = assignments.index("score") if "score" in assignments else -2
        due, sent, done = (_numbers(table[name], np.int64) for name in ("due_ns", "sent_ns", "done_ns"))
        due_known = due >= 0
        if not due_known.all():
            due = np.where(due_known, due, np.where(sent >= 0, sent, done))
        return cls(
            arm=_lookup(table["arm"], ARMS),
            stage=np.maximum(_numbers(table["stage"], np.int32), 0),  # a bare file knows no stage: all is stage 0
            pair_id=_numbers(table["pair_id"], np.int64),
            score=assignment == score,
            due_ns=due,
            due_known=due_known,
            sent_ns=sent,
            first_ns=_numbers(table["first_ns"], np.int64),
            done_ns=done,
            status=_lookup(table["status"], STATUSES),
            error=error,
            version=version,
            osl=_numbers(table["osl"], np.int32),
            worker=_numbers(table["worker"], np.int16),
            error_names=error_names,
            version_names=version_names,
        )

    def __len__(self) -> int:
        return len(self.arm)

    def take(self, rows: Bools) -> Columns:
        """The rows where `rows` is true; self where all are."""
        if rows.all():
            return self
        arrays = {f.name: getattr(self, f.name)[rows] for f in fields(self) if not f.name.endswith("_names")}
        return replace(self, **arrays)

    @property
    def failed(self) -> Bools:
        """Error, time-out, out of memory or refused. A cancelled request failed nobody."""
        return np.asarray((self.status != OK) & (self.status != CANCELLED), np.bool_)

    def failure_class(self, row: int) -> str:
        """What the failure of one row is called: its error class, else its status."""
        return self.error_names[self.error[row]] or STATUSES[self.status[row]]


def _numbers(column: pa.ChunkedArray, kind: type[np.generic]) -> npt.NDArray[Any]:
    if column.null_count:
        column = pc.fill_null(column, -1)
    return np.asarray(column.to_numpy()).astype(kind, copy=False)


def _codes(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    """Codes of the strings, and the names in sorted order: independent of the order of arrival."""
    encoded = pc.dictionary_encode(pc.fill_null(column.cast(pa.string()), "")).combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0) if encoded.num_chunks else pa.array([], pa.string()).dictionary_encode()
    names: list[str] = encoded.dictionary.to_pylist()
    order = sorted(range(len(names)), key=names.__getitem__)
    rank = np.empty(max(len(names), 1), np.int32)
    rank[order] = np.arange(len(names), dtype=np.int32)
    indices = np.asarray(encoded.indices.to_numpy(zero_copy_only=False))
    return rank[indices.astype(np.int64)], tuple(names[i] for i in order)


def _lookup(column: pa.ChunkedArray, words: tuple[str, ...]) -> npt.NDArray[np.int8]:
    codes, names = _codes(column)
    table = np.array([words.index(name) for name in names] or [0], np.int8)
    return np.asarray(table[codes], np.int8)
