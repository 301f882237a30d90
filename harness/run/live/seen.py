"""From the folder of a run under way to its page: what is on disk, judged as it would be if nothing more came."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pyarrow as pa

from harness.errors import CanaryError
from harness.judge import MOST_SAMPLES, evidence_of, evidence_over_time, judge, judge_operation
from harness.recording import Recording, is_operation, read_meta, read_observations, read_table
from harness.report import progress
from harness.report.operation import operation_page
from harness.report.page import page as canary_page
from harness.run.journal import read as read_journal

pa.set_cpu_count(1)
pa.set_io_thread_count(1)
MOST_LOOKS = 6
"""Of a stage: half of what the report shows, for a page that is drawn again and again."""

Changed = frozenset[tuple[str, int, int]]


def changed(folder: Path) -> Changed:
    """What tells whether anything was written since."""
    try:
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.stat()) for entry in entries if not entry.name.startswith(".")]
    except OSError:  # a temporary file that has its name by now; or the folder is gone, with a run that never began
        return frozenset()
    return frozenset((name, stat.st_size, stat.st_mtime_ns) for name, stat in found)


def page(folder: Path) -> str | None:
    """None where the files are just being replaced, as at the end of a run."""
    try:
        return _operation(folder) if is_operation(folder) else _canary(folder)
    except CanaryError:
        return None


def _canary(folder: Path) -> str:
    recording = Recording.open(folder, most=MOST_SAMPLES)
    evidence = evidence_of(recording)
    verdict = judge(evidence)
    looks = evidence_over_time(evidence, verdict, MOST_LOOKS)
    return canary_page(recording, verdict, looks, progress=progress.of_run(recording, _steps(folder)))


def _operation(folder: Path) -> str:
    facts = read_observations(folder)
    verdict = judge_operation(facts, partial(read_table, folder))
    return operation_page(read_meta(folder), facts, verdict, progress=progress.of_operation(_steps(folder)))


def _steps(folder: Path) -> list[progress.Step]:
    return [progress.Step(entry.action, entry.target, entry.state) for entry in read_journal(folder)]
