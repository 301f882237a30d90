"""The folder beside a repository in which versions are put together: on its filesystem, and outside it."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from harness.errors import StoreError, UsageError
from harness.store.durable import make_folder
from harness.store.lock import folder_held, held
from harness.store.plan import Job

BESIDE = ".triton-canary-staging"
OWN = "own"  # in the place of a version: the files of the model itself
_JOB = re.compile(r"(?P<version>[1-9][0-9]*|own)\.[0-9a-f]{16}")


class Staging:
    """`lock`, what is `known`, a folder for each job under `incoming`, and a `spare` one; `make` creates it."""

    def __init__(self, repository: Path, folder: Path | None = None) -> None:
        """UsageError unless a rename from it into the repository can work. Creates nothing."""
        self.repository = _repository(repository)
        self.root = (folder or self.repository.parent / BESIDE / self.repository.name).resolve()
        if self.root.is_relative_to(self.repository):
            raise UsageError(f"staging in {self.root}: inside the repository, where Triton would list it as a model")
        self.lock, self.known = self.root / "lock", self.root / "known.json"
        self.incoming, self.spare = self.root / "incoming", self.root / "spare"
        if _crosses(self._there(), self.repository):
            if folder:
                raise UsageError(f"staging in {self.root}: not on the filesystem of {self.repository}, as it has to be")
            raise UsageError(
                f"{self.repository} is a mount point, so there is no place beside it on its filesystem: mount the "
                "volume one level up (vol/models, beside vol/.triton-canary-staging), or name a place with --staging"
            )

    def check_target(self, folder: Path) -> None:
        """UsageError unless a rename into this folder of the repository can work."""
        if not folder.is_dir():
            raise UsageError(f"{folder}: not a folder, so no model")
        if _crosses(self._there(), folder):
            raise UsageError(f"{folder}: not on the filesystem of {self.root}, where versions are put together")

    def _there(self) -> Path:
        return next(folder for folder in (self.root, *self.root.parents) if folder.is_dir())

    def make(self) -> None:
        """UsageError where it, or the repository, cannot be written to."""
        if not os.access(self.repository, os.W_OK):
            raise UsageError(f"{self.repository} cannot be written to")
        try:
            make_folder(self.incoming)
        except OSError as error:
            raise UsageError(f"staging in {self.root}: {error.strerror} (--staging names another place)") from error

    @contextmanager
    def held(self, wait_s: float = 0.0) -> Iterator[None]:
        """Nobody else syncs into this repository meanwhile, with this staging folder or another one."""
        with held(self.lock, wait_s), folder_held(self.repository, wait_s):
            yield

    def job(self, job: Job) -> Path:
        """Its folder. Named after the manifest: what was staged of another one is never taken for it."""
        return self.incoming / job.manifest.model / f"{job.manifest.version or OWN}.{job.identity[:16]}"

    def tidy(self, keep: Iterable[Job], seen: Container[str], *, everything: bool) -> None:
        """Throw away what is staged of a version (or model) that was `seen`, or of any, and belongs to no job.

        Only what is called as `job` calls it: whoever names a folder for staging may have other things in it.
        """
        kept = {self.job(job) for job in keep}
        for leftover in sorted(self.incoming.glob("*/*")):
            ours = _JOB.fullmatch(leftover.name)
            if not ours or leftover in kept or os.path.realpath(leftover) != str(leftover) or not leftover.is_dir():
                continue
            version = ours["version"]
            if everything or leftover.parent.name + (f"/{version}" if version != OWN else "") in seen:
                shutil.rmtree(leftover)
                with suppress(OSError):  # others are staged beside it
                    leftover.parent.rmdir()

    def check_space(self, jobs: Iterable[Job]) -> None:
        """StoreError where what is still to come does not fit."""
        staged = sum(file.stat().st_size for job in jobs for file in self.job(job).rglob("*") if file.is_file())
        needed = sum(job.size for job in jobs) - staged
        free = shutil.disk_usage(self.root).free
        if needed > free:
            raise StoreError(
                f"{self.root}: {needed:,} bytes are still to be fetched and {free:,} are free; nothing was fetched"
            )

    def failed(self, error: OSError) -> NoReturn:
        """One line for a disk that is full, or fails in another way."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(self.root).free
            raise StoreError(
                f"{self.root}: the disk is full ({free:,} bytes are free); what was fetched is kept there, "
                "and the same command goes on from it"
            ) from error
        raise StoreError(f"{error.filename or self.root}: {error.strerror or error}") from error


def _repository(repository: Path) -> Path:
    if not repository.is_dir():
        raise UsageError(f"{repository}: no such folder (a model repository is made by whoever starts Triton)")
    return repository.resolve()


def _crosses(source: Path, target: Path) -> bool:
    """No rename leads from one folder into the other.

    It is tried with a name that does not exist, which touches nothing: the kernel compares the mounts first. Two bind
    mounts of one filesystem share their `st_dev`, and yet no rename leads from one to the other.
    """
    if source.stat().st_dev != target.stat().st_dev:
        return True
    name = f".triton-canary-no-such-file-{os.getpid()}"
    try:
        (source / name).rename(target / name)
    except OSError as error:
        return error.errno == errno.EXDEV
    return False
