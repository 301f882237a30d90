"""What a version consists of: each file's size and SHA-256. Written last, so its presence says "complete"."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, get_args

from harness.errors import StoreError, UsageError
from harness.store.names import VERSION, check_path, check_tree
from harness.store.retired import is_mark

MANIFEST = "manifest.triton-canary.json"
"""Its name, inside the version's directory (MODEL/2/) and, for what belongs to the model as a whole, in MODEL/.

`{"format": 1, "model": "llm", "version": 2, "files": {"model.plan": {"size": 1, "sha256": "..."}}}`; the model's own
has `"version": null` and lists config.pbtxt and its neighbours.
"""

FORMAT = 1
SHA256 = re.compile(r"[0-9a-f]{64}")
BYTECODE = "__pycache__"  # written by the server beside a Python model; never part of a version

Origin = Literal["publish", "store", "received"]
"""Who answers for the hashes: whoever published the version, the store itself (Artifactory), or nobody: they were
taken from what arrived."""


@dataclass(frozen=True, slots=True)
class Entry:
    """`sha256` is "" only inside a sync that was told to do without manifests; no written manifest has that."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """`files` by path relative to the manifest's directory, "/" between the parts. Equal when the contents are."""

    model: str
    version: int | None
    files: Mapping[str, Entry]
    origin: Origin = field(default="publish", compare=False)

    @property
    def name(self) -> str:
        """llm/2, or llm for the model's own files."""
        return self.model if self.version is None else f"{self.model}/{self.version}"

    @property
    def size(self) -> int:
        return sum(entry.size for entry in self.files.values())

    @property
    def digest(self) -> str:
        """SHA-256 of what the manifest says, whoever says it."""
        return hashlib.sha256(json.dumps(self._content()).encode()).hexdigest()

    def to_bytes(self) -> bytes:
        """The same bytes for the same manifest."""
        return (json.dumps({**self._content(), "origin": self.origin}, indent=1) + "\n").encode()

    def _content(self) -> dict[str, Any]:
        files = {path: {"size": e.size, "sha256": e.sha256} for path, e in sorted(self.files.items())}
        return {"format": FORMAT, "model": self.model, "version": self.version, "files": files}

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Self:
        """StoreError, naming `where`, for anything but a manifest whose paths are plain and whose hashes are hashes."""
        try:
            read = json.loads(data.decode())
            if read["format"] != FORMAT:
                raise StoreError(f"{where}: format {read['format']!r} of a manifest is not known here ({FORMAT} is)")
            model, version, origin = read["model"], read["version"], read.get("origin", "publish")
            files = {path: Entry(e["size"], e["sha256"]) for path, e in read["files"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StoreError(f"{where}: not a manifest of triton-canary ({type(error).__name__}: {error})") from error
        wrong = [path for path, e in files.items() if type(e.size) is not int or e.size < 0 or not _is_sha(e.sha256)]
        if type(model) is not str or not (version is None or type(version) is int) or origin not in get_args(Origin):
            wrong.append("its head")
        if wrong:
            raise StoreError(f"{where}: not a manifest of triton-canary ({wrong[0]!a} is malformed)")
        for path in files:
            check_path(path, where)
        check_tree([*files, MANIFEST], where)
        if MANIFEST in files:
            raise StoreError(f"{where}: a manifest cannot list itself")
        return cls(model, version, files, origin)

    @classmethod
    def of_folder(cls, folder: Path, model: str, version: int | None) -> Self:
        """The manifest of what lies in `folder`. Version None leaves out the folders of versions.

        UsageError where it is no folder, or holds a link or a name that no store would be allowed to send.
        """
        if not folder.is_dir():
            raise UsageError(f"{folder}: not a folder")
        files = {}
        for path, file in walk(folder) if version is not None else own_files(folder):
            if file.is_symlink() or not file.is_file():
                raise UsageError(f"{file}: not a regular file (a link is not followed)")
            try:
                check_path(path, str(folder))
            except StoreError as error:
                raise UsageError(str(error)) from None
            files[path] = Entry(file.stat().st_size, sha256_of(file))
        return cls(model, version, files)

    def differences(self, folder: Path) -> list[str]:
        """One line for each file of `folder` that is missing, too many, of another size or of another content.

        Bytecode and the manifest itself are not looked at. OSError where a file cannot be read.
        """
        found = dict(walk(folder))
        lines = [f"{path} is not in the manifest" for path in sorted(found.keys() - self.files.keys())]
        for path, entry in sorted(self.files.items()):
            file = folder / path
            if not file.is_file():
                lines.append(f"{path} is missing")
            elif (size := file.stat().st_size) != entry.size:
                lines.append(f"{path} has {size} bytes, not {entry.size}")
            elif entry.sha256 and (found_sha := sha256_of(file)) != entry.sha256:
                lines.append(f"{path} has the SHA-256 {found_sha[:12]}..., not {entry.sha256[:12]}...")
        return lines


def walk(folder: Path) -> Iterator[tuple[str, Path]]:
    """Everything below `folder` that is no folder, but bytecode and its manifest; links to folders are not entered."""
    for base, folders, files in os.walk(folder, onerror=_raise):
        here = Path(base)
        links = [name for name in folders if (here / name).is_symlink()]
        folders[:] = sorted(name for name in folders if name != BYTECODE and name not in links)
        for name in sorted([*files, *links]):
            path = (here / name).relative_to(folder).as_posix()
            if path != MANIFEST:
                yield path, here / name


def own_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """As `walk`, of a model's folder, without its versions, and without the marks of those that were retired there."""
    for path, file in walk(folder):
        if not is_mark(path) and ("/" not in path or not VERSION.fullmatch(path.partition("/")[0])):
            yield path, file


def sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _is_sha(text: object) -> bool:
    return isinstance(text, str) and SHA256.fullmatch(text) is not None


def _raise(error: OSError) -> None:
    raise error
