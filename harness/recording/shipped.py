"""Sketches in place of samples: what workers shipped, as a run's folder has it or as two files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from harness.errors import RecordingError, UsageError
from harness.recording.files import conform, read_parquet
from harness.recording.schema import SKETCHES, SUMS
from harness.recording.sealing import parquet_path, read_table

_OWN = {"block", "bin", "count"}


def is_sketches(path: Path) -> bool:
    """Whether a Parquet file has the columns that only a file of sketches has."""
    try:
        return set(pq.read_schema(path).names) >= _OWN
    except (pa.ArrowException, OSError):
        return False


def read_sketches(path: Path) -> tuple[pa.Table, pa.Table]:
    """A file of sketches and the one of their sums, named like it with `sums` in place of `sketches`. Raises
    UsageError.
    """
    beside = path.with_name(path.name.replace("sketches", "sums"))
    if beside == path or not beside.is_file():
        wanted = "sums.parquet" if beside == path else beside.name
        raise UsageError(f"{path}: is a file of sketches; expected {wanted} with their sums beside it")
    try:
        sketches = conform(read_parquet(path), SKETCHES, path, required=tuple(SKETCHES.names))
        sums = conform(read_parquet(beside), SUMS, beside, required=tuple(SUMS.names))
        _check(sketches, sums, path)
    except RecordingError as error:
        raise UsageError(str(error)) from error
    return sketches, sums


def folder_sketches(folder: Path) -> tuple[pa.Table | None, pa.Table | None]:
    """Those of a run's folder, sealed or not; None if it does not have both. Raises RecordingError."""
    sketches, sums = read_table(folder, "sketches"), read_table(folder, "sums")
    if sketches is None or sums is None:
        return None, None
    _check(sketches, sums, parquet_path(folder, "sketches"))
    return sketches, sums


def _check(sketches: pa.Table, sums: pa.Table, path: Path) -> None:
    """A sketch and its sums are of the same values: as many of each metric, or one of the files is not whole."""
    for table, column in ((sketches, "count"), (sums, "n")):
        least = pc.min(table[column]).as_py()
        if least is not None and least < 0:
            raise RecordingError(f"{path}: column {column}: expected numbers from 0 up, found {least}")
    counted = _totals(sketches, "count")
    summed = {metric: n for metric, n in _totals(sums, "n").items() if "." not in metric}
    for metric in sorted(counted.keys() | summed.keys()):
        one, two = counted.get(metric, 0), summed.get(metric, 0)
        if one != two:
            raise RecordingError(f"{path}: has {one} values of {metric}, the sums beside it are of {two}")


def _totals(table: pa.Table, column: str) -> dict[str, int]:
    grouped = table.group_by("metric").aggregate([(column, "sum")])
    return dict(zip(grouped["metric"].to_pylist(), grouped[f"{column}_sum"].to_pylist(), strict=True))
