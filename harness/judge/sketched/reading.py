"""Batches of samples as numbers: of each request what counting takes of it, and no more."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from harness.judge.columns import ARMS, CANCELLED, OK, STATUSES, TIMEOUT, Bools, Ints
from harness.recording.codes import Codes, code_of

LATENCIES = ("response_time", "request_latency", "ttft", "tpot")
METRICS = (*LATENCIES, "osl")
COLUMNS = (
    *("arm", "stage", "pair_id", "assignment", "due_ns", "sent_ns", "first_ns", "done_ns", "status", "error"),
    *("version", "osl", "worker"),
)
# What a request is, in one byte: its arm and kind (they score or they do not) times 8, and its status.
KIND = 8
SCORES = 1


class Words:
    """Numbers for texts: those of `known`, then in the order in which they come."""

    def __init__(self, known: Collection[str] = ()) -> None:
        self._numbers = {word: number for number, word in enumerate(known)}

    def codes(self, column: pa.Array | None, rows: int) -> Ints:
        if column is None:
            return np.full(rows, self._number(""), np.int64)
        coded = column if pa.types.is_dictionary(column.type) else pc.dictionary_encode(column)
        words = [*coded.dictionary.to_pylist(), ""]
        places = pc.fill_null(coded.indices, len(words) - 1) if coded.null_count else coded.indices
        known = np.array([self._number(word or "") for word in words], np.int64)
        return np.asarray(known[places.to_numpy(zero_copy_only=False)], np.int64)

    def _number(self, word: str) -> int:
        return self._numbers.setdefault(word, len(self._numbers))

    @property
    def known(self) -> list[str]:
        return list(self._numbers)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Columns of some requests. `due_ns` puts them into their cells: where it is not known (`due_known` is false) it is
    when they were sent, else done. `what` as above; `error` and `version` are numbers of Words.
    """

    what: npt.NDArray[np.uint8]
    stage: Ints
    pair_id: Ints
    due_ns: Ints
    due_known: Bools
    sent_ns: Ints
    first_ns: Ints
    done_ns: Ints
    osl: Ints
    error: Ints
    version: Ints
    worker: Ints

    def __len__(self) -> int:
        return len(self.what)

    def take(self, rows: Bools) -> Rows:
        """The rows where `rows` is true; self where all are."""
        return self if rows.all() else replace(self, **{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    @property
    def status(self) -> npt.NDArray[np.uint8]:
        return np.asarray(self.what % KIND, np.uint8)

    @property
    def failed(self) -> Bools:
        return np.asarray((self.status != OK) & (self.status != CANCELLED), np.bool_)


class Reader:
    def __init__(self) -> None:
        self.errors, self.versions = Words([""]), Words([""])
        self._arms, self._statuses, self._assignments = Words(ARMS), Words(STATUSES), Words(["", "score"])

    def rows(self, batch: pa.RecordBatch) -> Rows:
        """From a batch with columns of SAMPLES, whose words are known ones; those that it lacks are unknown."""
        n = batch.num_rows
        column = {name: batch.column(name) for name in batch.schema.names}
        texts = {name: words.codes(column.get(name), n) for name, words in self._words()}
        due, sent, done = (_numbers(column.get(name), n) for name in ("due_ns", "sent_ns", "done_ns"))
        due_known = due >= 0
        if not due_known.all():
            due = np.where(due_known, due, np.where(sent >= 0, sent, done))
        kind = texts["arm"] * 2 + (texts["assignment"] == SCORES)
        return Rows(
            what=(kind * KIND + texts["status"]).astype(np.uint8),
            stage=np.maximum(_numbers(column.get("stage"), n), 0),
            pair_id=_numbers(column.get("pair_id"), n),
            due_ns=due,
            due_known=due_known,
            sent_ns=sent,
            first_ns=_numbers(column.get("first_ns"), n),
            done_ns=done,
            osl=_numbers(column.get("osl"), n),
            error=texts["error"],
            version=texts["version"],
            worker=_numbers(column.get("worker"), n),
        )

    def _words(self) -> tuple[tuple[str, Words], ...]:
        return (
            *(("arm", self._arms), ("status", self._statuses), ("assignment", self._assignments)),
            *(("error", self.errors), ("version", self.versions)),
        )


def _numbers(column: Any, rows: int) -> Ints:
    if column is None:
        return np.broadcast_to(np.int64(-1), rows)
    if column.null_count:
        column = pc.fill_null(column, -1)
    return np.asarray(column.to_numpy(zero_copy_only=False), np.int64)


def distinct(numbers: Ints) -> list[int]:
    """The numbers that there are; mostly it is one."""
    if not len(numbers):
        return []
    first = int(numbers[0])
    return [first] if (numbers == first).all() else np.unique(numbers).tolist()


def codes(rows: Rows, metric: str) -> Codes:
    """The metric of each request, as `judge.times` has it; UNKNOWN where there is none."""
    status = rows.status
    late = status == TIMEOUT
    bad = ~((status == OK) | late) | (rows.what // KIND % 2 == SCORES)
    done, sent = rows.done_ns, rows.sent_ns
    values: Any
    if metric == "osl":
        return code_of(rows.osl + 1, bad | late | (rows.osl < 0))
    if metric == "response_time":
        values, bad = done - rows.due_ns, bad | ~rows.due_known | (done < 0)
    elif metric == "request_latency":
        values, bad = done - sent, bad | (sent < 0) | (done < 0)
    elif metric == "ttft":
        begun = np.where(late & (rows.first_ns < 0), done, rows.first_ns)
        values, bad = begun - sent, bad | (sent < 0) | (begun < 0)
    else:
        tokens = np.where(late, np.maximum(rows.osl, 2), rows.osl)
        bad = bad | (tokens < 2) | (rows.first_ns < 0) | (done < 0)
        values = (done - rows.first_ns) / np.maximum(tokens - 1, 1)
    return code_of(values, bad | (values < 0))


def lags(rows: Rows) -> Codes:
    """Sent - due of each request that does not score."""
    lag = rows.sent_ns - rows.due_ns
    return code_of(lag, (rows.sent_ns < 0) | ~rows.due_known | (rows.what // KIND % 2 == SCORES) | (lag < 0))


def backwards(rows: Rows) -> int:
    """How many requests ended before they began."""
    done = rows.done_ns
    wrong = (done < rows.due_ns) | ((rows.sent_ns >= 0) & (done < rows.sent_ns)) | (rows.first_ns > done)
    return int(wrong.sum())
