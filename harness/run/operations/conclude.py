"""The end of an operation, also of one that was cut short: judge what is on disk, and only that; render it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from harness.files import atomic_write
from harness.judge import judge_operation, verdict_json
from harness.recording import read_meta, read_observations, read_table
from harness.report import render_operation
from harness.types import Verdict


def conclude_operation(folder: Path) -> Verdict:
    """Write verdict.json and the report; the same bytes whenever it is done. Raises RecordingError."""
    verdict, meta = judge_again(folder)
    render_operation(meta, read_observations(folder), verdict, folder)
    return verdict


def judge_again(folder: Path) -> tuple[Verdict, dict[str, Any]]:
    """The verdict and run.json of an operation's folder; writes verdict.json. Raises RecordingError."""
    facts, meta = read_observations(folder), read_meta(folder)
    verdict = judge_operation(facts, partial(read_table, folder))
    atomic_write(folder / "verdict.json", verdict_json(verdict, meta).encode())
    return verdict, meta
