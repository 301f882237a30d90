"""Where the files of a history lie: a folder here; a bucket is handed in by `harness.run`."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from harness.errors import RecordingError, UsageError
from harness.files import discard, publish

SUFFIX = ".parquet"
LEFT_BEHIND_S = 3600.0
"""A temporary file that old is of an `add` that was killed."""


class Place(Protocol):
    """Files that are whole or absent, and never change: a name says what is in it. WorldError where it fails."""

    where: str

    def names(self) -> list[str]:
        """All of them, in no order; [] where there is no history yet. Without those that are still being written."""

    def open(self, name: str) -> Any:
        """To read, for pyarrow. FileNotFoundError: it is gone, because somebody packed it."""

    def put(self, name: str, data: bytes) -> None:
        """For good once it returns. The same name twice is the same file."""

    def remove(self, name: str) -> None:
        """Also where somebody else was faster."""

    def tidy(self) -> None:
        """Takes away what was left of writers that died."""


class FolderPlace:
    """A folder, which is made with the first file. Several processes may read and write at once."""

    def __init__(self, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder}: expected a folder that holds a history, found a file")
        self.folder, self.where = folder, str(folder)

    def names(self) -> list[str]:
        try:
            found = os.listdir(self.folder)  # noqa: PTH208 - names only, in one system call for a few hundred
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RecordingError(f"{self.folder}: cannot be listed: {error.strerror}") from error
        return [name for name in found if name.endswith(SUFFIX) and not name.startswith(".")]

    def open(self, name: str) -> Any:
        return pa.memory_map(str(self.folder / name))

    def put(self, name: str, data: bytes) -> None:
        # Two may write the same pack at once, so that the temporary name cannot follow from the name.
        temporary = self.folder / f".{name}.{secrets.token_hex(6)}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            publish(temporary, self.folder / name)
        except OSError as error:
            discard(temporary)
            raise RecordingError(f"{self.folder / name}: cannot be written: {error.strerror or error}") from error

    def remove(self, name: str) -> None:
        try:
            (self.folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise RecordingError(f"{self.folder / name}: cannot be removed: {error.strerror}") from error

    def tidy(self) -> None:
        old = time.time() - LEFT_BEHIND_S
        for path in self.folder.glob(".*.tmp"):
            try:
                if path.stat().st_mtime < old:
                    discard(path)
            except FileNotFoundError:
                continue
