"""What a running recording says so far: the rows that are on disk, never what is only in memory.

The judge looks at exactly what `judge DIR` would see later, so that a decision made live can be made again.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from harness.judge import Evidence
from harness.recording import PartsTail, Recording, gates
from harness.run.folder import RunFolder
from harness.run.recent import Recent
from harness.run.spec import wants_chunks
from harness.types import ArmName, ArmStatus

# What the judge and the live view read of a sample; the rest of it would be most of the memory that a long run takes.
_COLUMNS = (
    "arm",
    "stage",
    "pair_id",
    "assignment",
    "due_ns",
    "sent_ns",
    "first_ns",
    "done_ns",
    "status",
    "error",
    "version",
    "osl",
    "worker",
)


class Watch:
    """Follows samples, outputs and readings of a run that is under way, from all who write them."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._samples = PartsTail(folder.path, "samples", _COLUMNS)
        self._outputs = PartsTail(folder.path, "outputs")
        self._readings = PartsTail(folder.path, "readings")
        self._scores = PartsTail(folder.path, "scores")
        # Chunks are many: they are followed only where something is judged of them.
        wanted = wants_chunks(gates(folder.meta))
        self._chunks = PartsTail(folder.path, "chunks") if wanted else None
        self._recent = Recent()
        self.poll()

    def poll(self) -> None:
        """Take in what was flushed since the last call."""
        # Outputs after samples: an acknowledged sample has its output on disk.
        self._recent.add(self._samples.poll())
        self._outputs.poll()
        self._readings.poll()
        self._scores.poll()
        if self._chunks is not None:
            self._chunks.poll()

    def close(self) -> None:
        """Lets go of everything that was read, too: what follows reads the files."""
        for tail in (self._samples, self._outputs, self._readings, self._scores, self._chunks):
            if tail is not None:
                tail.close()

    @property
    def samples(self) -> pa.Table:
        return self._samples.table

    @property
    def seen_ns(self) -> int:
        """The end of the last request that is on disk; 0 before the first."""
        return self._recent.seen_ns

    def evidence(self) -> Evidence:
        """The same evidence that `Recording.open` gives once the run is over."""
        tables = self._samples.table, self._outputs.table, self._readings.table
        chunks = self._chunks and self._chunks.table
        meta, scores = self._folder.meta, self._scores.table
        return Evidence.of(Recording(self._folder.path, meta, *tables, chunks=chunks, scores=scores))

    def served(self, arm: ArmName, since_ns: int) -> int:
        """Requests of an arm that were sent after `since_ns` and answered well."""
        samples = self.samples
        mask = pc.and_(
            pc.and_(pc.equal(samples["arm"], arm), pc.greater(samples["sent_ns"], since_ns)),
            pc.equal(samples["status"], "ok"),
        )
        return int(pc.sum(mask).as_py() or 0)

    def ended(self, arm: ArmName) -> int:
        """Requests of an arm that are over and on disk, whatever became of them."""
        return int(pc.sum(pc.equal(self.samples["arm"], arm)).as_py() or 0)

    def failed(self, arm: ArmName, stage: int) -> int:
        """Requests of an arm in a stage that failed so far."""
        return self._recent.failed(arm, stage)

    def arm_status(self, arm: ArmName, stage: int, now_ns: int) -> ArmStatus:
        """Counts of the stage so far; rate and latencies of the last 15 s."""
        return self._recent.status(arm, stage, now_ns)
