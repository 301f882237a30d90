"""An Arrow IPC stream that survives SIGKILL: one batch a flush, and a reader that takes a torn tail.

Guarantee: what a `flush` that returned has written is read back whole, whenever the writer is killed later.
The file is a normal Arrow IPC stream that any Arrow library opens. Its messages are framed here and not by
Arrow's own writer: so a flush is one write of one batch, and a reader knows where the last whole one ended.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from harness.errors import RecordingError

END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"

_TEXT = pa.string()
# Columns of one repeated text: how many are kept, of how many rows; from how many rows on, and up to what length of
# the text it is worth it.
_CONSTANTS, _CONSTANT_ROWS = 64, 1024
_FEW, _LONG = 32, 64


class StreamWriter:
    """Buffers rows (tuples in the order of `schema`) and appends them to `path` as one batch at `flush`.

    `append` is a list append; rows become columns at flush, at about 0.4 us a sample. Not thread-safe. A file that
    exists is refused: two runs never mix. Raises RecordingError (one line) if the file cannot be written; the rows
    stay buffered and what was flushed before stays readable. Text that UTF-8 has no bytes for (half a surrogate pair,
    which JSON can name) is written with question marks. For a row that is not of the schema RecordingError is raised,
    too: that row is lost, the others stay buffered.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.schema = schema
        self._rows: list[tuple[Any, ...]] = []
        self.append: Callable[[tuple[Any, ...]], None] = self._rows.append
        """Buffers one row. The list's own method: a call of ours would cost three times as much."""
        self._constants: dict[tuple[str, str], pa.Array] = {}
        self._good = 0
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise RecordingError(f"{path}: cannot be created: {error.strerror}") from error
        self._open = True
        try:
            self._write(schema.serialize())
        except RecordingError:
            # An empty file left behind would refuse the next attempt.
            self._close_fd()
            path.unlink(missing_ok=True)
            raise

    def __enter__(self) -> StreamWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pending(self) -> int:
        """Rows that the next flush will write."""
        return len(self._rows)

    def flush(self) -> pa.RecordBatch | None:
        """Hands the buffered rows to the operating system as one batch, and returns it; None if there were none."""
        if not self._rows:
            return None
        rows = self._rows[:]
        try:
            batch = self._batch(rows)
        except RecordingError:
            self._rows[: len(rows)] = [row for row in rows if self._fits(row)]
            raise
        self.write(batch)
        # Not clear(): a row may have come meanwhile.
        del self._rows[: len(rows)]
        return batch

    def write(self, batch: pa.RecordBatch) -> None:
        """Hands columns of the file's schema to the operating system at once, past the buffered rows. If that raises,
        the batch is the caller's to keep.
        """
        self._write(batch.serialize())

    def close(self) -> None:
        """Flushes, marks the end of the stream, closes. A second call does nothing."""
        if not self._open:
            return
        try:
            self.flush()
            self._write(END_OF_STREAM)
        finally:
            self._close_fd()

    def _batch(self, rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
        columns = []
        for field, values in zip(self.schema, zip(*rows, strict=True), strict=True):
            try:
                column = self._column(field, values)
            except (pa.ArrowException, ValueError, TypeError, OverflowError, AttributeError) as error:
                raise RecordingError(f"{self.path}: column {field.name}: {_one_line(error)}") from error
            if column.null_count:
                raise RecordingError(f"{self.path}: column {field.name}: a row has no value")
            columns.append(column)
        return pa.record_batch(columns, schema=self.schema)

    def _fits(self, row: tuple[Any, ...]) -> bool:
        try:
            self._batch([row])
        except RecordingError:
            return False
        return True

    def _column(self, field: pa.Field, values: tuple[Any, ...]) -> pa.Array:
        try:
            column = self._constant(field, values)
            return pa.array(values, type=field.type) if column is None else column
        except UnicodeEncodeError:
            return pa.array([value.encode(errors="replace") for value in values]).cast(field.type)

    def _constant(self, field: pa.Field, values: tuple[Any, ...]) -> pa.Array | None:
        """A text that is the same in every row (a server, a model, most errors) is kept as a column and cut to length:
        a tenth of what making it anew would cost. None if it is not.
        """
        first = values[0]
        if type(first) is not str or field.type != _TEXT or len(values) < _FEW or len(first) > _LONG:
            return None
        if values.count(first) < len(values):
            return None
        column = self._constants.get((field.name, first))
        if column is None or len(column) < len(values):
            if len(self._constants) >= _CONSTANTS:
                self._constants.clear()
            column = pa.repeat(pa.scalar(first, _TEXT), max(len(values), _CONSTANT_ROWS))
            self._constants[field.name, first] = column
        return column.slice(0, len(values))

    def _write(self, message: Any) -> None:
        view = memoryview(message)
        done = 0
        try:
            while done < len(view):
                done += os.write(self._fd, view[done:])
        except OSError as error:
            # Half a batch in mid-file would hide everything that a later flush appends.
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._good)
                os.lseek(self._fd, self._good, os.SEEK_SET)
            raise RecordingError(f"{self.path}: cannot be written: {error.strerror}") from error
        self._good += done

    def _close_fd(self) -> None:
        if self._open:
            self._open = False
            os.close(self._fd)


