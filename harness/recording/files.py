"""Tables with exactly the columns that are documented."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import RecordingError


def conform(table: pa.Table, schema: pa.Schema, path: Path, *, required: tuple[str, ...]) -> pa.Table:
    """`table` with exactly the columns of `schema`; what is missing (a column, or a value in it) is -1, "" or false.

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
    if pa.types.is_boolean(wanted):
        return bool(pa.types.is_boolean(found))
    return bool(pa.types.is_list(found) or pa.types.is_large_list(found)) and _fits(found.value_type, wanted.value_type)


def _blank(kind: Any) -> Any:
    if pa.types.is_string(kind):
        return ""
    if pa.types.is_boolean(kind):
        return False
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
