"""Samples that are too many to be read at once: batches of a Parquet file, with the columns that are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import RecordingError
from harness.recording.files import conform
from harness.recording.schema import REQUIRED_SAMPLE_COLUMNS, SAMPLES
from harness.types import ArmName, Status

_WORDS = {"arm": get_args(ArmName), "status": get_args(Status)}
# Few enough to stay in a cache of the second level, many enough that a batch costs little.
BATCH_ROWS = 1 << 16


@dataclass(frozen=True, slots=True)
class SampleFile:
    """A Parquet file with at least the required columns of SAMPLES."""

    path: Path
    rows: int

    @classmethod
    def open(cls, path: Path) -> SampleFile:
        """Reads no row. Raises RecordingError where it is damaged, or a column is missing or of another type."""
        try:
            with pq.ParquetFile(path) as file:
                conform(file.schema_arrow.empty_table(), SAMPLES, path, required=REQUIRED_SAMPLE_COLUMNS)
                return cls(path, file.metadata.num_rows)
        except (pa.ArrowException, OSError) as error:
            raise RecordingError(f"{path}: is not a whole Parquet file") from error

    def bounds(self, column: str) -> tuple[int, int] | None:
        """The least and the greatest number in a column, by the file's own statistics; None where it has none. Raises
        RecordingError.
        """
        try:
            with pq.ParquetFile(self.path) as file:
                meta, paths = file.metadata, [file.schema.column(n).path for n in range(len(file.schema))]
                if column not in paths:
                    return None
                place = paths.index(column)
                groups = [meta.row_group(n).column(place).statistics for n in range(meta.num_row_groups)]
        except (pa.ArrowException, OSError) as error:
            raise RecordingError(f"{self.path}: cannot be read: {' '.join(str(error).split())}") from error
        if not groups or not all(one is not None and one.has_min_max and not one.null_count for one in groups):
            return None
        return min(one.min for one in groups), max(one.max for one in groups)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Those of `columns` that the file has, texts as dictionaries. Raises RecordingError where arm or status is no
        known word, or a required value is missing, as far as they are among `columns`.
        """
        at = 0
        try:
            # Buffered reads: a file may be one row group, whose columns need not be held whole.
            there = pq.read_schema(self.path).names
            known = [name for name in columns if name in there]
            texts = [name for name in known if pa.types.is_string(SAMPLES.field(name).type)]
            with pq.ParquetFile(self.path, read_dictionary=texts, buffer_size=1 << 20) as file:
                for batch in file.iter_batches(BATCH_ROWS, columns=known):
                    self._check(batch, at)
                    at += batch.num_rows
                    yield batch
        except (pa.ArrowException, OSError) as error:
            raise RecordingError(f"{self.path}: cannot be read: {' '.join(str(error).split())}") from error

    def _check(self, batch: pa.RecordBatch, at: int) -> None:
        for name in REQUIRED_SAMPLE_COLUMNS:
            if name not in batch.schema.names:
                continue
            column = batch.column(name)
            if column.null_count:
                raise RecordingError(f"{self.path}: column {name}: {column.null_count} rows have no value")
            if name not in _WORDS:
                continue
            words = column.dictionary if pa.types.is_dictionary(column.type) else column.unique()
            for word in words.to_pylist():
                if word not in _WORDS[name]:
                    plain = column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
                    row = pa.compute.index(plain, word).as_py()
                    if row >= 0:  # a dictionary may have words that no row uses
                        known = ", ".join(_WORDS[name])
                        raise RecordingError(
                            f"{self.path}: column {name}: row {at + row}: expected one of {known}, found {word!r}"
                        )
