"""Locust's `--csv` history, `*_stats_history.csv`: a line a second of what had been counted by then.

It says how many requests had come and how many of them had failed, so errors can be judged, each at the second in which
it was counted. It does not say how long any request took: its percentiles are those of the last ten seconds, of all
requests together, and a quantile of quantiles is no quantile. So every time is unknown here, and a gate on one says "no
data". With `--csv-full-history` there is a line for each name, and the words baseline and candidate in it tell arms
apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from harness.errors import UsageError
from harness.recording.importers.run import OddRows, Run, missing_columns, named, one_line, samples_of

TOOL = "Locust"
_COUNTS = ("Total Request Count", "Total Failure Count")
_NEEDED = ("Timestamp", "User Count", "Type", "Name", *_COUNTS)
_ALL = "Aggregated"


def recognises(head: bytes) -> bool:
    line = head.partition(b"\n")[0]
    return line.startswith(b"Timestamp,User Count,") and _COUNTS[0].encode() in line


def read(path: Path) -> Run:
    """One sample a request, placed at the second in which it was counted. Raises UsageError naming file and column."""
    kinds = {"Type": pa.string(), "Name": pa.string(), **dict.fromkeys(("Timestamp", *_COUNTS), pa.int64())}
    odd = OddRows()
    try:
        with path.open("rb") as file:
            missing_columns(path, TOOL, file.readline().decode("utf-8", "replace").strip().split(","), _NEEDED)
        convert = csv.ConvertOptions(include_columns=_NEEDED, column_types=kinds)
        table = csv.read_csv(path, parse_options=csv.ParseOptions(invalid_row_handler=odd), convert_options=convert)
    except (pa.ArrowInvalid, OSError) as error:
        raise UsageError(f"{path}: {TOOL}: {one_line(error)}") from error
    names = [name for name in pc.unique(table["Name"]).to_pylist() if name != _ALL]
    names = [name for name in names if named(name)] or [_ALL]
    parts = [_counted(table.filter(pc.equal(table["Name"], name)), named(name)) for name in names]
    done, status, arm = (np.concatenate([part[i] for part in parts]) for i in range(3))
    samples = samples_of(
        path, len(done), done_ns=done, status=pa.array(status, pa.string()), arm=pa.array(arm, pa.string()),
        error=pa.array(np.where(status == "ok", "", "failed"), pa.string()),
    )  # fmt: skip
    users = pc.max(table["User Count"]).as_py()
    notes = odd.notes(path, TOOL)
    note = "its history counts requests and failures a second and times none, so only errors can be judged"
    return Run(TOOL, samples, loads=(f"{users} users",), notes=(note, *notes))


def _counted(table: pa.Table, arm: str) -> tuple[Any, Any, Any]:
    """End, status and arm of each request of one name; counts that fall began anew (`--reset-stats`)."""
    at = table["Timestamp"].to_numpy()
    came, failed = (_grown(table[name].to_numpy()) for name in _COUNTS)
    failed = np.minimum(failed, came)
    counts = np.stack([came - failed, failed], axis=1)
    done = np.repeat(at * 10**9, came)
    status = np.repeat(np.tile(np.array(["ok", "error"], object), len(at)), counts.reshape(-1))
    return done, status, np.full(len(done), arm, object)


def _grown(total: Any) -> Any:
    """How much a counter grew by each line, from 0 on."""
    grown = np.diff(total, prepend=0)
    return np.where(grown >= 0, grown, total)
