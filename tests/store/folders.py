"""Stores and repositories for the tests of sync."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from harness.store import MANIFEST, FolderStore, Listing, Manifest, StoredFile
from tests.waiting import until

CONFIG = b'name: "llm"\nbackend: "python"\n'


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def put(root: Path, files: Mapping[str, bytes]) -> None:
    for key, data in files.items():
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(data)


def put_version(root: Path, model: str, version: int, files: Mapping[str, bytes]) -> Manifest:
    """A published version: its files and its manifest."""
    folder = root / model / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    put(folder, files)
    return put_manifest(root, model, version)


def put_own(root: Path, model: str, files: Mapping[str, bytes]) -> Manifest:
    """A model's own files and their manifest."""
    put(root / model, files)
    return put_manifest(root, model, None)


def put_manifest(root: Path, model: str, version: int | None) -> Manifest:
    folder = root / model / ("" if version is None else str(version))
    manifest = Manifest.of_folder(folder, model, version)
    (folder / MANIFEST).write_bytes(manifest.to_bytes())
    return manifest


def wait_for_later_stamp(file: Path, beside: Path) -> None:
    """Until what is written now gets a later time than `file` has: the kernel stamps by ticks. `beside`: a folder."""
    probe = beside / "probe"

    def is_later() -> bool:
        probe.write_bytes(b"x")
        return probe.stat().st_ctime_ns > file.stat().st_ctime_ns

    until(is_later, "a later time")
    probe.unlink()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def partial_versions(repository: Path) -> list[str]:
    """What is wrong with the versions that the repository shows, by their own manifests."""
    lines = []
    for folder in sorted(repository.glob("*/[0-9]*")):
        manifest = folder / MANIFEST
        if not manifest.is_file():
            lines.append(f"{folder}: no manifest")
            continue
        lines += [f"{folder}: {line}" for line in Manifest.from_bytes(manifest.read_bytes(), "").differences(folder)]
    return lines


class Odd(FolderStore):
    """A folder store with one oddity; counts its requests."""

    def __init__(
        self,
        root: Path,
        *,
        listed: Callable[[Listing], Listing] = lambda listing: listing,
        sent: Callable[[StoredFile, int, Iterator[bytes]], Iterator[bytes]] = lambda file, offset, body: body,
    ) -> None:
        super().__init__(str(root))
        self.listed, self.sent = listed, sent
        self.listings: list[str] = []
        self.reads: list[tuple[str, int]] = []

    def list(self, prefix: str = "") -> Listing:
        self.listings.append(prefix)
        return self.listed(super().list(prefix))

    def read(self, file: StoredFile, offset: int = 0) -> Iterator[bytes]:
        self.reads.append((file.key, offset))
        return self.sent(file, offset, super().read(file, offset))