class Tail:
    """Follows a stream that another process writes."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.schema = schema
        self._file: Any = None
        self._offset = 0
        self._header_seen = False

    def poll(self) -> pa.Table:
        """The rows that became complete since the last poll; an empty table while there is no file yet."""
        batches: list[pa.RecordBatch] = []
        if self._file is None:
            try:
                # Kept open: after the file was sealed and unlinked the rest can still be read.
                self._file = self.path.open("rb")
            except FileNotFoundError:
                return self.schema.empty_table()
            except OSError as error:
                raise RecordingError(f"{self.path}: cannot be read: {error.strerror}") from error
        self._file.seek(self._offset)
        source = pa.BufferReader(self._file.read())
        start = self._offset
        if not self._header_seen:
            if not _read_header(source, self.schema, self.path):
                return self.schema.empty_table()
            self._header_seen = True
            self._offset = start + source.tell()
        for batch in _batches(source, self.schema):
            batches.append(batch)
            self._offset = start + source.tell()
        return pa.Table.from_batches(batches, schema=self.schema)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Tail:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def prepare() -> None:
    """What pyarrow does at the first array of a process, done now: it looks for pandas, which takes it 0.4 s."""
    pa.array([0])


def read_batches(path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The whole batches of a stream file, one at a time (memory-mapped); ends quietly at a torn tail."""
    try:
        if path.stat().st_size == 0:
            return
        source = pa.memory_map(str(path))
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror or error}") from error
    with source:
        if _read_header(source, schema, path):
            yield from _batches(source, schema)


def has_ended(path: Path) -> bool:
    """Whether the writer came to its end: the stream has the mark of it. Raises RecordingError."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - len(END_OF_STREAM), 0))
            return file.read() == END_OF_STREAM
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror}") from error


def _read_header(source: Any, schema: pa.Schema, path: Path) -> bool:
    message = _next_message(source)
    if message is None:
        return False
    try:
        found = pa.ipc.read_schema(message)
    except (pa.ArrowException, OSError) as error:
        raise RecordingError(f"{path}: is not an Arrow stream") from error
    if not found.equals(schema):
        raise RecordingError(f"{path}: has other columns than this version of triton-canary writes")
    return True


def _batches(source: Any, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    while (message := _next_message(source)) is not None:
        try:
            batch = pa.ipc.read_record_batch(message, schema)
            # Damaged offsets would crash whoever reads the table, and not with an exception.
            batch.validate(full=True)
        except (pa.ArrowException, OSError):
            return
        yield batch


def _next_message(source: Any) -> Any:
    """The next whole message; None at the end, at the end mark, and where the rest is cut off."""
    try:
        return pa.ipc.read_message(source)
    except (EOFError, OSError, pa.ArrowException):
        return None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
