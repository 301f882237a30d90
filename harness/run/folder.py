"""The folder of a run: `reports/<utc>-<scenario>/`, and its `run.json`."""

from __future__ import annotations

import fcntl
import json
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.errors import RecordingError, UsageError
from harness.files import atomic_write
from harness.recording import FORMAT_VERSION, META_NAME
from harness.types import StageRecord


class RunFolder:
    """Owns `run.json`: rewritten whole and atomically at every change, so a crash leaves the last full state."""

    def __init__(self, path: Path, meta: dict[str, Any]) -> None:
        self.path = path
        self.meta = meta

    @classmethod
    def create(cls, parent: Path, name: str, meta: dict[str, Any]) -> RunFolder:
        """A new folder; two runs in one second get different ones."""
        now = datetime.now(UTC)
        stem = f"{now:%Y%m%dT%H%M%SZ}-{name}"
        for number in range(1000):
            path = parent / (stem if number == 0 else f"{stem}-{number}")
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                continue
            except OSError as error:
                raise RecordingError(f"{path}: {error.strerror}") from error
            folder = cls(path, {"format": FORMAT_VERSION, "started_utc": now.isoformat(timespec="seconds"), **meta})
            folder.save()
            return folder
        raise RecordingError(f"{parent / stem}: too many runs of this name in one second")

    def lock(self, patience_s: float = 0.0) -> None:
        """Say that somebody works on this run, until this process and the generator have ended.

        Raises UsageError if somebody else does, and still does after `patience_s`.
        """
        try:
            self._lock = (self.path / ".lock").open("w")
        except OSError as error:
            raise RecordingError(f"{self.path}: {error.strerror}") from error
        deadline = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.1)
                    continue
                self._lock.close()
                raise UsageError(
                    f"{self.path}: this run is still alive: stop it first (it puts everything back)"
                ) from None
            return

    @property
    def lock_fd(self) -> int:
        """For processes of the run that may outlive this one by a moment."""
        return self._lock.fileno()

    def unlock(self) -> None:
        self._lock.close()

    def save(self) -> None:
        """Raises RecordingError when the disk refuses."""
        atomic_write(self.path / META_NAME, json.dumps(self.meta, indent=1).encode() + b"\n")

    def set_stages(self, stages: list[StageRecord]) -> None:
        self.meta["stages"] = [asdict(stage) for stage in stages]
        self.save()
