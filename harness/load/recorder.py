"""What was seen, to the files of the run: one writer a file, flushed together."""

from __future__ import annotations

import os
from pathlib import Path

from harness.load.begun import Begun
from harness.recording import SCHEMAS, StreamWriter, stream_path
from harness.types import ArmName, Chunk, Output, Sample


class Recorder:
    """Writes samples, and outputs and chunks where they are wanted. Raises RecordingError (disk full)."""

    def __init__(self, folder: Path, *, outputs: bool, chunks: bool) -> None:
        self._warm_up(folder)
        self._samples = self._writer(folder, "samples")
        self._outputs = self._writer(folder, "outputs") if outputs else None
        self._chunks = self._writer(folder, "chunks") if chunks else None
        self._writers = [w for w in (self._samples, self._outputs, self._chunks) if w is not None]
        self._begun = Begun(folder, create=True)
        self.pending = 0
        """Samples that the next flush will write."""

    @staticmethod
    def _warm_up(folder: Path) -> None:
        """The first batch that Arrow makes costs it 300 ms of imports: not while a stage runs."""
        path = folder / f".warm-up-{os.getpid()}"
        fields = {"int32": 0, "int64": 0, "int16": 0}
        row = [fields.get(str(column.type), "") for column in SCHEMAS["samples"]]
        try:
            with StreamWriter(path, SCHEMAS["samples"]) as writer:
                writer.append(tuple(row))
        finally:
            path.unlink(missing_ok=True)

    @staticmethod
    def _writer(folder: Path, name: str) -> StreamWriter:
        return StreamWriter(stream_path(folder, name), SCHEMAS[name])

    def begun(self, arm: ArmName) -> None:
        """To be called before a request leaves."""
        self._begun.add(arm)

    def sample(self, sample: Sample) -> None:
        self._samples.append(sample)
        self.pending += 1

    def output(self, output: Output) -> None:
        if self._outputs is not None:
            self._outputs.append(output)

    def chunks(self, pair_id: int, arm: str, times_ns: list[int]) -> None:
        if self._chunks is not None:
            for t_ns in times_ns:
                self._chunks.append(Chunk(pair_id, arm, t_ns))

    def flush(self) -> None:
        """Acknowledges everything so far. Samples last: an acknowledged one has its output on disk."""
        for writer in reversed(self._writers):
            writer.flush()
        self.pending = 0

    def close(self) -> None:
        try:
            for writer in reversed(self._writers):
                writer.close()
        finally:
            self._begun.close()
