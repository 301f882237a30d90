"""k6's `--out csv=FILE` (also gzipped): a row for each value of each metric, of which one a request is wanted.

`http_req_duration` is sending + waiting + receiving: request_latency. (Waiting for a free connection and making one,
`http_req_blocked` and `http_req_connecting`, come before it and are not in it.) The row's timestamp is when the request
ended, in whole seconds unless `K6_CSV_TIME_FORMAT` says otherwise: that places it, its duration is exact all the same.
A failed request is one that k6 did not expect (`expected_response`), a failed gRPC call one with a status other than 0.
No first token, no due time. A file may hold both arms: the words baseline and candidate in a tag (`arm=candidate`), the
scenario's name or the request's name tell them apart.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from harness.errors import UsageError
from harness.recording.importers.run import (
    OddRows,
    Run,
    arms_in,
    as_milliseconds,
    failed_as,
    mapped,
    missing_columns,
    one_line,
    samples_of,
)
from harness.types import Status

TOOL = "k6"
_DURATIONS = ("http_req_duration", "grpc_req_duration")
_ARM_COLUMNS = ("extra_tags", "scenario", "name")
_NEEDED = ("metric_name", "timestamp", "metric_value", "error", "error_code", "status")
_WANTED = (*_NEEDED, *_ARM_COLUMNS, "expected_response")
_GZIP = b"\x1f\x8b"
# k6's error codes (its documentation, JavaScript API, error codes): 1050 a time-out, 1100 to 1199 name resolution,
# 1210 to 1219 dialling, of which 1211 is a time-out.
_TIMEOUT, _NO_CONNECTION = ("1050", "1211"), ("11", "121")
_GRPC: dict[str, Status] = {"1": "cancelled", "4": "timeout", "14": "refused"}
# The seconds since 1970 of the last day of 2100: a larger number is in a smaller unit.
_SECONDS, _MILLI, _MICRO = 4.2e9, 4.2e12, 4.2e15


def recognises(head: bytes) -> bool:
    return head[:2] == _GZIP or head.startswith(b"metric_name,timestamp,metric_value,")


def read(path: Path) -> Run:
    """Raises UsageError naming file and column. Streams: memory goes with requests, not with rows."""
    table, notes = _requests(path)
    if not table.num_rows:
        raise UsageError(f"{path}: {TOOL}: holds no row of {' or '.join(_DURATIONS)}")
    done = _done(path, table["timestamp"])
    duration = as_milliseconds(table["metric_value"].to_numpy())
    status, error = _ends(table)
    samples = samples_of(
        path, table.num_rows, arm=arms_in([table[name] for name in _ARM_COLUMNS if name in table.column_names]),
        sent_ns=np.where(duration > 0, done - duration, -1), done_ns=done, status=status, error=error,
        code=table["status"],
    )  # fmt: skip
    whole_seconds = not (done % 1_000_000_000).any()
    if whole_seconds:
        notes += ("its time stamps are whole seconds (K6_CSV_TIME_FORMAT=unix_milli would be finer)",)
    return Run(TOOL, samples, notes=notes)


def _requests(path: Path) -> tuple[pa.Table, tuple[str, ...]]:
    """The rows of requests, and what is to be said of them; columns that k6 did not write are left out."""
    odd = OddRows()
    with path.open("rb") as file:
        zipped = file.read(2) == _GZIP
    try:
        with gzip.open(path) if zipped else path.open("rb") as file:
            names = file.readline().decode("utf-8", "replace").strip().split(",")
        missing_columns(path, TOOL, names, _NEEDED)
        wanted = [name for name in _WANTED if name in names]
        options = csv.ConvertOptions(
            include_columns=wanted, column_types=dict.fromkeys(wanted, pa.string()), strings_can_be_null=False
        )
        with pa.input_stream(str(path), compression="gzip" if zipped else None) as source:
            reader = csv.open_csv(
                source, csv.ReadOptions(block_size=8 << 20), csv.ParseOptions(invalid_row_handler=odd), options
            )
            table = pa.Table.from_batches(list(_durations(reader)), reader.schema).combine_chunks()
    except (pa.ArrowInvalid, EOFError, OSError) as error:
        raise UsageError(f"{path}: {TOOL}: {one_line(error)}") from error
    return table, odd.notes(path, TOOL)


def _durations(reader: Any) -> Iterator[pa.RecordBatch]:
    for batch in reader:
        yield batch.filter(pc.is_in(batch["metric_name"], value_set=pa.array(_DURATIONS)))


def _done(path: Path, column: pa.ChunkedArray) -> Any:
    """ns since 1970, of any of k6's time formats."""
    try:
        if column.length() and not str(column[0]).isdigit():
            return column.cast(pa.timestamp("ns", "UTC")).cast(pa.int64()).to_numpy()
        stamp = column.cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid as error:
        raise UsageError(f"{path}: {TOOL}: column timestamp: {one_line(error)}") from error
    least = float(stamp[0]) if len(stamp) else 0.0
    unit = 10**9 if least < _SECONDS else 10**6 if least < _MILLI else 10**3 if least < _MICRO else 1
    return stamp * unit


def _ends(table: pa.Table) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Status and class of each request, from the few different endings there are."""
    expected = table["expected_response"] if "expected_response" in table.column_names else table["error_code"]
    keys = [table["metric_name"], table["status"], table["error_code"], table["error"], expected]
    ending = pc.binary_join_element_wise(*keys, "\x1f")
    return mapped(ending, lambda key: _end(key)[0]), mapped(ending, lambda key: _end(key)[1])


def _end(key: str) -> tuple[Status, str]:
    metric, status, error_code, error, expected = key.split("\x1f")
    if metric == "grpc_req_duration":
        return ("ok", "") if status in ("", "0") else (_GRPC.get(status, "error"), f"grpc {status}")
    code = int(status) if status.isdigit() else 0
    good = expected == "true" if expected in ("true", "false") else not error_code and 0 < code < 400
    if good:
        return "ok", ""
    kind = error or (f"http {code}" if code else error_code or "no answer")
    if error_code in _TIMEOUT:
        return "timeout", kind
    if error_code.startswith(_NO_CONNECTION):
        return "refused", kind
    return failed_as(code, error), kind
