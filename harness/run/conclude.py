"""The end of a run, also of one that was cut short: seal the recording, judge it, render it."""

from __future__ import annotations

from pathlib import Path

from harness.files import atomic_write
from harness.judge import MOST_SAMPLES, evidence_of, evidence_over_time, judge, verdict_json
from harness.recording import Recording, complete_sketches, is_operation, seal, stage_records
from harness.report import render
from harness.run.folder import RunFolder
from harness.run.operations.conclude import conclude_operation
from harness.types import Verdict


def conclude(folder: RunFolder) -> Verdict:
    """Judge what is on disk, and only that: the same as `triton-canary judge` does later."""
    if is_operation(folder.path):
        folder.save()
        return conclude_operation(folder.path)
    complete_sketches(folder.path, stage_records(folder.meta))
    folder.meta["files"] = seal(folder.path)
    folder.save()
    recording = Recording.open(folder.path, most=MOST_SAMPLES)
    evidence = evidence_of(recording)
    verdict = judge(evidence)
    write_verdict(folder.path, verdict, recording)
    render(recording, verdict, folder.path, evidence_over_time(evidence, verdict))
    return verdict


def write_verdict(folder: Path, verdict: Verdict, recording: Recording) -> None:
    """Write `verdict.json`. Raises RecordingError when the disk refuses."""
    atomic_write(folder / "verdict.json", verdict_json(verdict, recording.meta).encode())
