"""The parts of a file of a run: several processes write one recording, each its own stream.

`samples-0.arrow` is worker 0's part of the samples, `readings.arrow` the parent's part of the readings. Together they
are one table, in a fixed order: the part without a number, then worker by worker, then those that no worker writes,
each in the order of writing.
"""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa

from harness.errors import RecordingError
from harness.recording.schema import SCHEMAS
from harness.recording.stream import Tail

NO_WORKER = 1 << 20
"""Numbers of parts from here on are no worker's: this one is the parent's own, behind what it carried over from an
earlier run.
"""
GPUS = NO_WORKER + 1
"""The part of the readings that the process has written which reads the GPUs."""
# Rows of one part that were read in pieces and are then moved together.
_TOGETHER = 1 << 16


def stream_path(folder: Path, name: str, worker: int | None = None) -> Path:
    """Where `name` (a key of SCHEMAS) is while the run goes on: a worker's part of it, or without one the parent's."""
    return folder / (f"{name}.arrow" if worker is None else f"{name}-{worker}.arrow")


def stream_parts(folder: Path, name: str) -> list[Path]:
    """The parts of `name` that are there, in their fixed order. Raises RecordingError."""
    try:
        found = [folder / entry.name for entry in folder.iterdir() if part_number(entry.name, name) is not None]
    except OSError as error:
        raise RecordingError(f"{folder}: cannot be read: {error.strerror}") from error
    return sorted(found, key=lambda path: part_number(path.name, name) or 0)


def part_number(file: str, name: str) -> int | None:
    """Where the file comes among the parts of `name`: 0 without a worker, else worker + 1; None if it is no part."""
    match = re.fullmatch(rf"{re.escape(name)}(?:-(0|[1-9][0-9]*))?\.arrow", file)
    return None if match is None else int(match[1]) + 1 if match[1] else 0


class PartsTail:
    """Follows all parts of `name` while they are written, also those that appear later, and keeps what it read.

    `columns`: keep these only. Without `keep`, `poll` alone tells what was read, and `table` stays empty.
    """

    def __init__(self, folder: Path, name: str, columns: tuple[str, ...] = (), *, keep: bool = True) -> None:
        schema = SCHEMAS[name]
        self._folder, self._name, self._keep = folder, name, keep
        self._columns = list(columns or schema.names)
        self._empty = schema.empty_table().select(self._columns)
        self._parts: dict[int, _Part] = {}

    def poll(self) -> pa.Table:
        """Takes in what became complete since the last call, and returns it. Raises RecordingError."""
        for path in stream_parts(self._folder, self._name):
            number = part_number(path.name, self._name) or 0
            if number not in self._parts:
                self._parts[number] = _Part(Tail(path, SCHEMAS[self._name]))
        rows = [part.tail.poll().select(self._columns) for part in self._parts.values()]
        for part, fresh in zip(self._parts.values(), rows, strict=True):
            if self._keep:
                part.take(fresh)
        return pa.concat_tables([self._empty, *rows])

    @property
    def table(self) -> pa.Table:
        """Everything so far, in the order in which `read_table` gives it once the run is over."""
        parts = (self._parts[number] for number in sorted(self._parts))
        return pa.concat_tables([self._empty, *(piece for part in parts for piece in (*part.kept, *part.fresh))])

    def close(self) -> None:
        """Lets go of everything that was read, too."""
        for part in self._parts.values():
            part.tail.close()
        self._parts.clear()


class _Part:
    """What was read of one part. `fresh` pieces lie in the bytes as they were read, with all columns; moved together
    into `kept`, they let go of those.
    """

    def __init__(self, tail: Tail) -> None:
        self.tail = tail
        self.kept: list[pa.Table] = []
        self.fresh: list[pa.Table] = []

    def take(self, rows: pa.Table) -> None:
        if rows.num_rows:
            self.fresh.append(rows)
        if sum(piece.num_rows for piece in self.fresh) >= _TOGETHER:
            self.kept.append(_copied(pa.concat_tables(self.fresh)))
            self.fresh.clear()


def _copied(table: pa.Table) -> pa.Table:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return pa.ipc.open_stream(sink.getvalue()).read_all()
