"""AIPerf's `profile_export.jsonl`: one object a request (MetricRecordInfo in aiperf.common.models.record_models).

`request_start_ns` is when it was sent, `request_end_ns` when it ended, both by the clock of the day;
`time_to_first_token` counts from the start to the first content, so ttft, tpot and request_latency mean what they do
here. `credit_issued_ns` is when AIPerf's rate limiter let the request go, which is no due time: a limiter that is late
issues it late. Requests of a warm-up phase are left out. Beside the file lies, if nobody moved it,
`profile_export_aiperf.json`: it says what load was asked for, and whose tokenizer counted.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import json as pj

from harness.errors import UsageError
from harness.recording.importers.run import Run, failed_as, one_line, samples_of

TOOL = "AIPerf"
_BLOCK = 16 << 20  # more than the longest line: one of a thousand chunks has 20 kB
_VALUE = pa.struct([("value", pa.float64()), ("unit", pa.string())])
_METADATA = pa.struct(
    [
        ("request_start_ns", pa.int64()),
        ("request_end_ns", pa.int64()),
        ("x_request_id", pa.string()),
        ("x_correlation_id", pa.string()),
        ("benchmark_phase", pa.string()),
        ("was_cancelled", pa.bool_()),
    ]
)
_METRICS = ("time_to_first_token", "input_sequence_length", "output_sequence_length")
_SCHEMA = pa.schema(
    [
        ("metadata", _METADATA),
        ("metrics", pa.struct([(name, _VALUE) for name in _METRICS])),
        ("error", pa.struct([("code", pa.int64()), ("type", pa.string()), ("message", pa.string())])),
    ]
)
_NS = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9, "sec": 1e9}
_NO_LOAD = ("name", "kind", "requests", "duration", "exclude_from_results")


def recognises(head: bytes) -> bool:
    line = head.partition(b"\n")[0]
    return head[:1] == b"{" and all(key in line for key in (b'"metadata"', b'"metrics"', b"request_start_ns"))


def read(path: Path) -> Run:
    """Raises UsageError naming file, line and key. A last line that was cut off is left out, and noted."""
    table, cut_off = _table(path)
    metadata = _fields(table["metadata"])
    start, end = (_required(path, metadata, name) for name in ("request_start_ns", "request_end_ns"))
    metrics = _fields(table["metrics"])
    isl, osl = (_count(metrics[name]) for name in _METRICS[1:])
    first = _since(path, metrics["time_to_first_token"], start)
    status, error, code = _ends(table["error"], metadata["was_cancelled"])
    samples = samples_of(
        path, table.num_rows, sent_ns=start, done_ns=end, first_ns=first, isl=isl, osl=osl, status=status, error=error,
        code=code, request_id=metadata["x_request_id"], unit=metadata["x_correlation_id"],
    )  # fmt: skip
    warm_up = pc.fill_null(pc.equal(metadata["benchmark_phase"], "warmup"), False)
    notes = [f"its last line is cut off: the {table.num_rows} before it count"] if cut_off else []
    if left := int(pc.sum(warm_up).as_py() or 0):
        notes.append(f"{left} requests of its warm-up are left out")
        samples = samples.filter(pc.invert(warm_up))
        if not samples.num_rows:
            raise UsageError(f"{path}: holds no request but those of its warm-up")
    load, tokens = _beside(path)
    counted = bool((samples["osl"].to_numpy() >= 0).any())
    return Run(TOOL, samples, loads=(load,), tokens=tokens if counted else "", notes=tuple(notes))


def _table(path: Path) -> tuple[pa.Table, bool]:
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    whole = data.rfind(b"\n") + 1
    cut_off = bool(data[whole:].strip()) and not _is_json(data[whole:])
    buffer = pa.py_buffer(data)
    options = pj.ParseOptions(explicit_schema=_SCHEMA, unexpected_field_behavior="ignore")
    try:
        source = pa.BufferReader(buffer.slice(0, whole) if cut_off else buffer)
        return pj.read_json(source, pj.ReadOptions(block_size=_BLOCK), options), cut_off
    except pa.ArrowInvalid as error:
        _name_line(path)
        raise UsageError(f"{path}: {TOOL}: {one_line(error)}") from error


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _name_line(path: Path) -> None:
    """Raises UsageError for the first line that is not what it should be: slow, so only once something is wrong."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                record = json.loads(line) if line.strip() else {}
            except ValueError as error:
                raise UsageError(f"{path}:{number}: is not JSON: {error}") from error
            if not isinstance(record, Mapping):
                raise UsageError(f"{path}:{number}: expected an object, found {type(record).__name__}")
            for key, names in (("metadata", _METADATA.names), ("metrics", _METRICS)):
                _check(path, number, record, key, names)


