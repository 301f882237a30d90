"""A row a request of Locust in JMeter's CSV format: `timeStamp,elapsed,label,responseCode,...,success,failureMessage`.

`elapsed` is in ms: request_latency. Where `timeStamp` is a number of ms it is when the request began (as JMeter's own
jmeter.properties have it). Where it is a date, the JmeterListener of locust-plugins wrote it, when the request had
ended. That listener (5.0.3) never writes requests that got no answer (asked for a response that is none, Locust raises
the request's own error), so such a file cannot show that a candidate is good. It quotes nothing, so a comma in an
exception makes a row too long: of such a row the columns up to `success` are read, and the rest is the failure.

No first token, no due time, no tokens. The words baseline and candidate in `label` (the request's name) tell the arms
of one file apart.
"""

from __future__ import annotations

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

TOOL = "Locust"
_BEGIN = b"timeStamp,elapsed,label,"
_NEEDED = ("timeStamp", "elapsed", "label", "responseCode", "success", "failureMessage")
_WANTED = (*_NEEDED, "allThreads")
_LOSES = "the JmeterListener of locust-plugins loses requests that got no answer, so nothing shows that there were none"
_SURE = 8  # columns of a row that no free text comes before


def recognises(head: bytes) -> bool:
    return head.startswith(_BEGIN)


def read(path: Path) -> Run:
    """Raises UsageError naming file and column."""
    with path.open("rb") as file:
        names = file.readline().decode("utf-8", "replace").strip().split(",")
        by_locust = not file.readline().split(b",")[0].isdigit()
    tool = "JMeter" if "threadName" in names and not by_locust else TOOL
    missing_columns(path, tool, names, _NEEDED)
    table, unreadable = _table(path, tool, names, quoted=not by_locust)
    elapsed = as_milliseconds(_numbers(path, tool, table, "elapsed", pa.float64()))
    whole = not (elapsed % 1_000_000).any()
    stamp = _stamps(path, tool, table, dates=by_locust)
    sent, done = (stamp - elapsed, stamp) if by_locust else (stamp, stamp + elapsed)
    status, error = _ends(table)
    samples = samples_of(
        path, table.num_rows, arm=arms_in([table["label"]]), sent_ns=sent, done_ns=done, status=status, error=error,
        code=table["responseCode"],
    )  # fmt: skip
    notes = ["its times are whole milliseconds"] if whole else []
    notes += [f"{unreadable} of its lines are no rows and are left out"] if unreadable else []
    return Run(
        tool, samples, loads=(_users(table),), notes=tuple(notes), step_ns=1_000_000 if whole else 1,
        loses=_LOSES if by_locust else "",
    )  # fmt: skip


def _users(table: pa.Table) -> str:
    counts = pc.unique(table["allThreads"]).to_pylist() if "allThreads" in table.column_names else []
    users = max((int(count) for count in counts if count.isdigit()), default=0)
    return f"{users} users" if users else ""


def _table(path: Path, tool: str, names: list[str], *, quoted: bool) -> tuple[pa.Table, int]:
    """The columns of _WANTED as text, and how many lines could not be read."""
    odd = OddRows()
    wanted = [name for name in _WANTED if name in names]

    try:
        table = csv.read_csv(
            path,
            read_options=csv.ReadOptions(use_threads=False),
            parse_options=csv.ParseOptions(
                quote_char='"' if quoted else False, newlines_in_values=quoted, invalid_row_handler=odd
            ),
            convert_options=csv.ConvertOptions(
                include_columns=wanted, column_types=dict.fromkeys(wanted, pa.string()), strings_can_be_null=False
            ),
        )
    except (pa.ArrowInvalid, OSError) as error:
        raise UsageError(f"{path}: {tool}: {one_line(error)}") from error
    rows = [text.split(",") for text in odd.texts]
    good = [row for row in rows if len(row) > len(names) and row[_SURE - 1] in ("true", "false")]
    if good:
        found = [{**dict(zip(names[:_SURE], row[:_SURE], strict=True)), "failureMessage": _rest(row)} for row in good]
        more = pa.table({name: [row.get(name, "") for row in found] for name in wanted}, schema=table.schema)
        table = pa.concat_tables([table, more])
    return table.combine_chunks(), len(rows) - len(good)


def _rest(row: list[str]) -> str:
    return ",".join(row[_SURE:])


def _numbers(path: Path, tool: str, table: pa.Table, name: str, kind: pa.DataType) -> Any:
    try:
        return table[name].cast(kind).to_numpy()
    except pa.ArrowInvalid as error:
        raise UsageError(f"{path}: {tool}: column {name}: expected numbers of ms: {one_line(error)}") from error


def _stamps(path: Path, tool: str, table: pa.Table, *, dates: bool) -> Any:
    """ns since 1970. Dates are those of a local clock, so files from two time zones never count as side by side."""
    if not dates:
        return _numbers(path, tool, table, "timeStamp", pa.int64()) * 1_000_000
    try:
        return table["timeStamp"].cast(pa.timestamp("ns")).cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid as error:
        wanted = "expected dates such as 2026-01-01 12:00:00, or ms since 1970"
        raise UsageError(f"{path}: {tool}: column timeStamp: {wanted}: {one_line(error)}") from error


def _ends(table: pa.Table) -> tuple[Any, Any]:
    """Status and class of each request; only those that failed are looked at one by one."""
    code = mapped(table["responseCode"], lambda text: text if text.isdigit() and text != "0" else "")
    failed = pc.not_equal(pc.utf8_lower(table["success"]), "true").to_numpy()
    status = np.full(table.num_rows, "ok", object)
    error = np.full(table.num_rows, "", object)
    for row in np.flatnonzero(failed).tolist():
        text, number = table["failureMessage"][row].as_py(), code[row].as_py()
        status[row] = failed_as(int(number or 0), text)
        error[row] = f"http {number}" if number else text.partition("(")[0].partition(":")[0].strip() or "failed"
    return pa.array(status, pa.string()), pa.array(error, pa.string())
