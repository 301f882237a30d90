"""The files of a worker on another host, copied byte by byte to where the run is recorded, while they grow.

Guarantee: what the keeper has confirmed is in its files, in order and without a gap, whatever was lost, repeated or
cut on the way; and a file that both sides call whole has the same SHA-256 on both. The stream files of a recording only
grow, and their readers take a torn tail, so the copy is readable at any moment.

Files are shipped in the order in which the recorder writes them, each up to where it was before those ahead of it were
looked at: a sample that is here has its output here. Ranges are compressed (zstd).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from harness.errors import RecordingError
from harness.load.process.link import Patience

RANGE = 128 << 10
# Bytes (of the file) that are on their way: more would only fill buffers.
WINDOW = 1 << 20
# A range that unpacks to more than this was not made here.
MAX_RANGE = 4 << 20
# The recorder's.
ORDER = ("readings", "outputs", "chunks", "samples", "sketches", "sums")

_NAME = re.compile(rf"({'|'.join(ORDER)})-(\d+)\.arrow")
_CODEC = pa.Codec("zstd", compression_level=1)


class Range(NamedTuple):
    """`size` bytes of `file` from `offset` on; `data` is their zstd frame."""

    file: str
    offset: int
    size: int
    data: bytes


class Digest(NamedTuple):
    size: int
    sha256: str


class Shipper:
    """The side that has the files: those of `worker` in `folder`. Raises RecordingError where they cannot be read."""

    def __init__(self, folder: Path, worker: int) -> None:
        self._folder, self._worker = folder, worker
        self._files: dict[str, _Growing] = {}
        self._patience = Patience()
        self.raw_bytes = self.sent_bytes = 0
        """Of the files, and as sent (repeats included)."""

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def sizes(self) -> dict[str, int]:
        """How long each file is now."""
        self._look()
        return {name: file.size() for name, file in self._files.items()}

    def due(self, now_ns: int) -> list[Range]:
        """What is to be sent now; nothing while WINDOW bytes are on their way."""
        self._look()
        in_flight = sum(file.sent - file.confirmed for file in self._files.values())
        if self._patience.over(now_ns, waiting=in_flight > 0):
            self._rewind()
            in_flight = 0
        ranges = []
        sizes = {name: file.size() for name, file in reversed(self._files.items())}
        for name, file in self._files.items():
            while in_flight < WINDOW and (data := file.read(min(RANGE, sizes[name] - file.sent))):
                packed = _CODEC.compress(data, asbytes=True)
                ranges.append(Range(file.name, file.sent, len(data), packed))
                file.sent += len(data)
                in_flight += len(data)
                self.sent_bytes += len(packed)
        if ranges:
            self._patience.begin(now_ns)
        return ranges

    def rewind(self) -> None:
        """The line was cut: what was on its way is due again, at once."""
        self._rewind()
        self._patience.reset()

    def _rewind(self) -> None:
        for file in self._files.values():
            file.sent = file.confirmed

    def confirm(self, sizes: Mapping[str, int]) -> None:
        """The keeper's files are so long."""
        for name, size in sizes.items():
            file = self._files.get(name)
            if file and size > file.confirmed:
                self.raw_bytes += size - file.confirmed
                file.confirmed = size
                file.sent = max(file.sent, size)
                self._patience.reset()

    @property
    def behind(self) -> int:
        """Bytes that the keeper has not confirmed."""
        self._look()
        return sum(max(file.size() - file.confirmed, 0) for file in self._files.values())

    def digests(self) -> dict[str, Digest]:
        """Of each file; to be called when nobody writes any more."""
        return {name: digest(self._folder / name) for name in self.sizes()}

    def _look(self) -> None:
        """Files appear as they are needed. One that was begun stays in its place of the order."""
        found = [f"{kind}-{self._worker}.arrow" for kind in ORDER]
        for name in found:
            if name not in self._files and (self._folder / name).exists():
                self._files[name] = _Growing(self._folder / name)
        self._files = {name: self._files[name] for name in found if name in self._files}


class _Growing:
    """One file, and how much of it is sent and confirmed."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.sent = self.confirmed = 0
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise RecordingError(f"{path}: cannot be read: {error.strerror}") from error

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def read(self, size: int) -> bytes:
        return os.pread(self._fd, size, self.sent) if size > 0 else b""

    def close(self) -> None:
        os.close(self._fd)


class Keeper:
    """The side that keeps the copies in `folder`. Raises RecordingError (disk full): the run cannot go on then."""

    def __init__(self, folder: Path, worker: int) -> None:
        self._folder, self._worker = folder, worker
        self._files: dict[str, int] = {}
        self._sizes: dict[str, int] = {}

    def take(self, ranges: Iterable[Range]) -> None:
        """Appends what follows on what is there; the rest is a repeat, or comes once more.

        ValueError: a range that no worker of ours would send.
        """
        for name, offset, size, data in ranges:
            match = _NAME.fullmatch(name)
            if not match or int(match[2]) != self._worker or not 0 < size <= MAX_RANGE:
                raise ValueError(f"no file of load worker {self._worker}: {name[:80]!r} ({size} bytes)")
            have = self._sizes.get(name, 0)
            if offset <= have < offset + size:
                try:
                    plain = _CODEC.decompress(data, decompressed_size=size, asbytes=True)
                except (pa.ArrowException, OSError) as error:
                    raise ValueError(f"{name}: the bytes from {offset} on are damaged") from error
                self._append(name, plain[have - offset :])

    def sizes(self) -> dict[str, int]:
        """How long each copy is: what the other side may take as safe."""
        return dict(self._sizes)

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Whether the copies have grown to `sizes` at least."""
        return all(self._sizes.get(name, 0) >= size for name, size in sizes.items())

    def differing(self, digests: Mapping[str, Digest]) -> list[str]:
        """Names of files that are not, byte for byte, what the worker has."""
        mine = {name: digest(self._folder / name) for name in self._sizes}
        return sorted(name for name, theirs in digests.items() if mine.get(name) != Digest(*theirs))

    def close(self) -> None:
        for fd in self._files.values():
            os.close(fd)
        self._files.clear()

    def _append(self, name: str, data: bytes) -> None:
        path = self._folder / name
        try:
            if name not in self._files:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
                self._files[name] = os.open(path, flags, 0o644)
            view = memoryview(data)
            while view:
                done = os.write(self._files[name], view)
                self._sizes[name] = self._sizes.get(name, 0) + done
                view = view[done:]
        except OSError as error:
            raise RecordingError(f"{path}: cannot be written: {error.strerror}") from error


def digest(path: Path) -> Digest:
    """Raises RecordingError."""
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return Digest(file.tell(), sha256)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror}") from error
