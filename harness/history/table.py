"""A history's rows: one a run, its figures as lists, so that a run is there as a whole or not at all.

Text that many runs share (`definition`, `fingerprint`, `measures`) is JSON, which Parquet keeps once a file; `value`,
`baseline`, `effect`, `low` and `high` have an entry for each of `measures`, NaN where it is unknown.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness.history.arrow import codes, numbers, rows, rows_with
from harness.history.entry import Entry, measure_json

FORMAT = "1"
FORMAT_KEY = b"triton-canary.history"
NUMBERS = ("value", "baseline", "effect", "low", "high")
SHARED = ("series", "branch", "verdict", "unfit", "definition", "fingerprint", "measures")
"""Read as dictionaries: few different texts."""
SCHEMA = pa.schema(
    [
        ("run", pa.string()),
        ("digest", pa.string()),
        ("added_us", pa.int64()),
        ("name", pa.string()),
        ("started_utc", pa.string()),
        ("commit", pa.string()),
        *((name, pa.string()) for name in SHARED),
        *((name, pa.list_(pa.float64())) for name in NUMBERS),
    ],
    metadata={FORMAT_KEY: FORMAT.encode()},
)
# Rows of a row group: one series of a large history is read without most of the others.
_GROUP_ROWS = 1 << 12


def table_of(entries: Sequence[Entry], added_us: int) -> pa.Table:
    """`added_us`: when, in microseconds since 1970; of two entries of one run, the later one counts."""
    columns: dict[str, list[Any]] = {
        "run": [one.run for one in entries],
        "digest": [one.digest for one in entries],
        "added_us": [added_us] * len(entries),
        "name": [one.name for one in entries],
        "started_utc": [one.started_utc for one in entries],
        "commit": [one.commit for one in entries],
        "series": [one.series for one in entries],
        "branch": [one.branch for one in entries],
        "verdict": [one.verdict for one in entries],
        "unfit": [one.unfit for one in entries],
        "definition": [_text(one.definition) for one in entries],
        "fingerprint": [_text(one.fingerprint) for one in entries],
        "measures": [measure_json(one.measures) for one in entries],
    }
    columns |= {name: [[getattr(figure, name) for figure in one.figures] for one in entries] for name in NUMBERS}
    return pa.table(columns, schema=SCHEMA)


def newest(table: pa.Table) -> pa.Table:
    """Each run once: of several entries of a run the one that was added last."""
    run, distinct = codes(table["run"])
    if len(distinct) == table.num_rows:
        return table
    added = numbers(table["added_us"])
    order = np.lexsort((-added, run))
    first = np.flatnonzero(np.diff(run[order], prepend=-1))
    return rows(table, order[first])


def sorted_table(table: pa.Table) -> pa.Table:
    """As a file has it: plain columns, series by series, in time."""
    return table.cast(SCHEMA).sort_by([("series", "ascending"), ("started_utc", "ascending"), ("run", "ascending")])


def name_of(table: pa.Table) -> str:
    """`0000042-<digest>.parquet`: how many runs, and a digest of which entries. The same rows have the same name."""
    entries = sorted(zip(*(table[name].to_pylist() for name in ("run", "digest", "added_us")), strict=True))
    digest = hashlib.sha256(json.dumps(entries).encode()).hexdigest()
    return f"{table.num_rows:07d}-{digest[:32]}.parquet"


def rows_of(name: str) -> int | None:
    """How many runs a file holds, by its name; None of a file that is not a history's."""
    count, _, rest = name.partition("-")
    return int(count) if count.isdecimal() and rest else None


def to_bytes(table: pa.Table) -> bytes:
    """`table` as `sorted_table` gives it."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, SCHEMA, compression="zstd", write_page_checksum=True) as writer:
        writer.write_table(table, row_group_size=_GROUP_ROWS)
    return bytes(sink.getvalue())


def read_table(source: Any, columns: Sequence[str], series: str | None) -> pa.Table:
    """The rows of one file; with `series` only those of that one, and no more of the file than that takes.

    Raises ValueError (not of a format that is known) or pa.ArrowException (no whole Parquet file).
    """
    written = (pq.read_schema(source).metadata or {}).get(FORMAT_KEY, b"").decode()
    if written != FORMAT:
        raise ValueError(f"has format {written}, and this triton-canary reads {FORMAT}" if written else "is none")
    shared = [name for name in SHARED if name in columns]
    with pq.ParquetFile(source, read_dictionary=shared, page_checksum_verification=True) as file:
        if series is None:
            return file.read(columns=list(columns))
        groups = list(_groups(file, series))
        table = file.read_row_groups(groups, columns=list(columns))
        return rows_with(table, "series", series)


def _groups(file: pq.ParquetFile, series: str) -> Iterable[int]:
    place = file.schema_arrow.names.index("series")
    for number in range(file.num_row_groups):
        found = file.metadata.row_group(number).column(place).statistics
        if found is None or not found.has_min_max or found.min <= series <= found.max:
            yield number


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
