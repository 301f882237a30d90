"""Rows of input values for models that read no prompts: JSON lines, or perf_analyzer's input data.

    {"INPUT": [1, 2, 3]}                                                       one row a line
    {"data": [{"INPUT": {"content": [1, 2], "shape": [2]}}, {"INPUT": [3]}]}   perf_analyzer --input-data

Source of the second: docs/input_data.md of triton-inference-server/perf_analyzer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.units import found

_EXPECTED = 'expected JSON lines of {"INPUT": [values]}, or {"data": [{"INPUT": [values]}]}'


def read_inputs(path: Path) -> tuple[Mapping[str, Any], ...]:
    """The rows of a file. Each input's values are flat (row by row), a list, or a mapping with `content` and its
    `shape`, or with `b64` (raw bytes). Whether they fit the model is seen once it is known.

    Raises ValueError of one line that names the file, and the row where there is one.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ValueError(f"expected a file of inputs, found {path}: {reason}") from error
    rows = _rows(text, path)
    if not rows:
        raise ValueError(f"{_EXPECTED}, found no row in {path}")
    return tuple(_row(row, f"{path}, row {number}") for number, row in enumerate(rows, 1))


def _rows(text: str, path: Path) -> list[Any]:
    try:
        document = json.loads(text)
    except ValueError:
        rows = []
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                try:
                    rows.append(json.loads(line))
                except ValueError as error:
                    raise ValueError(f"{_EXPECTED}, found what is not JSON in line {number} of {path}") from error
        return rows
    if isinstance(document, dict) and "data" in document and isinstance(document["data"], list):
        if any(isinstance(row, list) for row in document["data"]):
            raise ValueError(f"{path}: sequences of requests (lists in data) are for stateful models: list single rows")
        return list(document["data"])
    return [document]


def _row(row: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(row, dict) or not row:
        raise ValueError(f"{place}: expected inputs by name, found {found(row)}")
    return {name: _values(values, f"{place}, {name}") for name, values in row.items()}


def _values(values: Any, place: str) -> Any:
    if isinstance(values, dict):
        given = values.keys() & {"content", "b64"}
        if len(given) != 1:
            raise ValueError(f"{place}: expected either content or b64, found the keys {', '.join(values) or 'none'}")
        if "shape" in values and not _is_shape(values["shape"]):
            raise ValueError(f"{place}: expected a shape such as [1, 16], found {found(values['shape'])}")
        if "b64" in given:
            if not isinstance(values["b64"], str):
                raise ValueError(f"{place}: expected base64 text, found {found(values['b64'])}")
            return {key: values[key] for key in ("b64", "shape") if key in values}
        content = _flat(values["content"], place)
        return {"content": content, "shape": values["shape"]} if "shape" in values else content
    return _flat(values, place)


def _flat(values: Any, place: str) -> list[Any]:
    flat: list[Any] = values if isinstance(values, list) else [values]
    for value in flat:
        if isinstance(value, list | dict) or value is None:
            raise ValueError(f"{place}: expected flat values, row by row, found {found(value)} in them")
    return flat


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, list) and all(
        isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in shape
    )
