"""How many requests have been begun at each arm: counted before they leave, for another process to read.

Guarantee: whatever a server has counted of ours, `Begun.read` afterwards is at least that. So what a server counts
beyond it came from somebody else. Samples cannot say this: they come when a request is over and flushed.
Every worker counts in a small file of its own, `.begun-<worker>`, that it and the reader map.
"""

from __future__ import annotations

import mmap
import os
import threading
from pathlib import Path
from typing import get_args

from harness.errors import RecordingError
from harness.types import ArmName

_PLACE: dict[str, int] = {arm: place for place, arm in enumerate(get_args(ArmName))}
_SIZE = 8 * len(_PLACE)
_PREFIX = ".begun-"


class BegunCounter:
    """One worker's count. Raises RecordingError where its file cannot be made; the file stays for the reader."""

    def __init__(self, folder: Path, worker: int) -> None:
        path = folder / f"{_PREFIX}{worker}"
        temporary = folder / f".new{path.name}"
        try:
            # Under its name only once it has its size: a page that is there, so no full disk can end us later.
            temporary.write_bytes(bytes(_SIZE))
            self._counts = _mapped(temporary)
            temporary.replace(path)
        except (OSError, ValueError) as error:
            raise RecordingError(f"{path}: the counters of requests: {error}") from error

    def add(self, arm: str) -> None:
        """Before the request leaves."""
        self._counts[_PLACE[arm]] += 1

    def close(self) -> None:
        """A second call does nothing."""
        self._counts.release()


class Begun:
    """The counts of all workers that write into `folder`, added up. May be used from any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._counts: dict[str, memoryview] = {}
        self._last: dict[str, int] | None = None
        self._lock = threading.Lock()

    def read(self, arm: ArmName) -> int:
        """Workers that have come since are found, those that have ended keep their count. Raises RecordingError."""
        with self._lock:
            return self._sums()[arm] if self._last is None else self._last[arm]

    def close(self) -> None:
        """Once every worker has ended: removes their files. `read` keeps what it knew. A second call does nothing."""
        with self._lock:
            if self._last is not None:
                return
            self._last = self._sums()
            for name, counts in self._counts.items():
                counts.release()
                (self._folder / name).unlink(missing_ok=True)

    def _sums(self) -> dict[str, int]:
        try:
            for path in self._folder.iterdir():
                if path.name.startswith(_PREFIX) and path.name not in self._counts:
                    self._counts[path.name] = _mapped(path)
        except (OSError, ValueError) as error:
            raise RecordingError(f"{self._folder}: the counters of requests: {error}") from error
        sums = dict.fromkeys(_PLACE, 0)
        for counts in self._counts.values():
            for arm, count in zip(_PLACE, counts, strict=True):
                sums[arm] += count
        return sums


def _mapped(path: Path) -> memoryview:
    """One count for each arm; the map goes with the last view of it."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return memoryview(mmap.mmap(fd, _SIZE)).cast("q")
    finally:
        os.close(fd)
