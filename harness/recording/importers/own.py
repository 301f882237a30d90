"""A `samples.parquet`, ours or somebody else's: as one of two runs it counts whole, whatever arm it names."""

from __future__ import annotations

from pathlib import Path

from harness.errors import RecordingError, UsageError
from harness.recording.files import conform, read_parquet
from harness.recording.importers.run import Run
from harness.recording.schema import REQUIRED_SAMPLE_COLUMNS, SAMPLES

TOOL = "samples.parquet"


def recognises(head: bytes) -> bool:
    return head.startswith(b"PAR1")


def read(path: Path) -> Run:
    try:
        samples = conform(read_parquet(path), SAMPLES, path, required=REQUIRED_SAMPLE_COLUMNS)
    except RecordingError as error:
        raise UsageError(str(error)) from error
    if not samples.num_rows:
        raise UsageError(f"{path}: holds no request")
    counted = bool((samples["osl"].to_numpy() >= 0).any())
    return Run(TOOL, samples, tokens="whoever wrote it" if counted else "", epoch=False)
