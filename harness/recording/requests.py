"""Samples as numbers, for sketching: a column each, and the times that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from harness.types import ArmName, Status

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

ARMS: tuple[str, ...] = get_args(ArmName)
STATUSES: tuple[str, ...] = get_args(Status)
OK, TIMEOUT = STATUSES.index("ok"), STATUSES.index("timeout")
STABLE, UNKNOWN = ARMS.index("stable"), ARMS.index("unknown")

SAMPLE_METRICS = ("response_time", "request_latency", "ttft", "tpot", "send_lag", "osl")
_NUMBERS = ("stage", "pair_id", "due_ns", "sent_ns", "first_ns", "done_ns", "osl")
_TEXTS = ("arm", "assignment", "status", "error", "version")
COLUMNS = (*_NUMBERS, *_TEXTS)
_STAGE, _PAIR, _DUE, _SENT, _FIRST, _DONE, _OSL, _ARM, _STATUS, _KEY = range(10)


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """`numbers` has a row for each of stage, pair_id, due_ns, sent_ns, first_ns, done_ns, osl, arm and status (indices
    into ARMS and STATUSES), and the block's key, which the sketcher sets; a column is a request.
    """

    numbers: Ints

    @classmethod
    def of(cls, samples: pa.Table) -> Requests:
        numbers = np.zeros((10, samples.num_rows), np.int64)
        for row, name in enumerate(_NUMBERS):
            numbers[row] = samples[name].to_numpy()
        np.maximum(numbers[_STAGE], 0, out=numbers[_STAGE])  # a file that knows no stage is stage 0
        numbers[_ARM] = indices(samples["arm"], ARMS)
        numbers[_STATUS] = indices(samples["status"], STATUSES)
        return cls(numbers)

    @classmethod
    def none(cls) -> Requests:
        return cls(np.zeros((10, 0), np.int64))

    def __len__(self) -> int:
        return self.numbers.shape[1]

    def take(self, which: npt.NDArray[Any]) -> Requests:
        return Requests(self.numbers[:, which])

    def __add__(self, other: Requests) -> Requests:
        return Requests(np.concatenate([self.numbers, other.numbers], axis=1))

    @property
    def stage(self) -> Ints:
        return self._row(_STAGE)

    @property
    def pair_id(self) -> Ints:
        return self._row(_PAIR)

    @property
    def due_ns(self) -> Ints:
        return self._row(_DUE)

    @property
    def arm(self) -> Ints:
        return self._row(_ARM)

    @property
    def status(self) -> Ints:
        return self._row(_STATUS)

    @property
    def key(self) -> Ints:
        """A view, to be written to."""
        return self._row(_KEY)

    def _row(self, number: int) -> Ints:
        row: Ints = self.numbers[number]
        return row

    def values(self) -> Floats:
        """Seconds (tokens for osl) of SAMPLE_METRICS, shape (metrics, requests); NaN where there is none.

        The same definitions as in `judge.times`, which a test holds them to; and send_lag, of all that were sent.
        """
        _, _, due, sent, first, done, osl, _, status, _ = self.numbers
        late = status == TIMEOUT
        counts = (status == OK) | late
        asked, left, ended = due >= 0, sent >= 0, counts & (done >= 0)
        values = np.empty((len(SAMPLE_METRICS), len(self)))
        values[0] = np.where(ended & asked, done - due, -1)
        values[1] = np.where(ended & left, done - sent, -1)
        begun = np.where(late & (first < 0), done, first)
        values[2] = np.where(counts & left & (begun >= 0), begun - sent, -1)
        tokens = np.where(late, np.maximum(osl, 2), osl)
        many = tokens > 1
        values[3] = np.where(ended & (first >= 0) & many, (done - first) / np.where(many, tokens - 1, 1), -1)
        values[4] = np.where(asked & left, sent - due, -1)
        values[:5] *= 1e-9
        values[5] = np.where(status == OK, osl, -1)
        values[values < 0] = np.nan
        return values


def codes(column: pa.ChunkedArray | pa.Array) -> tuple[Ints, list[str]]:
    """Indices of a text column, and the texts."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    encoded = whole.dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary.to_pylist()


def indices(column: pa.ChunkedArray | pa.Array, words: tuple[str, ...]) -> Ints:
    """The place in `words` of each text."""
    found, texts = codes(column)
    return np.array([words.index(text) for text in texts] or [0], np.int64)[found]
