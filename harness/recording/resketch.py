"""Sketches of samples that are on disk: of others' recordings, and of workers that were killed.

A worker that is killed has samples on disk that its sketch lacks: those of the blocks that were open. What it had
flushed of both is acknowledged, and the samples say more, so its sketch is made anew from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from harness.errors import RecordingError
from harness.files import discard, publish
from harness.recording.blocks import Rows
from harness.recording.parts import part_number, stream_parts, stream_path
from harness.recording.requests import COLUMNS
from harness.recording.schema import CHUNKS, SAMPLES, SKETCHES, SUMS
from harness.recording.sketcher import TOGETHER, Sketcher
from harness.recording.sketches import merge
from harness.recording.stream import StreamWriter, has_ended, read_batches
from harness.types import StageRecord


def sketch(
    samples: pa.Table, stages: Sequence[StageRecord], chunks: pa.Table | None = None
) -> tuple[pa.Table, pa.Table]:
    """Tables of SKETCHES and SUMS of a whole recording: what its workers would have shipped, one row a key."""
    ordered = samples.select(COLUMNS).sort_by([("pair_id", "ascending")])
    slices = (ordered.slice(at, TOGETHER) for at in range(0, ordered.num_rows, TOGETHER))
    rows = list(_rows(slices, chunks.to_batches() if chunks is not None else (), stages))
    sketches = pa.Table.from_batches([each.sketches for each in rows], SKETCHES)
    return merge(sketches), merge(pa.Table.from_batches([each.sums for each in rows], SUMS))


def complete_sketches(folder: Path, stages: Sequence[StageRecord]) -> tuple[int, ...]:
    """Makes the sketches of workers that did not come to their end anew; returns those workers. To be called before
    `seal`, when nobody writes any more; a kill in between leaves the old ones or the new ones. Raises RecordingError.
    """
    killed = []
    for samples in stream_parts(folder, "samples"):
        worker = (part_number(samples.name, "samples") or 0) - 1
        sketches, sums = (stream_path(folder, name, worker) for name in ("sketches", "sums"))
        if worker >= 0 and sketches.exists() and sums.exists() and not (has_ended(sketches) and has_ended(sums)):
            chunks = stream_path(folder, "chunks", worker)
            arrived = read_batches(chunks, CHUNKS) if chunks.exists() else ()
            rows = list(_rows(read_batches(samples, SAMPLES), arrived, stages))
            # One that is replaced and one that is not are still one that has not ended: both are made again.
            _replace(sketches, SKETCHES, (each.sketches for each in rows))
            _replace(sums, SUMS, (each.sums for each in rows))
            killed.append(worker)
    return tuple(killed)


def _rows(
    samples: Iterable[pa.RecordBatch | pa.Table], chunks: Iterable[pa.RecordBatch], stages: Sequence[StageRecord]
) -> Iterator[Rows]:
    sketcher = Sketcher()
    for record in stages:
        sketcher.stage(record.plan, record.begin_ns)
    for add, batches in ((sketcher.add, samples), (sketcher.add_chunks, chunks)):
        for batch in batches:
            add(batch)
            if (rows := sketcher.closed()) is not None:
                yield rows
    if (rows := sketcher.rest()) is not None:
        yield rows


def _replace(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    discard(temporary)
    try:
        with StreamWriter(temporary, schema) as writer:
            for batch in batches:
                writer.write(batch)
        publish(temporary, path)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        discard(temporary)