def _check(path: Path, number: int, record: Mapping[str, Any], key: str, names: Any) -> None:
    part = record.get(key) or {}
    if not isinstance(part, Mapping):
        raise UsageError(f"{path}:{number}: {key}: expected an object, found {part!r}")
    for name in names:
        value = part.get(name)
        is_metric = key == "metrics" and value is not None
        if is_metric and not isinstance(value, Mapping):
            raise UsageError(f"{path}:{number}: {key}.{name}: expected a value and its unit, found {value!r}")
        number_wanted = is_metric or name.endswith("_ns")
        if isinstance(value, Mapping):
            value = value.get("value")
        if number_wanted and value is not None and not isinstance(value, int | float):
            raise UsageError(f"{path}:{number}: {key}.{name}: expected a number, found {value!r}")


def _fields(column: pa.ChunkedArray) -> dict[str, pa.ChunkedArray]:
    """Of structs, by name; null where the struct is."""
    return {field.name: pc.struct_field(column, [field.name]) for field in column.type}


def _required(path: Path, metadata: Mapping[str, pa.ChunkedArray], name: str) -> Any:
    column = metadata[name]
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise UsageError(f"{path}:{row + 1}: metadata.{name}: expected a number of ns, found none")
    return column.to_numpy()


def _count(metric: pa.ChunkedArray) -> Any:
    value = pc.fill_null(pc.struct_field(metric, ["value"]), -1)
    return np.round(value.to_numpy()).astype(np.int32)


def _since(path: Path, metric: pa.ChunkedArray, start: Any) -> Any:
    """`start` and the metric's time after it, -1 where there is none."""
    units = pc.struct_field(metric, ["unit"])
    found = [unit for unit in pc.unique(units).to_pylist() if unit is not None]
    if unknown := [unit for unit in found if unit not in _NS]:
        raise UsageError(f"{path}: metrics.time_to_first_token: expected a unit of {', '.join(_NS)}, not {unknown[0]}")
    value = np.asarray(pc.struct_field(metric, ["value"]).to_numpy(), np.float64)
    scale = np.ones(len(value))
    for unit in found:
        scale[pc.fill_null(pc.equal(units, unit), False).to_numpy()] = _NS[unit]
    known = np.isfinite(value)
    return np.where(known, start + np.round(np.where(known, value, 0) * scale).astype(np.int64), -1)


def _ends(errors: pa.ChunkedArray, cancelled: pa.ChunkedArray) -> tuple[list[str], list[str], list[str]]:
    """Status, class and code of each request; only those that failed are looked at one by one."""
    rows = len(errors)
    status, error, code = ["ok"] * rows, [""] * rows, [""] * rows
    ended = pc.or_(pc.is_valid(errors), pc.fill_null(cancelled, False))
    for row in np.flatnonzero(ended.to_numpy()).tolist():
        found = errors[row].as_py() or {}
        kind, number = found.get("type") or "", found.get("code") or 0
        by_user = cancelled[row].as_py()
        status[row] = "cancelled" if by_user else failed_as(number, f"{kind} {found.get('message') or ''}")
        error[row], code[row] = kind or status[row], str(number or "")
    return status, error, code


def _beside(path: Path) -> tuple[str, str]:
    """The load that was asked for ("" if unknown) and whose count its tokens are, from the summary beside the file."""
    try:
        config = json.loads(path.with_name(f"{path.stem}_aiperf.json").read_bytes())["input_config"]
        phases = [phase for phase in config["phases"] if phase.get("kind") != "warmup"]
        asked = [{k: v for k, v in phase.items() if k not in _NO_LOAD} for phase in phases]
        load = "; ".join(", ".join(f"{key} {value}" for key, value in sorted(phase.items())) for phase in asked)
        if config["endpoint"].get("use_server_token_count"):
            return load, "the server's own count"
        return load, f"the tokenizer {Path(config['tokenizer']['name']).name}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "", f"the tokenizer that {TOOL} was given"
