"""Recorded loads: when requests came and how long they were, without what they said.

Known are the columns of the public traces, by their names:

    Azure LLM inference   CSV          TIMESTAMP (date and time), ContextTokens, GeneratedTokens
                          https://github.com/Azure/AzurePublicDataset
    Mooncake              JSON lines   timestamp (ms), input_length, output_length, hash_ids (blocks of 512 tokens that
                          requests share; Qin et al. 2024, https://github.com/kvcache-ai/Mooncake)
    any other             CSV or JSON lines   timestamp (s), input_length, output_length

JSON lines with hash_ids are Mooncake's, so their timestamps are milliseconds.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NoReturn

from harness.errors import ScenarioError
from harness.scenario.units import found

BLOCK_TOKENS = 512
"""Tokens that a hash of Mooncake's stands for; a request's last block may be cut short."""

MOST_TOKENS = 1_000_000
_FIRST_DAY = datetime(1970, 1, 1)
_NS = {"s": Decimal(10**9), "ms": Decimal(10**6)}


@dataclass(frozen=True, slots=True)
class Row:
    """One request. `t_ns` counts from the trace's first. `blocks`: who begins with the same ones shares that text."""

    t_ns: int
    input_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Columns:
    time: str
    inputs: str
    outputs: str
    unit: str  # of the times; "" is a date and time


_AZURE = _Columns("TIMESTAMP", "ContextTokens", "GeneratedTokens", "")
_MOONCAKE = _Columns("timestamp", "input_length", "output_length", "ms")
_PLAIN = _Columns("timestamp", "input_length", "output_length", "s")
_EXPECTED = "expected the columns timestamp, input_length, output_length or TIMESTAMP, ContextTokens, GeneratedTokens"


def read_trace(path: Path) -> tuple[Row, ...]:
    """The rows of a trace in the order of their times, of which the first is 0.

    Raises ValueError if there is no such file or it has no rows, and ScenarioError naming file, line and column if a
    row cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ValueError(f"expected a trace, found no file {path}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"expected a trace, found {path}, which is not UTF-8 text") from error
    except OSError as error:
        raise ValueError(f"expected a trace, found {path}: {error.strerror}") from error
    lines = _json_lines(text, path) if text.lstrip().startswith("{") else _csv_lines(text, path)
    # Logs are often in the order in which requests ended.
    rows = sorted((line.row() for line in lines), key=lambda row: row.t_ns)
    if not rows:
        raise ValueError(f"expected a trace, found no row in {path}")
    first_ns = rows[0].t_ns
    return tuple(replace(row, t_ns=row.t_ns - first_ns) for row in rows)


@dataclass(frozen=True, slots=True)
class _Line:
    """One row as it was written, and where. `places`: the column (from 1) at which a value begins, where known."""

    path: Path
    number: int
    columns: _Columns
    values: Mapping[str, Any]
    places: Mapping[str, int]

    def row(self) -> Row:
        return Row(
            self._time_ns(), self._tokens(self.columns.inputs, 1), self._tokens(self.columns.outputs, 0), self._blocks()
        )

    def wrong(self, key: str, message: str) -> NoReturn:
        message = f"{message}, found {found(self.values.get(key))}"
        raise ScenarioError(message, file=str(self.path), line=self.number, column=self.places.get(key), key=key)

    def _time_ns(self) -> int:
        key, unit = self.columns.time, self.columns.unit
        value = self.values.get(key)
        if not unit:
            return self._date_ns(value)
        try:
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                raise ValueError
            seconds = Decimal(str(value))
            if not seconds.is_finite():
                raise ValueError
        except (ValueError, InvalidOperation):
            self.wrong(key, f"expected a time in {'milliseconds' if unit == 'ms' else 'seconds'}")
        return int(seconds * _NS[unit])

    def _date_ns(self, value: Any) -> int:
        """Of `2023-11-16 18:15:46.6805900`: Azure writes seven digits after the point, the library reads six."""
        expected = "expected a date and time such as 2023-11-16 18:15:46.6805900"
        if not isinstance(value, str):
            self.wrong(self.columns.time, expected)
        whole, _, rest = value.strip().partition(".")
        digits = len(rest) - len(rest.lstrip("0123456789"))
        try:
            when = datetime.fromisoformat(whole + rest[digits:])
        except ValueError:
            self.wrong(self.columns.time, expected)
        since = when.replace(tzinfo=None) - (when.utcoffset() or timedelta()) - _FIRST_DAY
        return (since.days * 86400 + since.seconds) * 10**9 + int((rest[:digits] + "0" * 9)[:9])

    def _tokens(self, key: str, least: int) -> int:
        value = self.values.get(key)
        if isinstance(value, str) and value.strip().isdecimal():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST_TOKENS:
            self.wrong(key, f"expected a number of tokens from {least} to {MOST_TOKENS}")
        return value

    def _blocks(self) -> tuple[int, ...]:
        value = self.values.get("hash_ids", ())
        if not isinstance(value, list | tuple) or any(not isinstance(block, int) for block in value):
            self.wrong("hash_ids", "expected a list of block numbers")
        return tuple(value)


def _json_lines(text: str, path: Path) -> Iterator[_Line]:
    expected = 'expected a line such as {"timestamp": 0, "input_length": 512, "output_length": 64}'
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            message = f"{expected}, found what is not JSON ({error.msg})"
            raise ScenarioError(message, file=str(path), line=number, column=error.colno) from error
        columns = _known(values) if isinstance(values, dict) else None
        if columns is None:
            what = f"the keys {', '.join(map(repr, values)) or 'none'}" if isinstance(values, dict) else found(values)
            raise ScenarioError(f"{expected}, found {what}", file=str(path), line=number)
        places = {key: line.find(json.dumps(key)) + 1 for key in values}
        yield _Line(path, number, columns, values, places)


def _csv_lines(text: str, path: Path) -> Iterator[_Line]:
    reader = csv.reader(text.splitlines())
    header = [name.strip() for name in next(reader, [])]
    columns = _known(dict.fromkeys(header))
    if columns is None:
        names = ", ".join(map(repr, header)) or "nothing"
        raise ScenarioError(f"{_EXPECTED}, found {names}", file=str(path), line=1)
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        starts = [sum(len(cell) + 1 for cell in cells[:index]) + 1 for index in range(len(cells))]
        values = dict(zip(header, cells, strict=False))
        yield _Line(path, reader.line_num, columns, values, dict(zip(header, starts, strict=False)))


def _known(keys: Mapping[str, Any]) -> _Columns | None:
    for columns in (_AZURE, _PLAIN):
        if {columns.time, columns.inputs, columns.outputs} <= keys.keys():
            return _MOONCAKE if columns is _PLAIN and "hash_ids" in keys else columns
    return None
