"""Versions that were retired from a repository: a sync does not bring them back, though the store has them still.

The mark is the file MODEL/1.retired, which Triton passes over. It lies in the repository because that is what all who
sync it share: a CronJob has no memory of its own.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from harness.store.durable import fsync_folder, write_file

_MARK = re.compile(r"[1-9][0-9]*\.retired")
_WORDS = b"Retired by triton-canary. Remove this file to let a sync bring the version back.\n"


def is_retired(version: Path) -> bool:
    """`version`: the path that its directory has, or had."""
    return _mark(version).exists()


def is_mark(name: str) -> bool:
    return _MARK.fullmatch(name) is not None


def mark_retired(version: Path) -> None:
    """For good; twice is fine."""
    written = version.with_name(f".{_mark(version).name}.{os.getpid()}")
    write_file(written, _WORDS)
    written.replace(_mark(version))
    fsync_folder(version.parent)


def unmark_retired(version: Path) -> None:
    """For good; one that is not marked is fine."""
    _mark(version).unlink(missing_ok=True)
    fsync_folder(version.parent)


def _mark(version: Path) -> Path:
    return version.with_name(f"{version.name}.retired")
