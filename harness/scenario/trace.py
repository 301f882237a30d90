"""Recorded loads: when requests came and how long they were, without what they said.

Known are the columns of the public traces, by their names:

    Azure LLM inference   CSV          TIMESTAMP (date and time), ContextTokens, GeneratedTokens
                          https://github.com/Azure/AzurePublicDataset
    Mooncake              JSON lines   timestamp (ms), input_length, output_length, hash_ids (blocks of 512 tokens that
                          requests share; Qin et al. 2024, https://github.com/kvcache-ai/Mooncake)
    any other             CSV or JSON lines   timestamp (s), input_length, output_length

JSON lines with hash_ids are Mooncake's, so their timestamps are milliseconds. A length of 0 is taken as 1: requests
that were turned away are in some logs, and a server cannot be asked for nothing.

A file may hold a week of a large service, and a stage replay ten minutes of it: rows are read one by one, kept only
where they are wanted, and no further than necessary.
"""

from __future__ import annotations

import csv
import json
import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from harness.errors import ScenarioError
from harness.units import found

BLOCK_TOKENS = 512
"""Tokens that a hash of Mooncake's stands for; a request's last block may be cut short."""

MOST_TOKENS = 1_000_000
MOST_TEXT = 50_000_000
"""Tokens of all rows that are replayed (Azure's conversation trace of 2023 has 22 million): some six bytes each, in
every worker and for each arm once more.
"""
# Logs are often in the order in which requests ended: the file is read on until so many rows in succession lie beyond
# what is wanted, and so far beyond it.
BEYOND_ROWS = 10_000
BEYOND_NS = 600 * 10**9
_FIRST_DAY = datetime(1970, 1, 1)
_NS = {"s": Decimal(10**9), "ms": Decimal(10**6)}
_time = attrgetter("t_ns")


class Row(NamedTuple):
    """One request. `t_ns` counts from the trace's first. `blocks`: who begins with the same ones shares that text."""

    t_ns: int
    input_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()


