"""After a crash: traffic and models back to what they were, and the recording made whole."""

from __future__ import annotations

import json
from pathlib import Path

from harness.errors import UsageError
from harness.run.conclude import conclude
from harness.run.folder import RunFolder
from harness.run.journal import FILE, Journal
from harness.run.put_back import Say, put_back
from harness.types import Verdict


def recover(path: Path, say: Say) -> tuple[Verdict, list[str]]:
    """Put back what the journal of `path` holds, then seal and judge the recording.

    Returns the verdict and one line for each thing that could not be put back. Running it again is harmless.
    Raises UsageError where the folder holds no run.
    """
    run_json = path / "run.json"
    if not run_json.is_file():
        raise UsageError(f"{path}: no run.json there: give the folder of a run, such as reports/20260101T120000Z-name")
    journal = Journal(path)
    if not (path / FILE).exists():
        say("the journal is empty: nothing had been changed")
    failures = put_back(journal, say)
    folder = RunFolder(path, json.loads(run_json.read_text()))
    return conclude(folder), failures
