"""Files from a store into the staging folder: verified while they stream, and continued where a run broke off."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial as bound
from pathlib import Path
from threading import Event, Lock

from harness.errors import StoreError
from harness.store.body import CHUNK_BYTES
from harness.store.durable import FILE_MODE, make_folder
from harness.store.manifest import Entry, Manifest, sha256_of
from harness.store.plan import Job
from harness.store.port import Store, StoredFile
from harness.store.staging import Staging
from harness.store.together import together

WHOLE, PARTIAL = "whole", "partial"


@dataclass(frozen=True, slots=True)
class Progress:
    """`key` is the file that just grew; the other numbers are over all files of this sync, staged ones included."""

    key: str
    done_bytes: int
    total_bytes: int
    files_done: int
    files_total: int


class Fetch:
    """Fetches jobs. `bytes` is what came from the store, without what an earlier run had left."""

    def __init__(self, store: Store, staging: Staging, progress: Callable[[Progress], None] | None) -> None:
        self.bytes = 0
        self._store, self._staging, self._progress = store, staging, progress
        self._lock, self._stop = Lock(), Event()
        self._done = self._total = self._files = self._files_total = 0

    def all(self, jobs: Sequence[Job], workers: int) -> list[Manifest]:
        """Every file of every job is staged and verified; the manifests, with the hashes of what had none.

        StoreError, of the first file that failed; what was fetched is kept.
        """
        self._total = sum(job.size for job in jobs)
        self._files_total = sum(len(job.stored) for job in jobs)
        calls = [bound(self._file, job, path) for job in jobs for path in job.stored]
        try:
            found = iter(together(calls, workers, self._stop))
        except OSError as error:
            self._staging.failed(error)
        return [
            Manifest(m.model, m.version, {**m.files, **{path: next(found) for path in job.stored}}, m.origin)
            for job in jobs
            for m in (job.manifest,)
        ]

    def _file(self, job: Job, path: str) -> Entry:
        file, entry = job.stored[path], job.manifest.files[path]
        whole = self._staging.job(job) / WHOLE / path
        partial = self._staging.job(job) / PARTIAL / hashlib.sha256(path.encode()).hexdigest()[:32]
        for staged in (whole, partial):
            # A link leads elsewhere; and where nothing identifies a content, what is staged may be of another one.
            if staged.is_symlink() or not job.source(path):
                staged.unlink(missing_ok=True)
        if whole.is_file():  # of an earlier run, which may have died with the machine
            found = Entry(whole.stat().st_size, sha256_of(whole))
            if _is(found, entry):
                self._grew(file.key, found.size, received=0)
                return self._finished(found, file)
            whole.unlink()
        make_folder(whole.parent)
        make_folder(partial.parent)
        offset = partial.stat().st_size if partial.is_file() else 0
        found = self._stream(file, entry, partial)
        if not _is(found, entry) and offset:  # what the earlier run left may be torn: once more from the start
            partial.unlink()
            self._grew(file.key, -found.size, received=0)
            found = self._stream(file, entry, partial)
        if not _is(found, entry):
            partial.unlink()
            raise StoreError(
                f"{self._store.url}: {file.key} arrived with the SHA-256 {found.sha256}, not {entry.sha256} as its "
                f"manifest says; {job.advice}"
            )
        partial.replace(whole)
        return self._finished(found, file)

    def _stream(self, file: StoredFile, entry: Entry, partial: Path) -> Entry:
        """The file goes on from what is there; its size and hash. Size and end are checked here, the hash is not."""
        digest = hashlib.sha256()
        with partial.open("a+b") as stream:
            size = stream.seek(0, os.SEEK_END)
            if size > entry.size:
                stream.truncate(0)
                size = 0
            stream.seek(0)
            for block in iter(lambda: stream.read(CHUNK_BYTES), b""):
                digest.update(block)
            self._grew(file.key, size, received=0)
            for block in self._store.read(file, size) if size < entry.size else ():
                if self._stop.is_set():  # whoever asked may have left already: nothing is written any more
                    raise StoreError(f"{self._store.url}: {file.key} was given up")
                if size + len(block) > entry.size:
                    raise StoreError(f"{self._store.url}: {file.key} sends more than its {entry.size} bytes")
                stream.write(block)
                digest.update(block)
                size += len(block)
                self._grew(file.key, len(block), received=len(block))
            if size < entry.size:
                raise StoreError(f"{self._store.url}: {file.key} broke off after {size} of {entry.size} bytes")
            os.fchmod(stream.fileno(), FILE_MODE)
            stream.flush()
            os.fsync(stream.fileno())
        return Entry(size, digest.hexdigest())

    def _grew(self, key: str, count: int, *, received: int) -> None:
        with self._lock:
            self.bytes += received
            self._done += count
            self._tell(key)

    def _finished(self, entry: Entry, file: StoredFile) -> Entry:
        with self._lock:
            self._files += 1
            self._tell(file.key)
        return entry

    def _tell(self, key: str) -> None:
        if self._progress and not self._stop.is_set():
            self._progress(Progress(key, self._done, self._total, self._files, self._files_total))


def _is(found: Entry, wanted: Entry) -> bool:
    return found.size == wanted.size and wanted.sha256 in ("", found.sha256)
