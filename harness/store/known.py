"""What earlier syncs found out, so that a sync that has nothing to do costs one listing.

Nothing here is needed: without it every manifest is read and every version hashed once more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Self

from harness.store.durable import write_file
from harness.store.manifest import Manifest, walk
from harness.store.port import StoredFile


class Known:
    """`manifests` by etag; `verified` versions by sizes and times of their files; `merged` model files by content."""

    def __init__(self, file: Path, manifests: dict[str, str], verified: dict[str, str], merged: dict[str, str]) -> None:
        self.file, self._manifests, self._verified, self._merged = file, manifests, verified, merged
        self._as_read = self._text()

    @classmethod
    def read(cls, file: Path) -> Self:
        """An unreadable file is as good as none."""
        try:
            parts = [
                {str(key): str(value) for key, value in part.items()} for part in json.loads(file.read_bytes())["known"]
            ]
            return cls(file, *parts)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls(file, {}, {}, {})

    def save(self) -> None:
        """A disk that has no room for it is no failure of a sync."""
        if (text := self._text()) != self._as_read:
            new = self.file.with_suffix(".new")
            with suppress(OSError):
                write_file(new, text.encode())
                new.replace(self.file)

    def manifest(self, url: str, file: StoredFile) -> bytes | None:
        found = self._manifests.get(_identity(url, file)) if file.etag else None
        return found.encode() if found is not None else None

    def keep_manifest(self, url: str, file: StoredFile, data: bytes) -> None:
        if file.etag:
            self._manifests[_identity(url, file)] = data.decode()

    def forget_manifests(self, url: str, listed: Iterable[StoredFile]) -> None:
        """Drop those of this store that are not among these."""
        still = {_identity(url, file) for file in listed}
        for identity in [key for key in self._manifests if key.startswith(f"{url} ") and key not in still]:
            del self._manifests[identity]

    def is_verified(self, manifest: Manifest, folder: Path) -> bool:
        return self._verified.get(manifest.name) == _fingerprint(manifest, folder)

    def keep_verified(self, manifest: Manifest, folder: Path) -> None:
        self._verified[manifest.name] = _fingerprint(manifest, folder)

    def is_merged(self, key: str, source: str, sha256: str) -> bool:
        """The local file is what was made of this `source` (a hash or an etag, "" if unknown)."""
        return source != "" and self._merged.get(key) == f"{source} {sha256}"

    def keep_merged(self, key: str, source: str, sha256: str) -> None:
        self._merged[key] = f"{source} {sha256}"

    def _text(self) -> str:
        return json.dumps({"known": [self._manifests, self._verified, self._merged]}, indent=1)


def _identity(url: str, file: StoredFile) -> str:
    return f"{url} {file.key} {file.etag} {file.size}"


def _fingerprint(manifest: Manifest, folder: Path) -> str:
    """Sizes and times: the time of a file's last change of any kind (ctime) cannot be set back by a copy."""
    lines = [manifest.digest]
    for path, file in walk(folder):
        found = file.lstat()
        lines.append(f"{path} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
