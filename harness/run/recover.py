"""After a crash: traffic and models back to what they were, and the recording made whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import UsageError, WorldError
from harness.recording import META_NAME, is_operation, read_meta
from harness.run.conclude import conclude
from harness.run.folder import RunFolder
from harness.run.journal import FILE, Journal
from harness.run.lease import Lease, forget
from harness.run.operations.recover import recover_operation
from harness.run.owed import pending, targets
from harness.run.put_back import Live, Say, put_back
from harness.types import Verdict

WIND_DOWN_S = 8.0
"""The load generator of a killed run writes what it has before it ends."""


def recover(path: Path, say: Say) -> tuple[Verdict, list[str]]:
    """Put back what the journal of `path` holds, then seal and judge the recording.

    Returns the verdict and one line for each thing that could not be put back. Running it again is harmless.
    Raises UsageError where the folder holds no run, or one that is still alive, or where another run has a router or a
    Triton that would have to be changed.
    """
    folder = _opened(path)
    try:
        failures = _put_back(folder, say, ())
        folder.meta.setdefault("outcome", {})["not_put_back"] = failures
        return conclude(folder), failures
    finally:
        folder.unlock()


def put_back_only(path: Path, say: Say, held: Sequence[str]) -> list[str]:
    """The same without a look at the recording, for a run that has the leases of `held`."""
    folder = _opened(path)
    try:
        failures = _put_back(folder, say, held)
        folder.meta.setdefault("outcome", {})["not_put_back"] = failures
        folder.save()
        return failures
    finally:
        folder.unlock()


def _opened(path: Path) -> RunFolder:
    if not (path / META_NAME).is_file():
        raise UsageError(f"{path}: no run.json there: give the folder of a run, such as reports/20260101T120000Z-name")
    folder = RunFolder(path.resolve(), read_meta(path))
    folder.lock(patience_s=WIND_DOWN_S)
    return folder


def _put_back(folder: RunFolder, say: Say, held: Sequence[str]) -> list[str]:
    path = folder.path
    if not (path / FILE).exists():
        say("the journal is empty: nothing had been changed")
    operation = is_operation(path)
    journal = Journal(path)
    entries = journal.entries()
    ended = any(entry.action == "run.end" and entry.state == "done" for entry in entries)
    changed = [*targets(pending(entries)), *(_places(folder.meta) if operation and not ended else ())]
    lease = _taken([target for target in changed if target not in held], path, say)
    try:
        if operation:
            failures = recover_operation(path, folder.meta, say)
        else:
            failures = put_back(journal, say, Live(fences=[lease.fence] if lease else []))
    finally:
        if lease is not None:
            lease.release()
    if not failures:
        try:
            forget(path)
        except WorldError as error:
            say(str(error))
    return failures


def _taken(changed: Sequence[str], path: Path, say: Say) -> Lease | None:
    """None where no lease can be written: a full disk must not hold the traffic."""
    try:
        return Lease.take(changed, path)
    except WorldError as error:
        say(f"{error}: no other run is kept away meanwhile")
        return None


def _places(meta: dict[str, Any]) -> list[str]:
    """The servers of an operation that it did not start itself."""
    scenario = meta.get("scenario", {})
    places = scenario.get("regions") or [scenario.get("target", {})]
    return [str(place["url"]) for place in places if place.get("url")]
