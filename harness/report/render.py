"""Writes a run's report files. They follow from the recording and the verdict, and from nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.files import atomic_write
from harness.report.junit import junit
from harness.report.markdown import markdown
from harness.report.openmetrics import gauges, openmetrics
from harness.types import Look, Verdict

if TYPE_CHECKING:
    from harness.recording import Recording


def render(recording: Recording, verdict: Verdict, folder: Path, looks: Sequence[Look] = ()) -> tuple[Path, ...]:
    """Writes report.html, report.md, junit.xml and metrics.txt into `folder` and returns their paths, in this order.

    Each file is replaced whole or not at all; the same recording, verdict and looks give the same bytes. `looks`: the
    evidence over time, as the judge made it.
    Raises RecordingError if a file cannot be written (one line that names it).
    """
    # matplotlib takes half a second to import; only those who draw pay for it.
    from harness.report.page import page

    contents = {
        "report.html": page(recording, verdict, looks),
        "report.md": markdown(recording, verdict),
        "junit.xml": junit(recording, verdict),
        "metrics.txt": openmetrics(gauges(recording.meta, verdict)),
    }
    for name, text in contents.items():
        atomic_write(folder / name, text.encode())
    return tuple(folder / name for name in contents)
