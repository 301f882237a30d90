"""After a crash: traffic and models back to what they were, and the recording made whole."""

from __future__ import annotations

from pathlib import Path

from harness.errors import UsageError
from harness.recording import META_NAME, is_operation, read_meta
from harness.run.conclude import conclude
from harness.run.folder import RunFolder
from harness.run.journal import FILE, Journal
from harness.run.operations.recover import recover_operation
from harness.run.put_back import Say, put_back
from harness.types import Verdict

WIND_DOWN_S = 8.0
"""The load generator of a killed run writes what it has before it ends."""


def recover(path: Path, say: Say) -> tuple[Verdict, list[str]]:
    """Put back what the journal of `path` holds, then seal and judge the recording.

    Returns the verdict and one line for each thing that could not be put back. Running it again is harmless.
    Raises UsageError where the folder holds no run, or one that is still alive.
    """
    if not (path / META_NAME).is_file():
        raise UsageError(f"{path}: no run.json there: give the folder of a run, such as reports/20260101T120000Z-name")
    folder = RunFolder(path.resolve(), read_meta(path))
    operation = is_operation(folder.path)
    folder.lock(patience_s=WIND_DOWN_S)
    try:
        journal = Journal(folder.path)
        if not (folder.path / FILE).exists():
            say("the journal is empty: nothing had been changed")
        failures = recover_operation(folder.path, folder.meta, say) if operation else put_back(journal, say)
        folder.meta.setdefault("outcome", {})["not_put_back"] = failures
        return conclude(folder), failures
    finally:
        folder.unlock()
