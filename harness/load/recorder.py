"""What was seen, to the files of the run: one writer a file, flushed together, and sketched on the way."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa

from harness.errors import RecordingError
from harness.load.begun import BegunCounter
from harness.recording import SCHEMAS, Rows, Sketcher, StreamWriter, stream_path
from harness.types import ArmName, Output, Reading, Sample, StagePlan

_ARMS: tuple[str, ...] = get_args(ArmName)
_CHUNKS = SCHEMAS["chunks"]


class Recorder:
    """One worker's part of the recording. Everything that takes rows only buffers; `flush` and `close` write.

    Constant memory as long as it is flushed. `flush` raises RecordingError (disk full): what was not written stays
    buffered, so the caller is to issue nothing more, and then only what is in flight is still to come.
    """

    def __init__(self, folder: Path, *, worker: int, outputs: bool, chunks: bool) -> None:
        self._warm_up(folder, worker)
        self._folder, self._worker = folder, worker
        self._samples = self._writer("samples")
        self._readings = self._writer("readings")
        self._outputs = self._writer("outputs") if outputs else None
        self._chunks = self._writer("chunks") if chunks else None
        self._sketches, self._sums = self._writer("sketches"), self._writer("sums")
        self._sketcher = Sketcher()
        self._sketched: list[tuple[StreamWriter, pa.RecordBatch]] = []
        self._arrivals: list[tuple[int, str, Sequence[int]]] = []
        self._open, self._put_off = True, False
        self._begun = BegunCounter(folder, worker)
        self.begun: Callable[[ArmName], None] = self._begun.add
        """To be called before a request leaves."""
        self.sample: Callable[[Sample], None] = self._samples.append
        """One request that is over; any tuple in the order of Sample will do."""
        self.reading: Callable[[Reading], None] = self._readings.append

    @property
    def pending(self) -> int:
        """Samples that the next flush will write."""
        return self._samples.pending

    def stage(self, plan: StagePlan, begin_ns: int) -> None:
        """Before the first sample of a stage: its blocks count from `begin_ns` (ns since the run's start)."""
        self._sketcher.stage(plan, begin_ns)

    def output(self, output: Output) -> None:
        if self._outputs is not None:
            self._outputs.append(output)

    def chunks(self, pair_id: int, arm: str, times_ns: Sequence[int]) -> None:
        if self._chunks is not None and times_ns:
            self._arrivals.append((pair_id, arm, times_ns))

    def flush(self) -> None:
        """Acknowledges everything so far. Samples last: an acknowledged one has its output on disk."""
        self._readings.flush()
        if self._outputs is not None:
            self._outputs.flush()
        self._flush_chunks()
        batch = self._samples.flush()
        worked = batch is not None and self._sketcher.add(batch)
        # Not all at once: to take samples in and to close a block are half a millisecond each.
        self._put_off = worked and not self._put_off
        if not self._put_off:
            self._flush_sketches(self._sketcher.closed())

    def close(self) -> None:
        """Writes what is left and ends the files; what one cannot take does not cost the others. Raises the first
        RecordingError. A second call does nothing.
        """
        if not self._open:
            return
        self._open = False
        steps: list[Callable[[], object]] = [self.flush, lambda: self._flush_sketches(self._sketcher.rest())]
        writers = (self._readings, self._outputs, self._chunks, self._samples, self._sketches, self._sums)
        steps += [writer.close for writer in writers if writer is not None]
        errors = []
        for step in steps:
            try:
                step()
            except RecordingError as error:
                errors.append(error)
        self._begun.close()
        if errors:
            raise errors[0]

    def _writer(self, name: str) -> StreamWriter:
        return StreamWriter(stream_path(self._folder, name, self._worker), SCHEMAS[name])

    def _flush_sketches(self, rows: Rows | None) -> None:
        if rows is not None:
            self._sketched += [(self._sketches, rows.sketches), (self._sums, rows.sums)]
        while self._sketched:
            writer, batch = self._sketched[0]
            writer.write(batch)
            del self._sketched[0]

    def _flush_chunks(self) -> None:
        """Lists of arrivals become columns at once: a stream has hundreds of chunks, and rows of them would cost more
        than all else.
        """
        if self._chunks is None or not self._arrivals:
            return
        arrivals = self._arrivals[:]
        pairs, arms, times = zip(*arrivals, strict=True)
        sizes = np.array([len(each) for each in times], np.int64)
        arm = pa.array([_ARMS.index(name) for name in arms])
        columns: list[Any] = [
            pa.array(np.repeat(np.array(pairs, np.int64), sizes)),
            pa.array(_ARMS).take(arm.take(pa.array(np.repeat(np.arange(len(sizes)), sizes)))),
            pa.array(np.fromiter(chain.from_iterable(times), np.int64, int(sizes.sum()))),
        ]
        batch = pa.record_batch(columns, schema=_CHUNKS)
        self._chunks.write(batch)
        del self._arrivals[: len(arrivals)]
        self._sketcher.add_chunks(batch)

    @staticmethod
    def _warm_up(folder: Path, worker: int) -> None:
        """The first batch that Arrow makes costs it 300 ms of imports: not while a stage runs."""
        path = folder / f".warm-up-{worker}-{os.getpid()}"
        fields = {"int32": 0, "int64": 0, "int16": 0}
        row = [fields.get(str(column.type), "") for column in SCHEMAS["samples"]]
        row[0], row[SCHEMAS["samples"].get_field_index("status")] = "baseline", "ok"
        sketcher = Sketcher()
        try:
            with StreamWriter(path, SCHEMAS["samples"]) as writer:
                writer.append(tuple(row))
                batch = writer.flush()
            if batch is not None:
                sketcher.add(batch)
            sketcher.rest()
        finally:
            path.unlink(missing_ok=True)
