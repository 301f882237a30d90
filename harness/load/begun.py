"""How many requests have been begun at each arm: counted before they leave, for another process to read.

Guarantee: whatever a server has counted of ours, `read` afterwards is at least that. So what a server counts beyond it
came from somebody else. Samples cannot say this: they come when a request is over and flushed.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import get_args

from harness.errors import RecordingError
from harness.types import ArmName

_ARMS: tuple[ArmName, ...] = get_args(ArmName)
_SIZE = 8 * len(_ARMS)


class Begun:
    """Counters in a small file that writer and readers map: one writer, any number of readers."""

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        """Raises RecordingError where the file cannot be made, or (to read) is not there."""
        self._path, self._mine = folder / ".begun", create
        try:
            fd = os.open(self._path, (os.O_RDWR | os.O_CREAT | os.O_TRUNC) if create else os.O_RDWR, 0o644)
            try:
                if create:
                    os.write(fd, bytes(_SIZE))  # a page that is there: no full disk can end us later
                self._map = mmap.mmap(fd, _SIZE)
            finally:
                os.close(fd)
        except (OSError, ValueError) as error:
            raise RecordingError(f"{self._path}: the counters of requests: {error}") from error
        self._counts = memoryview(self._map).cast("q")

    def add(self, arm: ArmName) -> None:
        self._counts[_ARMS.index(arm)] += 1

    def read(self, arm: ArmName) -> int:
        return int(self._counts[_ARMS.index(arm)])

    def close(self) -> None:
        """Readers that have it open keep the last state. A second call does nothing."""
        self._counts.release()
        self._map.close()
        if self._mine:
            self._path.unlink(missing_ok=True)