def read_trace(path: Path, until_ns: int | None = None) -> tuple[Row, ...]:
    """The rows of a trace in the order of their times, of which the first is 0.

    With `until_ns` those before it, and the next one, if any, which tells that the trace goes on. Raises ValueError if
    there is no such file, it has no rows, or more text than can be prepared, and ScenarioError naming file, line and
    column if a row cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            rows = _wanted(_rows(file, path), math.inf if until_ns is None else until_ns)
    except FileNotFoundError as error:
        raise ValueError(f"expected a trace, found no file {path}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"expected a trace, found {path}, which is not UTF-8 text") from error
    except OSError as error:
        raise ValueError(f"expected a trace, found {path}: {error.strerror}") from error
    except csv.Error as error:
        raise ValueError(f"expected a trace, found {path}: {error}") from error
    if not rows:
        raise ValueError(f"expected a trace, found no row in {path}")
    return tuple(row._replace(t_ns=row.t_ns - rows[0].t_ns) for row in rows)


def _wanted(rows: Iterable[Row], until_ns: float) -> list[Row]:
    """In the order of their times: all before `until_ns` after the first, and the next one."""
    kept: list[Row] = []
    first_ns = end_ns = next_ns = math.inf
    text = beyond = 0
    for row in rows:
        t_ns = row.t_ns
        if t_ns < first_ns:
            first_ns, end_ns = t_ns, t_ns + until_ns
        if t_ns >= end_ns:
            beyond += 1
            if beyond >= BEYOND_ROWS and t_ns >= end_ns + BEYOND_NS:
                break
            if t_ns < next_ns:
                next_ns = t_ns
                kept.append(row)
            continue
        beyond = 0
        kept.append(row)
        text += row.input_tokens
        if text > MOST_TEXT:
            # In a log that goes backwards much of that is no longer wanted.
            inside = _trim(kept, end_ns)
            text = sum(row.input_tokens for row in kept[:inside])
        if text > MOST_TEXT:
            raise ValueError(
                f"its first {inside} rows ask for {text} tokens of text, at most {MOST_TEXT} are prepared; "
                "replay less of it (for), or a part of the file"
            )
    _trim(kept, end_ns)
    return kept


def _trim(rows: list[Row], end_ns: float) -> int:
    """Sorts, leaves one row that is not before `end_ns`, and says how many are."""
    rows.sort(key=_time)
    inside = bisect_left(rows, end_ns, key=_time)
    del rows[inside + 1 :]
    return inside


def _rows(file: TextIO, path: Path) -> Iterator[Row]:
    begin = next((line for line in file if line.strip()), "")
    file.seek(0)
    return _of_json(file, path) if begin.lstrip().startswith("{") else _of_csv(file, path)


class _Unreadable(Exception):
    def __init__(self, key: str, expected: str) -> None:
        self.key, self.expected = key, expected

    def at(self, values: Mapping[str, Any], path: Path, line: int, column: int | None) -> ScenarioError:
        message = f"{self.expected}, found {found(values.get(self.key))}"
        return ScenarioError(message, file=str(path), line=line, column=column, key=self.key)


@dataclass(frozen=True, slots=True)
class _Columns:
    time: str
    inputs: str
    outputs: str
    unit: str  # of the times; "" is a date and time

    def row(self, values: Mapping[str, Any]) -> Row:
        """Its time counts from any beginning. Raises _Unreadable."""
        t_ns = self._time_ns(values.get(self.time)) if self.unit else self._date_ns(values.get(self.time))
        blocks = values.get("hash_ids", [])
        if not isinstance(blocks, list) or any(not isinstance(block, int) for block in blocks):
            raise _Unreadable("hash_ids", "expected a list of block numbers")
        return Row(t_ns, _tokens(values, self.inputs), _tokens(values, self.outputs), tuple(blocks))

    def _time_ns(self, value: Any) -> int:
        try:
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                raise ValueError
            time = Decimal(str(value))
            if not time.is_finite():
                raise ValueError
        except (ValueError, InvalidOperation):
            unit = "milliseconds" if self.unit == "ms" else "seconds"
            raise _Unreadable(self.time, f"expected a time in {unit}") from None
        return int(time * _NS[self.unit])

    def _date_ns(self, value: Any) -> int:
        """Of `2023-11-16 18:15:46.6805900`: Azure writes seven digits after the point, the library reads six."""
        try:
            if not isinstance(value, str):
                raise ValueError
            whole, _, rest = value.strip().partition(".")
            zone = rest.lstrip("0123456789")
            digits = rest[: len(rest) - len(zone)]
            return _second(whole + zone) * 10**9 + int(f"{digits:0<9}"[:9])
        except ValueError:
            raise _Unreadable(self.time, "expected a date and time such as 2023-11-16 18:15:46.6805900") from None


_AZURE = _Columns("TIMESTAMP", "ContextTokens", "GeneratedTokens", "")
_MOONCAKE = _Columns("timestamp", "input_length", "output_length", "ms")
_PLAIN = _Columns("timestamp", "input_length", "output_length", "s")
_EXPECTED = "expected the columns timestamp, input_length, output_length or TIMESTAMP, ContextTokens, GeneratedTokens"


@lru_cache(1024)  # many requests come in one second
def _second(text: str) -> int:
    when = datetime.fromisoformat(text)
    since = when.replace(tzinfo=None) - (when.utcoffset() or timedelta()) - _FIRST_DAY
    return since.days * 86400 + since.seconds


def _tokens(values: Mapping[str, Any], key: str) -> int:
    value = values.get(key)
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_TOKENS:
        raise _Unreadable(key, f"expected a number of tokens from 0 to {MOST_TOKENS}")
    return value or 1


def _of_json(file: TextIO, path: Path) -> Iterator[Row]:
    expected = 'expected a line such as {"timestamp": 0, "input_length": 512, "output_length": 64}'
    for number, line in enumerate(file, 1):
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
        try:
            row = columns.row(values)
        except _Unreadable as error:
            raise error.at(values, path, number, line.find(json.dumps(error.key)) + 1 or None) from None
        yield row


def _of_csv(file: TextIO, path: Path) -> Iterator[Row]:
    reader = csv.reader(file)
    header = [name.strip() for name in next(reader, [])]
    columns = _known(dict.fromkeys(header))
    if columns is None:
        names = ", ".join(map(repr, header)) or "nothing"
        raise ScenarioError(f"{_EXPECTED}, found {names}", file=str(path), line=1)
    for cells in reader:
        values = dict(zip(header, cells, strict=False))
        try:
            row = columns.row(values)
        except _Unreadable as error:
            if not any(cell.strip() for cell in cells):
                continue
            raise error.at(values, path, reader.line_num, _place(header.index(error.key), cells)) from None
        yield row


def _place(index: int, cells: Sequence[str]) -> int | None:
    """The column (from 1) at which a cell begins, if it is there."""
    return sum(len(cell) + 1 for cell in cells[:index]) + 1 if index < len(cells) else None


def _known(keys: Mapping[str, Any]) -> _Columns | None:
    for columns in (_AZURE, _PLAIN):
        if {columns.time, columns.inputs, columns.outputs} <= keys.keys():
            return _MOONCAKE if columns is _PLAIN and "hash_ids" in keys else columns
    return None
