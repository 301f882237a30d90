"""Batches of samples as numbers: of each request what a page takes of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from harness.recording.ahead import ahead
from harness.report.requests.spread import Floats, Ints
from harness.report.requests.summary import ANSWERED, ARMS, FAILED, SCORED

if TYPE_CHECKING:
    from harness.recording import Recording

TIMES = ("ttft", "tpot", "response_time", "request_latency")
COLUMNS = (
    *("arm", "stage", "assignment", "due_ns", "sent_ns", "first_ns", "done_ns", "status", "error", "code", "osl"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Some requests. `arm`: its place in ARMS, -1 any other. `at_ns`: when it was sent, else due, else done; -1
    unknown. `what` became of it: ANSWERED, FAILED, SCORED or SCORING_FAILED. `times`: nanoseconds of TIMES, of shape
    (TIMES, requests), NaN unless it was answered and does not score.
    """

    batch: pa.RecordBatch
    arm: npt.NDArray[np.int8]
    stage: Ints
    at_ns: Ints
    what: npt.NDArray[np.int8]
    times: Floats
    tokens: bool

    def __len__(self) -> int:
        return len(self.arm)


def pieces(recording: Recording) -> Iterator[Piece]:
    """All samples, in the order of the file. Raises RecordingError, as `Recording.batches` does."""
    return ahead(_piece(batch) for batch in recording.batches(COLUMNS) if batch.num_rows)


def extent(recording: Recording) -> tuple[float, float] | None:
    """When, in seconds, the first and the last request were sent (else due, else done); None if nobody knows."""
    sent = recording.bounds("sent_ns")
    if sent is not None and sent[0] >= 0:
        return sent[0] * 1e-9, sent[1] * 1e-9
    ends: list[int] = []
    for batch in recording.batches(("sent_ns", "due_ns", "done_ns")):
        at = _begin(*(_numbers(batch, name) for name in ("sent_ns", "due_ns", "done_ns")))
        at = at[at >= 0]
        ends += [int(at.min()), int(at.max())] if len(at) else []
    return (min(ends) * 1e-9, max(ends) * 1e-9) if ends else None


def _piece(batch: pa.RecordBatch) -> Piece:
    due, sent, first, done = (_numbers(batch, f"{name}_ns") for name in ("due", "sent", "first", "done"))
    osl = _numbers(batch, "osl")
    scores, failed = _is(batch, "assignment", "score"), ~_is(batch, "status", "ok")
    unanswered = failed | scores
    times = np.empty((len(TIMES), batch.num_rows))
    for row, (begin, end) in enumerate(((sent, first), (first, done), (due, done), (sent, done))):
        times[row] = end - begin
        times[row][unanswered | (begin < 0) | (end < begin)] = np.nan
    times[1][osl < 2] = np.nan
    times[1] /= np.maximum(osl - 1, 1)
    return Piece(
        batch=batch,
        arm=places_of(batch),
        stage=_numbers(batch, "stage"),
        at_ns=_begin(sent, due, done),
        what=np.where(failed, FAILED, ANSWERED).astype(np.int8) + np.where(scores, SCORED, 0).astype(np.int8),
        times=times,
        tokens=bool((osl[~unanswered] > 0).any()),
    )


def _begin(sent: Ints, due: Ints, done: Ints) -> Ints:
    return sent if (sent >= 0).all() else np.where(sent >= 0, sent, np.where(due >= 0, due, done))


def _numbers(batch: pa.RecordBatch, name: str) -> Ints:
    if name not in batch.schema.names:
        return np.broadcast_to(np.int64(-1), batch.num_rows)
    column = batch.column(name)
    if column.null_count:
        column = pc.fill_null(column, -1)
    return np.asarray(column.to_numpy(zero_copy_only=False), np.int64)


def _is(batch: pa.RecordBatch, name: str, word: str) -> npt.NDArray[np.bool_]:
    return np.asarray(places_of(batch, name, (word,)) == 0)


def places_of(batch: pa.RecordBatch, name: str = "arm", words: Sequence[str] = ARMS) -> npt.NDArray[np.int8]:
    """The place in `words` of each text of a column, -1 of any other."""
    if name not in batch.schema.names:
        return np.full(batch.num_rows, -1, np.int8)
    coded = batch.column(name)
    if not pa.types.is_dictionary(coded.type):
        coded = pc.dictionary_encode(coded)
    known = [words.index(text) if text in words else -1 for text in coded.dictionary.to_pylist()]
    places = pc.fill_null(coded.indices, len(known)) if coded.null_count else coded.indices
    return np.asarray(np.array([*known, -1], np.int8)[places.to_numpy(zero_copy_only=False)])
