"""A history and what is put into it, brought together: folders of runs, the judge, a store, a checkout's commit."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from harness.errors import RecordingError, UsageError
from harness.history.entry import Entry, entry_of
from harness.history.place import SUFFIX, FolderPlace
from harness.history.store import History
from harness.history.table import rows_of
from harness.recording import is_operation, read_meta

COMMITS = ("GITHUB_SHA", "CI_COMMIT_SHA")
BRANCHES = ("GITHUB_HEAD_REF", "GITHUB_REF_NAME", "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "CI_COMMIT_REF_NAME")
"""What GitHub and GitLab tell a job, the most telling first."""
_READ = 1 << 20


def open_history(where: str) -> History:
    """`s3://BUCKET/PREFIX`, or a folder, which need not be there yet. Raises UsageError."""
    if not where.startswith("s3://"):
        if "://" in where:
            raise UsageError(f"{where.partition('://')[0]}:// holds no history: a folder or s3://BUCKET/PREFIX does")
        return History(FolderPlace(Path(where)))
    from harness.store import open_store

    store = open_store(where)  # says so where boto3 is missing
    from harness.run.history_bucket import BucketPlace
    from harness.store.s3 import S3Store

    assert isinstance(store, S3Store)
    return History(BucketPlace(store))


def is_history(path: Path) -> bool:
    """Whether a folder holds a history's files, and is no run."""
    names = [file.name for file in path.glob(f"*{SUFFIX}")] if path.is_dir() else []
    return bool(names) and all(rows_of(name) is not None for name in names)


def entry(path: Path, environment: Mapping[str, str], *, commit: str = "", branch: str = "") -> Entry:
    """A run's folder, or a recording as `judge` takes it. Of a run its own verdict counts; else it is judged here.

    Of which commit: as said, else as run.json says, else as the CI system does, else what is checked out here.
    Raises UsageError (no recording) or RecordingError (damaged).
    """
    meta = read_meta(path) if path.is_dir() else {}
    document = _verdict(path, meta)
    made = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
    recorded = meta.get("git")
    git = recorded if isinstance(recorded, Mapping) else {}
    head = str(git.get("head") or "")
    here = _named(environment, COMMITS)
    return entry_of(
        meta,
        document,
        content=_content(path, meta),
        name=path.resolve().name if path.is_dir() else "/".join(path.resolve().parts[-2:]),
        started_utc=_utc(str(meta.get("started_utc") or made)),
        commit=commit or (f"{head}{'-dirty' if git.get('dirty') else ''}" if head else here or _git("HEAD")),
        branch=branch or _named(environment, BRANCHES) or _branch(),
    )


def _utc(time: str) -> str:
    """Runs are put in order by this text, so that all have one form and one zone; as it is where it is no time."""
    try:
        found = datetime.fromisoformat(time)
    except ValueError:
        return time
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC).isoformat(timespec="seconds")


def _branch() -> str:
    """ "" where a commit is checked out, and no branch."""
    found = _git("--abbrev-ref", "HEAD")
    return "" if found == "HEAD" else found


def _verdict(path: Path, meta: Mapping[str, Any]) -> dict[str, Any]:
    """verdict.json, or what it would be."""
    written = path / "verdict.json"
    if written.is_file():
        try:
            found = json.loads(written.read_bytes())
        except (OSError, ValueError) as error:
            raise RecordingError(f"{written}: cannot be read: {error}") from error
        if not isinstance(found, dict):
            raise RecordingError(f"{written}: expected an object, found {type(found).__name__}")
        return found
    # What only this takes: the judge is half of a second.
    from harness.judge import MOST_SAMPLES, evidence_of, judge, judge_operation, verdict_json
    from harness.recording import Recording, read_observations, read_table

    if is_operation(path):
        verdict = judge_operation(read_observations(path), partial(read_table, path))
    else:
        recording = Recording.open(path, most=MOST_SAMPLES)
        meta, verdict = recording.meta, judge(evidence_of(recording))
    made: dict[str, Any] = json.loads(verdict_json(verdict, meta))
    return made


def _content(path: Path, meta: Mapping[str, Any]) -> str:
    """A digest of what was recorded: run.json has those of a run's files, of others it is made here."""
    if files := meta.get("files"):
        return json.dumps(files, sort_keys=True)
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else _recorded(path):
        try:
            with file.open("rb") as stream:
                while data := stream.read(_READ):
                    digest.update(data)
        except OSError as error:
            raise RecordingError(f"{file}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _recorded(folder: Path) -> Iterator[Path]:
    kinds = ("observations.json", "*.parquet", "*.arrow")
    yield from sorted(file for kind in kinds for file in folder.glob(kind) if file.is_file())


def _named(environment: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((environment[name] for name in names if environment.get(name)), "")


def _git(*what: str) -> str:
    """Of the checkout in which we are called, "" where there is none."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", *what],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
