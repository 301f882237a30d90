"""Small files that are whole or absent, whatever dies."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from harness.errors import RecordingError


def atomic_write(path: Path, content: bytes) -> None:
    """Replaces `path`: after a crash it holds the old bytes or the new ones. Raises RecordingError."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        publish(temporary, path)
    except OSError as error:
        discard(temporary)
        raise RecordingError(f"{path}: cannot be written: {error.strerror or error}") from error


def publish(temporary: Path, path: Path) -> None:
    """Renames a file that is whole and synced, and makes the new name durable. Raises OSError."""
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def discard(path: Path) -> None:
    """Removes what could not be finished."""
    # The error that brought us here is the one to report.
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
