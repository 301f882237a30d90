"""A git repository as a place where models lie: files of the working tree, and of another commit.

Guarantee: nothing is written to it. No file of the working tree, no index and no reference is touched, no hook is run,
and nothing is fetched: contents are read as git keeps them, without any filter. Of a file in Git LFS that is the object
that was fetched already, never the pointer. Only whether the working tree is as committed is left to `git status`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import StoreError, UsageError
from harness.store.manifest import BYTECODE, sha256_of
from harness.store.names import check_path

REDIRECTING = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_LITERAL_PATHSPECS",
    "GIT_GLOB_PATHSPECS", "GIT_NOGLOB_PATHSPECS", "GIT_ICASE_PATHSPECS",
)  # fmt: skip
"""What git tells its hooks of the repository that they run for, which may be another one than is asked for here."""
GITLINK, LINK, PROGRAM = "160000", "120000", "100755"
LARGEST_POINTER = 1024
"""Bytes; the specification of Git LFS allows no more."""
_POINTER = re.compile(rb"version https://git-lfs\S*\n(?:.*\n)*?oid sha256:(?P<oid>[0-9a-f]{64})\nsize (?P<size>\d+)\n")


@dataclass(frozen=True, slots=True)
class GitFile:
    """One file of a commit or of the working tree. `path`: from the repository's root, with slashes.

    Its content is the object `blob`, or else the file `source`; `sha256`: where Git LFS names it.
    """

    path: str
    size: int
    program: bool = False
    blob: str = ""
    source: Path | None = None
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class GitCommit:
    sha: str
    subject: str


class GitRepository:
    """The repository that the folder `inside` belongs to; `root` is its working tree.

    Raises UsageError where that is in none, and StoreError (here and from every method) where git refuses.
    """

    def __init__(self, inside: Path) -> None:
        self.root = inside
        top = self._ask("rev-parse", "--show-toplevel")
        if top is None:
            raise UsageError(f"{inside}: is in no git repository: {self._why}")
        self.root = Path(top)

    @property
    def is_submodule(self) -> bool:
        return bool(self._ask("rev-parse", "--show-superproject-working-tree"))

    @property
    def is_shallow(self) -> bool:
        """Only a part of the history was cloned."""
        return self._ask("rev-parse", "--is-shallow-repository") == "true"

    def commit(self, name: str) -> str | None:
        """The commit that a branch, tag or anything else stands for; None where it is not known here."""
        return self._ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}") or None

    def merge_base(self, one: str, other: str) -> str | None:
        """The newest commit that both contain; None where they have none in common, or it was not cloned."""
        return self._ask("merge-base", one, other) or None

    def commits(self, base: str, head: str, folders: Sequence[str]) -> tuple[GitCommit, ...]:
        """Those of `head` that `base` lacks and that touch one of `folders`; the newest first, no merges."""
        words = ("log", "-z", "--no-merges", "--format=%H%x00%s", f"{base}..{head}", "--", *_literal(folders))
        parts = self._run(*words).stdout.decode(errors="replace").split("\0")
        return tuple(map(GitCommit, parts[::2], parts[1::2]))

    def is_dirty(self, folders: Sequence[str]) -> bool:
        """Whether the working tree has there what HEAD has not."""
        return bool(self._must("status", "--porcelain", "--untracked-files=all", "--", *_literal(folders)))

    def at(self, commit: str, folder: str) -> tuple[GitFile, ...]:
        """The files below `folder` in a commit; () where it has no such folder.

        Raises UsageError for what cannot be compared: a submodule, a link; and for an object of Git LFS that is not
        here.
        """
        found = []
        for entry in self._must("ls-tree", "-r", "-z", "-l", commit, "--", *_below(folder)).split("\0"):
            if not entry:
                continue
            about, _, path = entry.partition("\t")
            mode, _, blob, size = about.split()
            if not _wanted(path):
                continue
            self._refuse(path, mode, commit[:7])
            file = GitFile(path, int(size), mode == PROGRAM, blob)
            found.append(self._fetched(file, commit) if file.size <= LARGEST_POINTER else file)
        return tuple(found)

    def here(self, folder: str, *, ignored: bool = False) -> tuple[GitFile, ...]:
        """The files below `folder` in the working tree, tracked or not; with `ignored` those that git ignores, alone.

        Raises UsageError as `at`.
        """
        which = ("--others", "--ignored") if ignored else ("--cached", "--others")
        listed = self._must("ls-files", "-z", *which, "--exclude-standard", "--", *_literal(_below(folder)))
        found = []
        for path in sorted({path.rstrip("/") for path in listed.split("\0") if _wanted(path)}):
            place = self.root / path
            if not os.path.lexists(place):
                continue  # removed, and not told to git
            self._refuse(path, LINK if place.is_symlink() else GITLINK if place.is_dir() else "", "the working tree")
            about = place.stat()
            file = GitFile(path, about.st_size, bool(about.st_mode & 0o100), source=place)
            found.append(self._fetched(file, None) if file.size <= LARGEST_POINTER else file)
        return tuple(found)

    def read(self, file: GitFile) -> bytes:
        """Its whole content: for small files."""
        if file.source is None:
            return self._run("cat-file", "blob", file.blob).stdout
        try:
            return file.source.read_bytes()
        except OSError as error:
            raise StoreError(f"{file.source}: cannot be read: {error.strerror}") from error

    def copy(self, file: GitFile, target: Path) -> None:
        """Write its content to `target`, piece by piece. Raises StoreError, also where the disk is full."""
        try:
            if file.source is not None:
                shutil.copyfile(file.source, target)
            else:
                with target.open("wb") as out:
                    subprocess.run(
                        self._argv("cat-file", "blob", file.blob), stdout=out, stderr=subprocess.PIPE, check=True,
                        env=_environment(),
                    )  # fmt: skip
            target.chmod(0o755 if file.program else 0o644)
        except subprocess.CalledProcessError as error:
            raise StoreError(f"{file.path}: git cannot read it: {_line(error.stderr)}") from error
        except OSError as error:
            raise StoreError(f"{target}: cannot be written: {error.strerror}") from error

    def same(self, pairs: Sequence[tuple[GitFile, GitFile]]) -> tuple[bool, ...]:
        """For each pair whether the contents are the same, byte for byte. What need not be read is not read."""
        alike = [_told(one, other) for one, other in pairs]
        read = [(index, pairs[index]) for index, known in enumerate(alike) if known is None]
        hashed = self._hashes([file.source for _, pair in read for file in pair if file.source is not None])
        for index, (one, other) in read:
            # Both as git would name them: by the repository's own kind of digest.
            first, second = (file.blob or hashed[str(file.source)] for file in (one, other))
            alike[index] = first == second
        return tuple(bool(known) for known in alike)

    def _hashes(self, files: Iterable[Path]) -> dict[str, str]:
        names = list(dict.fromkeys(str(file) for file in files))
        if not names:
            return {}
        asked = os.fsencode("".join(f"{name}\n" for name in names))
        printed = self._run("hash-object", "--no-filters", "--stdin-paths", given=asked).stdout
        return dict(zip(names, printed.decode().split(), strict=True))

    def _refuse(self, path: str, mode: str, where: str) -> None:
        try:
            check_path(path, f"{self.root} in {where}")
        except StoreError as error:
            raise UsageError(str(error)) from None
        if mode == GITLINK:
            raise UsageError(f"{path} is a submodule in {where}, or a repository of its own: what it holds is not seen")
        if mode == LINK:
            raise UsageError(f"{path} is a link in {where}: put the file itself there")

    def _fetched(self, file: GitFile, commit: str | None) -> GitFile:
        """What a pointer of Git LFS points to, in a commit or in the working tree; any other file as it is."""
        pointer = _POINTER.match(self.read(file))
        if pointer is None:
            return file
        oid, size = pointer["oid"].decode(), int(pointer["size"])
        common = Path(self._must("rev-parse", "--path-format=absolute", "--git-common-dir").strip())
        kept, place = common / "lfs" / "objects" / oid[:2] / oid[2:4] / oid, self.root / file.path
        for source in (kept, place):
            # Git LFS has verified what lies under a digest's name.
            if _has_size(source, size) and (source is kept or sha256_of(source) == oid):
                return GitFile(file.path, size, file.program, source=source, sha256=oid)
        where = "working tree" if commit is None else f"base {commit[:7]}"
        command = "git lfs pull" if commit is None else f"git lfs fetch origin {commit}"
        github = "actions/checkout with `lfs: true`" + ("" if commit is None else ", first of the base, then of HEAD")
        raise UsageError(
            f"{file.path} is a Git LFS pointer in the {where}, and its content ({size} bytes) was not fetched: "
            f"{command} (GitHub: {github})"
        )

    def _argv(self, *words: str) -> list[str]:
        return [
            "git", "-C", str(self.root), "-c", "core.quotePath=false", "-c", "core.fsmonitor=false",
            "-c", "log.showSignature=false", *words,
        ]  # fmt: skip

    def _run(self, *words: str, given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        done = self._try(*words, given=given)
        if done.returncode != 0:
            raise StoreError(f"{self.root}: git {words[0]} failed: {_line(done.stderr)}")
        return done

    def _try(self, *words: str, given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        try:
            # With nothing to read a question of git's ends at once.
            return subprocess.run(
                self._argv(*words), capture_output=True, check=False, env=_environment(), input=given or b""
            )
        except FileNotFoundError as error:
            raise UsageError("git is not installed here: a checkout is compared with its base by git") from error

    def _must(self, *words: str) -> str:
        return os.fsdecode(self._run(*words).stdout)

    def _ask(self, *words: str) -> str | None:
        """One line; None where git says no, and `_why` is what it says."""
        done = self._try(*words)
        self._why = _line(done.stderr) or "git says nothing"
        return os.fsdecode(done.stdout).strip() if done.returncode == 0 else None


def _environment() -> Mapping[str, str]:
    # An index that is only read is not refreshed on disk either; and nobody is asked for a password.
    known = {name: value for name, value in os.environ.items() if name not in REDIRECTING}
    return {**known, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}


def _literal(paths: Sequence[str]) -> list[str]:
    """As they are: a star in a folder's name stands for itself."""
    return [f":(literal,top){path}" for path in paths]


def _below(folder: str) -> list[str]:
    """The root, "", is everything."""
    return [f"{folder}/"] if folder else []


def _wanted(path: str) -> bool:
    """Bytecode is made by whoever runs the source."""
    return bool(path) and BYTECODE not in path.split("/") and not path.endswith(".pyc")


def _has_size(file: Path, size: int) -> bool:
    return file.is_file() and file.stat().st_size == size


def _told(one: GitFile, other: GitFile) -> bool | None:
    """Whether they are the same, as far as that is known without reading them."""
    if one.size != other.size:
        return False
    if one.sha256 and other.sha256:
        return one.sha256 == other.sha256
    if one.blob and other.blob:
        return one.blob == other.blob
    if one.source is not None and one.source == other.source:
        return True
    if one.sha256 or other.sha256:
        known, unread = (one, other) if one.sha256 else (other, one)
        return None if unread.source is None else sha256_of(unread.source) == known.sha256
    return None


def _line(text: bytes) -> str:
    """git's own words, in one line."""
    return " ".join(text.decode(errors="replace").split())
