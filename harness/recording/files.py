"""The files of a run folder: streams while it runs, Parquet once sealed; small files are whole or absent.

Sealing is a sequence of steps that each leave the folder readable: temporary file, fsync, rename, unlink of
the stream. A kill between any two loses nothing, and the next `seal` goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import RecordingError
from harness.recording.schema import SCHEMAS
from harness.recording.stream import read_batches

# Rows of a row group: few enough for constant memory, many enough for compression.
_GROUP_ROWS = 1 << 16


def stream_path(folder: Path, name: str) -> Path:
    """Where `name` (a key of SCHEMAS) is while the run goes on."""
    return folder / f"{name}.arrow"


def parquet_path(folder: Path, name: str) -> Path:
    """Where `name` (a key of SCHEMAS) is once sealed."""
    return folder / f"{name}.parquet"


def read_table(folder: Path, name: str) -> pa.Table | None:
    """One file of a recording, with the columns of SCHEMAS[name].

    Parquet if sealed, else the stream as far as it is whole; None if the folder has neither.
    Raises RecordingError if the file is damaged or has other columns.
    """
    schema = SCHEMAS[name]
    sealed = parquet_path(folder, name)
    if sealed.exists():
        return conform(read_parquet(sealed), schema, sealed, required=tuple(schema.names))
    stream = stream_path(folder, name)
    if stream.exists():
        return pa.Table.from_batches(list(read_batches(stream, schema)), schema=schema)
    return None


def seal(folder: Path) -> dict[str, str]:
    """Turns every stream of the folder into Parquet and removes it; returns SHA-256 (hex) by file name.

    Nobody may be writing any more. Idempotent; after a kill it goes on where it was. Raises RecordingError
    (disk full): the streams are then still there and readable.
    """
    for name in SCHEMAS:
        if stream_path(folder, name).exists():
            _seal_one(folder, name)
    return checksums(folder)


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 (hex) of each sealed file, by file name."""
    sealed = (parquet_path(folder, name) for name in SCHEMAS)
    return {path.name: _sha256(path) for path in sealed if path.exists()}


def changed_files(folder: Path, expected: Mapping[str, str]) -> tuple[str, ...]:
    """The names in `expected` (SHA-256 by file name, as `seal` returned) that are gone or have changed."""
    found = checksums(folder)
    return tuple(name for name, digest in sorted(expected.items()) if found.get(name) != digest)


def atomic_write(path: Path, content: bytes) -> None:
    """Replaces `path`: after a crash it holds the old bytes or the new ones. Raises RecordingError."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _publish(temporary, path)
    except OSError as error:
        _discard(temporary)
        raise RecordingError(f"{path}: cannot be written: {error.strerror or error}") from error


def conform(table: pa.Table, schema: pa.Schema, path: Path, *, required: tuple[str, ...]) -> pa.Table:
    """`table` with exactly the columns of `schema`; what is missing (a column, or a value in it) is -1 or "".

    Integers of any width and text in any of Arrow's forms (dictionaries too) fit; floats are no times in ns.
    Raises RecordingError naming the column: a required one is missing or lacks values, or has another type.
    """
    for name in required:
        if name not in table.column_names:
            raise RecordingError(f"{path}: column {name} is missing (has: {', '.join(table.column_names) or 'none'})")
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            columns.append(_unknown(field.type, table.num_rows))
            continue
        column = table.column(field.name)
        if column.null_count and field.name in required:
            raise RecordingError(f"{path}: column {field.name}: {column.null_count} rows have no value")
        columns.append(_cast(column, field, path))
    return pa.table(columns, schema=schema)


def _cast(column: Any, field: Any, path: Path) -> Any:
    found = column.type
    value_type = found.value_type if pa.types.is_dictionary(found) else found
    if not _fits(value_type, field.type):
        raise RecordingError(f"{path}: column {field.name}: expected {field.type}, found {found}")
    try:
        cast = column.cast(field.type)
        return cast.fill_null(_blank(field.type)) if cast.null_count else cast
    except (pa.ArrowException, OSError) as error:
        detail = " ".join(str(error).split())
        raise RecordingError(f"{path}: column {field.name}: expected {field.type}: {detail}") from error


def _fits(found: Any, wanted: Any) -> bool:
    if pa.types.is_null(found):
        return True
    if pa.types.is_string(wanted):
        return bool(pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found))
    if pa.types.is_integer(wanted):
        return bool(pa.types.is_integer(found))
    if pa.types.is_floating(wanted):
        return bool(pa.types.is_floating(found) or pa.types.is_integer(found))
    return bool(pa.types.is_list(found) or pa.types.is_large_list(found)) and _fits(found.value_type, wanted.value_type)


def _blank(kind: Any) -> Any:
    if pa.types.is_string(kind):
        return ""
    return [] if pa.types.is_list(kind) else -1


def _unknown(kind: Any, rows: int) -> Any:
    return pa.repeat(pa.scalar(_blank(kind), type=kind), rows)


def read_parquet(path: Path) -> pa.Table:
    try:
        return pq.read_table(path, partitioning=None)
    except pa.ArrowInvalid as error:
        raise RecordingError(f"{path}: is not a whole Parquet file") from error
    except (pa.ArrowException, OSError) as error:
        raise RecordingError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error


def _seal_one(folder: Path, name: str) -> None:
    stream, sealed, schema = stream_path(folder, name), parquet_path(folder, name), SCHEMAS[name]
    if not _holds_all(sealed, stream, schema):
        temporary = folder / f".{sealed.name}.tmp"
        try:
            _convert(stream, temporary, schema)
            _publish(temporary, sealed)
        except OSError as error:
            _discard(temporary)
            raise RecordingError(f"{sealed}: cannot be written: {error.strerror or error}") from error
    try:
        stream.unlink()
    except OSError as error:
        raise RecordingError(f"{stream}: cannot be removed: {error.strerror}") from error


def _holds_all(sealed: Path, stream: Path, schema: pa.Schema) -> bool:
    """Whether a kill came between the rename and the unlink, so that only the unlink is left to do."""
    if not sealed.exists():
        return False
    try:
        rows = pq.read_metadata(sealed).num_rows
    except (pa.ArrowException, OSError):
        return False
    return bool(rows >= sum(batch.num_rows for batch in read_batches(stream, schema)))


def _convert(stream: Path, target: Path, schema: pa.Schema) -> None:
    with target.open("wb") as file:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            waiting: list[pa.RecordBatch] = []
            rows = 0
            for batch in read_batches(stream, schema):
                waiting.append(batch)
                rows += batch.num_rows
                if rows >= _GROUP_ROWS:
                    writer.write_table(pa.Table.from_batches(waiting, schema=schema))
                    waiting, rows = [], 0
            writer.write_table(pa.Table.from_batches(waiting, schema=schema))
        file.flush()
        os.fsync(file.fileno())


def _publish(temporary: Path, path: Path) -> None:
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _discard(path: Path) -> None:
    # The error that brought us here is the one to report.
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
