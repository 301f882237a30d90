"""A folder as a store: a mounted volume, or the other end of a copy."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from harness.errors import StoreError, UsageError
from harness.store.body import CHUNK_BYTES
from harness.store.manifest import sha256_of
from harness.store.names import check_path
from harness.store.port import Listing, StoredFile, unwatched

WRITING = ".triton-canary-writing"
"""Where a file is written before it is renamed to its key; no listing shows it."""


class FolderStore:
    """`file:///path` or a path. Links are refused wherever they lie: a key never leads out of the folder."""

    def __init__(self, url: str) -> None:
        self.root = _path_of(url)
        self.url = self.root.as_uri()

    def list(self, prefix: str = "") -> Listing:
        if not self.root.is_dir():
            raise StoreError(f"{self.url}: no such folder")
        below = prefix.rpartition("/")[0]
        start = self._inside(below) if below else self.root
        files = {}
        try:
            for base, folders, names in os.walk(start, onerror=_raise):
                here = Path(base)
                if here == self.root and WRITING in folders:
                    folders.remove(WRITING)
                for name in [*folders, *names]:
                    if (here / name).is_symlink():
                        raise StoreError(f"{self.url}: {self._key(here / name)!a} is refused: a link")
                for name in names:
                    key, found = self._key(here / name), (here / name).lstat()
                    if not stat.S_ISREG(found.st_mode):
                        raise StoreError(f"{self.url}: {key!a} is refused: not a regular file")
                    if key.startswith(prefix):
                        files[key] = _stored(key, found)
        except (FileNotFoundError, NotADirectoryError):
            if start.is_dir():  # something was removed while we looked: what was seen is no listing of one moment
                raise StoreError(f"{self.url}: changed while it was listed") from None
        except OSError as error:
            raise StoreError(f"{self.url}: {error.strerror}: {error.filename}") from error
        return Listing(files)

    def read(self, file: StoredFile, offset: int = 0) -> Iterator[bytes]:
        path = self._inside(file.key)
        try:
            with path.open("rb") as stream:
                now = _stored(file.key, os.fstat(stream.fileno()))
                if now.size != file.size or file.etag not in ("", now.etag):
                    raise StoreError(f"{self.url}: {file.key} was changed since it was listed")
                stream.seek(offset)
                while chunk := stream.read(CHUNK_BYTES):
                    if _stored(file.key, os.fstat(stream.fileno())) != now:
                        raise StoreError(f"{self.url}: {file.key} was changed while it was read")
                    offset += len(chunk)
                    yield chunk
        except OSError as error:
            raise StoreError(f"{self.url}: {file.key}: {error.strerror}") from error
        if offset < file.size:
            raise StoreError(f"{self.url}: {file.key} broke off after {offset} of {file.size} bytes")

    def sha256(self, file: StoredFile) -> str:
        try:
            return sha256_of(self._inside(file.key))
        except OSError as error:
            raise StoreError(f"{self.url}: {file.key}: {error.strerror}") from error

    def write(self, key: str, source: Path, sha256: str = "", sent: Callable[[int], None] = unwatched) -> None:
        target = self._inside(key)
        writing = self.root / WRITING
        try:
            writing.mkdir(parents=True, exist_ok=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=writing)
            try:
                with os.fdopen(descriptor, "wb") as stream, source.open("rb") as data:
                    while chunk := data.read(CHUNK_BYTES):
                        stream.write(chunk)
                        sent(len(chunk))
                    os.fchmod(stream.fileno(), 0o644)
                    stream.flush()
                    os.fsync(stream.fileno())
                if sha256 and sha256_of(Path(name)) != sha256:
                    raise StoreError(f"{self.url}: {key}: {source} was changed while it was written")
                Path(name).replace(target)
            except BaseException:
                Path(name).unlink()
                raise
        except OSError as error:
            raise StoreError(f"{self.url}: {key} cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Nothing is held open."""

    def _key(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _inside(self, key: str) -> Path:
        path = self.root.joinpath(*check_path(key, self.url))
        if os.path.realpath(path) != str(path):  # resolve() raises for links in a circle
            raise StoreError(f"{self.url}: {key} is refused: a link")
        return path


def _stored(key: str, found: os.stat_result) -> StoredFile:
    return StoredFile(key, found.st_size, f"{found.st_mtime_ns:x}-{found.st_ctime_ns:x}")


def _path_of(url: str) -> Path:
    """No URL is repeated in an error: one that was meant for another kind of store may hold a password."""
    try:
        split = urlsplit(url)
        if split.scheme == "":
            return Path(url).resolve()
        if split.scheme == "file" and split.netloc in ("", "localhost") and split.path:
            return Path(unquote(split.path)).resolve()
    except ValueError as error:  # a NUL, a bracket
        raise UsageError(f"a folder is file:///path, or a path ({error})") from error
    raise UsageError("a folder is file:///path, or a path")


def _raise(error: OSError) -> None:
    raise error
