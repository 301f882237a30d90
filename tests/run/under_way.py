"""The folder of a run that is under way, written as a run writes it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from harness.recording import SCHEMAS, StreamWriter, stream_path
from harness.run.folder import RunFolder
from harness.run.journal import Journal
from harness.types import Gate, Reading, StagePlan, StageRecord
from tests.recording.rows import sample

NS = 1_000_000_000
PLANS = (
    StagePlan(0, "paired", "closed", 90.0, 0.5, in_flight=1),
    StagePlan(1, "split", "poisson", 20.0, 0.10, rate=1.0),
)


class UnderWay:
    """A run whose first stage began at 1 s; it goes on as it is told to."""

    def __init__(self, parent: Path) -> None:
        gates = [asdict(Gate("errors", 0.05, "absolute")), asdict(Gate("response_time.p50", margin=0.1))]
        arms = {"baseline": {"model": "tiny", "version": 1}, "candidate": {"model": "tiny", "version": 2}}
        meta = {
            "scenario": {"name": "tiny-canary"}, "gates": gates, "arms": arms, "seed": 3, "finished": False,
            "plans": [asdict(plan) for plan in PLANS], "planned": len(PLANS), "stages": [],
        }  # fmt: skip
        self.folder = RunFolder.create(parent, "tiny-canary", meta)
        self.journal = Journal(self.folder.path)
        self._samples: StreamWriter | None = None
        self._readings: StreamWriter | None = None
        self._pairs = 0

    @property
    def path(self) -> Path:
        return self.folder.path

    def begin(self) -> None:
        self.folder.set_stages([StageRecord(PLANS[0], NS)])
        self._samples = StreamWriter(stream_path(self.path, "samples", 0), SCHEMAS["samples"])
        self._readings = StreamWriter(stream_path(self.path, "readings"), SCHEMAS["readings"])

    def ask(self, pairs: int) -> None:
        """So many pairs more, ten a second, flushed."""
        assert self._samples is not None
        assert self._readings is not None
        for _ in range(pairs):
            due = NS + self._pairs * NS // 10
            for arm in (0, 1):
                done = due + 8_000_000 + (self._pairs * 7919 + arm * 104_729) % 1_000_000
                times = {"due_ns": due, "sent_ns": due + 50, "first_ns": done, "done_ns": done}
                self._samples.append(sample(2 * self._pairs + arm, version="12"[arm], **times))
            self._readings.append(Reading(due, "host", "host", "cpu.utilization", 0.5, "ratio"))
            self._pairs += 1
        self._samples.flush()
        self._readings.flush()

    def close(self) -> None:
        for writer in (self._samples, self._readings):
            if writer is not None:
                writer.close()
