"""From streams to Parquet: all parts of a file become one, in their fixed order.

Sealing is a sequence of steps that each leave the folder readable: temporary file, fsync, rename, unlink of each part.
A kill between any two loses nothing, and the next `seal` goes on; so does a part that comes late, such as the file of a
worker on another host. For that the Parquet file says which parts it holds, and how many rows of each.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import RecordingError
from harness.files import discard, publish
from harness.recording.files import conform, read_parquet
from harness.recording.parts import part_number, stream_parts, stream_path
from harness.recording.schema import LATER_COLUMNS, SCHEMAS
from harness.recording.stream import read_batches

# Rows of a row group: few enough for constant memory, many enough for compression.
_GROUP_ROWS = 1 << 16
# Where a Parquet file lists its parts: {"samples-0.arrow": rows}.
_PARTS_KEY = b"triton-canary.parts"


def parquet_path(folder: Path, name: str) -> Path:
    """Where `name` (a key of SCHEMAS) is once sealed."""
    return folder / f"{name}.parquet"


def read_table(folder: Path, name: str) -> pa.Table | None:
    """One file of a recording, with the columns of SCHEMAS[name], sealed or not.

    Streams are read as far as they are whole; None if the folder has nothing of it. Raises RecordingError if a file is
    damaged or has other columns.
    """
    schema = SCHEMAS[name]
    sealed, parts = parquet_path(folder, name), stream_parts(folder, name)
    if not sealed.exists():
        return _table(_streamed(parts, schema), schema) if parts else None
    required = tuple(column for column in schema.names if column not in LATER_COLUMNS.get(name, ()))
    table = conform(read_parquet(sealed), schema, sealed, required=required)
    segments = _merged(folder, name, parts) if parts else None
    return table if segments is None else _table(segments, schema)


def seal(folder: Path) -> dict[str, str]:
    """Turns the streams of the folder into Parquet and removes them; returns SHA-256 (hex) by file name.

    Nobody may be writing any more. Idempotent; after a kill it goes on where it was. Raises RecordingError
    (disk full): the streams are then still there and readable.
    """
    for name in SCHEMAS:
        parts = stream_parts(folder, name)
        if parts:
            _seal_one(folder, name, parts)
    return checksums(folder)


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 (hex) of each sealed file, by file name."""
    sealed = (parquet_path(folder, name) for name in SCHEMAS)
    return {path.name: _sha256(path) for path in sealed if path.exists()}


def changed_files(folder: Path, expected: Mapping[str, str]) -> tuple[str, ...]:
    """The names in `expected` (SHA-256 by file name, as `seal` returned) that are gone or have changed."""
    found = checksums(folder)
    return tuple(name for name, digest in sorted(expected.items()) if found.get(name) != digest)


@dataclass(frozen=True, slots=True)
class _Segment:
    """The rows of one part: all of its stream, or `rows` of the Parquet file that holds it, `skip` rows in."""

    part: str
    path: Path
    schema: pa.Schema
    rows: int | None = None
    skip: int = 0

    def batches(self) -> Iterator[pa.RecordBatch]:
        if self.rows is None:
            yield from read_batches(self.path, self.schema)
            return
        at, end = 0, self.skip + self.rows
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(_GROUP_ROWS):
                first, last = max(self.skip - at, 0), min(end - at, batch.num_rows)
                at += batch.num_rows
                if first < last:
                    yield batch.slice(first, last - first).cast(self.schema)

    def count(self) -> int:
        return sum(batch.num_rows for batch in self.batches()) if self.rows is None else self.rows


def _seal_one(folder: Path, name: str, parts: list[Path]) -> None:
    sealed, schema = parquet_path(folder, name), SCHEMAS[name]
    segments = _merged(folder, name, parts) if sealed.exists() else _streamed(parts, schema)
    if segments is not None:
        temporary = folder / f".{sealed.name}.tmp"
        try:
            _convert(segments, temporary, schema)
            publish(temporary, sealed)
        except OSError as error:
            discard(temporary)
            raise RecordingError(f"{sealed}: cannot be written: {error.strerror or error}") from error
    for part in parts:
        try:
            part.unlink()
        except OSError as error:
            raise RecordingError(f"{part}: cannot be removed: {error.strerror}") from error


def _streamed(parts: list[Path], schema: pa.Schema) -> list[_Segment]:
    return [_Segment(part.name, part, schema) for part in parts]


def _merged(folder: Path, name: str, parts: list[Path]) -> list[_Segment] | None:
    """The segments of the sealed file and of the streams beside it; None if the sealed file holds all of it already,
    as after a kill between the rename and the last unlink.
    """
    sealed, schema = parquet_path(folder, name), SCHEMAS[name]
    streams = {segment.part: segment for segment in _streamed(parts, schema)}
    try:
        held = _held(sealed, name, schema)
    except (pa.ArrowException, OSError, ValueError):
        return list(streams.values())  # no whole file: it can only be ours if it was damaged later
    fresh = {part: s for part, s in streams.items() if part not in held or s.count() > held[part].count()}
    if not fresh:
        return None
    return sorted({**held, **fresh}.values(), key=lambda segment: part_number(segment.part, name) or 0)


def _held(sealed: Path, name: str, schema: pa.Schema) -> dict[str, _Segment]:
    metadata = pq.read_metadata(sealed)
    own = stream_path(sealed.parent, name).name
    # A file of an earlier release, or somebody else's, is one part.
    listed = json.loads((metadata.metadata or {}).get(_PARTS_KEY, json.dumps({own: metadata.num_rows})))
    held: dict[str, _Segment] = {}
    skip = 0
    for part, rows in listed.items():
        held[part] = _Segment(part, sealed, schema, rows, skip)
        skip += rows
    return held


def _convert(segments: list[_Segment], target: Path, schema: pa.Schema) -> None:
    rows = {segment.part: 0 for segment in segments}

    def batches() -> Iterator[pa.RecordBatch]:
        for segment in segments:
            for batch in segment.batches():
                rows[segment.part] += batch.num_rows
                yield batch

    with target.open("wb") as file:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for group in _grouped(batches()):
                writer.write_table(pa.Table.from_batches(group, schema=schema))
            writer.add_key_value_metadata({_PARTS_KEY: json.dumps(rows).encode()})
        file.flush()
        os.fsync(file.fileno())


def _grouped(batches: Iterator[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Many small batches to few row groups."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        waiting.append(batch)
        rows += batch.num_rows
        if rows >= _GROUP_ROWS:
            yield waiting
            waiting, rows = [], 0
    yield waiting


def _table(segments: list[_Segment], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_batches([batch for segment in segments for batch in segment.batches()], schema=schema)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
