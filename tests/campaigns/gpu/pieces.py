"""Archives cut into pieces of one size, each carried by itself, and put together again where all of them arrived.

A piece is a folder: manifest.json, the same in each, and parts of archives. Needs nothing but the standard library, as
it runs on the other machine before anything is installed there.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
_BLOCK = 1 << 20


class BadPiece(Exception):
    """A piece that is damaged, is of another set, or is none. The message is one line."""


def split(archives: Mapping[str, Path], out: Path, limit: int, about: Mapping[str, Any]) -> list[Path]:
    """The folders out/piece-1 .. piece-N, their parts together at most `limit` bytes each; older ones are removed.

    archives: the file of each, by the name of the folder that its contents are for. about: what the other side should
    know, any JSON.
    """
    total = sum(file.stat().st_size for file in archives.values())
    count = max(-(-total // limit), 1)
    share = max(-(-total // count), 1)
    for old in out.glob("piece-*"):
        shutil.rmtree(old)
    listed, at = [], 0
    for name, file in archives.items():
        whole, parts = hashlib.sha256(), []
        size = file.stat().st_size
        with file.open("rb") as source:
            while (place := source.tell()) < size:
                piece, wanted = at // share + 1, min(share - at % share, size - place)
                target = out / f"piece-{piece}" / f"{file.name}.{len(parts):03d}"
                target.parent.mkdir(parents=True, exist_ok=True)
                part = hashlib.sha256()
                with target.open("wb") as written:
                    for block in _blocks(source, wanted):
                        written.write(block)
                        part.update(block)
                        whole.update(block)
                parts.append({"piece": piece, "file": target.name, "size": wanted, "sha256": part.hexdigest()})
                at += wanted
        listed.append({"name": name, "size": size, "sha256": whole.hexdigest(), "parts": parts})
    folders = [out / f"piece-{number}" for number in range(1, count + 1)]
    manifest = json.dumps({"pieces": count, "archives": listed, "about": dict(about)}, indent=1) + "\n"
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).write_text(manifest)
    return folders


def take(piece: Path, state: Path) -> int:
    """Copies the piece's parts to `state`, each once its sum was found right; a second time nothing happens.

    Returns the number of the piece. Raises BadPiece; what was taken before stays.
    """
    try:
        text = (piece / MANIFEST).read_text()
    except OSError as error:
        raise BadPiece(f"{piece}: no piece: {error.strerror}") from error
    kept = state / MANIFEST
    if kept.exists() and kept.read_text() != text:
        raise BadPiece(f"{piece}: of another set than what lies in {state}: remove that folder first")
    parts = [part for part in _parts(json.loads(text)) if (piece / part["file"]).exists()]
    if not parts:
        raise BadPiece(f"{piece}: none of its parts is there")
    store = state / "parts"
    store.mkdir(parents=True, exist_ok=True)
    number = parts[0]["piece"]
    for part in _parts(json.loads(text)):
        if part["piece"] == number and not _here(store, part):
            _copy(piece / part["file"], store / part["file"], part)
    _write(kept, text)
    return int(number)


def manifest(state: Path) -> dict[str, Any]:
    """What the pieces in `state` are of. BadPiece: none came yet."""
    try:
        found: dict[str, Any] = json.loads((state / MANIFEST).read_text())
    except FileNotFoundError:
        raise BadPiece(f"{state}: no piece came yet") from None
    return found


def missing(state: Path) -> list[int]:
    """The numbers of the pieces that have not come, or not whole."""
    store = state / "parts"
    return sorted({part["piece"] for part in _parts(manifest(state)) if not _here(store, part)})


def unpack(state: Path, name: str, target: Path) -> int:
    """The archive `name` into the folder `target`, which others may unpack to as well; its bytes.

    It is unpacked beside `target` and moved there when its sum was right. Raises BadPiece.
    """
    listed = next(each for each in manifest(state)["archives"] if each["name"] == name)
    staged = state / f".{name}"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    reader = _Reader([state / "parts" / part["file"] for part in listed["parts"]])
    try:
        with tarfile.open(fileobj=reader, mode="r|*") as archive:
            archive.extractall(staged, filter="tar")
        while reader.read(_BLOCK):  # what follows the last entry
            pass
    except (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError) as error:
        raise BadPiece(f"{name}: cannot be unpacked: {error}") from error
    finally:
        reader.close()
    if reader.digest.hexdigest() != listed["sha256"]:
        raise BadPiece(f"{name}: its sum is not the one of the manifest")
    target.mkdir(parents=True, exist_ok=True)
    for entry in staged.iterdir():
        place = target / entry.name
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        entry.replace(place)
    staged.rmdir()
    return int(listed["size"])


class _Reader:
    """Several files as one, and the sum of what was read of them."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = list(files)
        self._open: Any = None
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        while True:
            if self._open is None:
                if not self._files:
                    return b""
                self._open = self._files.pop(0).open("rb")
            if block := self._open.read(size):
                self.digest.update(block)
                return bytes(block)
            self.close()

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


def _parts(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [part for archive in found["archives"] for part in archive["parts"]]


def _here(store: Path, part: Mapping[str, Any]) -> bool:
    file = store / part["file"]
    return file.is_file() and file.stat().st_size == part["size"]


def _copy(source: Path, target: Path, part: Mapping[str, Any]) -> None:
    digest = hashlib.sha256()
    staged = target.with_name(f"{target.name}.partly")
    try:
        with source.open("rb") as read, staged.open("wb") as written:
            for block in _blocks(read, part["size"] + 1):
                digest.update(block)
                written.write(block)
    except OSError as error:
        raise BadPiece(f"{source}: {error.strerror}") from error
    if digest.hexdigest() != part["sha256"]:
        staged.unlink()
        raise BadPiece(f"{source}: damaged: its sum is not the one of the manifest")
    staged.replace(target)


def _write(file: Path, text: str) -> None:
    staged = file.with_name(f"{file.name}.partly")
    staged.write_text(text)
    staged.replace(file)


def _blocks(source: Any, size: int) -> Iterator[bytes]:
    while size > 0 and (block := source.read(min(size, _BLOCK))):
        size -= len(block)
        yield block
