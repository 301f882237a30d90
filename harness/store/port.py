"""The interface of a model store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One object. `key` is relative to the store's root: "llm/2/model.plan", "llm/config.pbtxt".

    `etag` changes whenever the content does (it is no checksum: stores differ); `sha256` is what the store itself
    vouches for, "" where it does not.
    """

    key: str
    size: int
    etag: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """`complete` is False where the store says, or shows, that it left something out. Absence then means nothing."""

    files: Mapping[str, StoredFile]
    complete: bool = True


def unwatched(count: int) -> None:
    """Nobody counts what is sent."""


class Store(Protocol):
    """Every method raises StoreError (one line, naming the store and the key) where the store fails or says no."""

    url: str

    def list(self, prefix: str = "") -> Listing:
        """Every object below `prefix` (relative to the root, "" for all), over all pages."""

    def read(self, file: StoredFile, offset: int = 0) -> Iterator[bytes]:
        """The bytes from `offset` on. StoreError where the body breaks off, or the object is no longer this one."""

    def sha256(self, file: StoredFile) -> str:
        """What is known of its SHA-256 without reading it: what the store vouches for, or what was written with it."""

    def write(self, key: str, source: Path, sha256: str = "", sent: Callable[[int], None] = unwatched) -> None:
        """Store a file under `key`; it is there as a whole or not at all.

        `sha256` of the file, where the caller knows it, is kept with it; a store that can checks it. `sent` is told of
        the bytes as they go, less than 0 where some go again; what it raises ends the write.
        """

    def close(self) -> None: ...
