"""Looks at the store and at the repository, and says what there is to do. Changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial as bound
from pathlib import Path

from harness.errors import StoreError
from harness.store.body import read_whole
from harness.store.known import Known
from harness.store.manifest import MANIFEST, Manifest, sha256_of
from harness.store.plan import Job, Offer, Reader, disagreements, not_listed, offers
from harness.store.port import Listing, Store, StoredFile
from harness.store.retired import is_retired
from harness.store.staging import Staging
from harness.store.together import together


@dataclass(frozen=True, slots=True)
class Wish:
    """What the caller asked for; None is all of it."""

    models: Sequence[str] | None
    versions: Sequence[int] | None
    without_manifest: bool
    rehash: bool

    @property
    def everything(self) -> bool:
        return self.models is None and self.versions is None

    def wants(self, version: int) -> bool:
        return self.versions is None or version in self.versions


@dataclass
class Findings:
    """`jobs` (versions) and `own` (models' own files) are to be fetched; `seen` names all that was decided about."""

    complete: bool = True
    jobs: list[Job] = field(default_factory=list)
    own: list[Job] = field(default_factory=list)
    unchanged: list[tuple[str, int]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)


class Survey:
    """One look. `find` raises UsageError or StoreError, in one line, for what must not be synced at all."""

    def __init__(self, store: Store, staging: Staging, wish: Wish, known: Known, workers: int) -> None:
        self._store, self._staging, self._wish, self._known, self._workers = store, staging, wish, known, workers
        self._found = Findings()

    def find(self) -> Findings:
        found, listing = self._found, self._listing()
        found.complete = listing.complete
        if not listing.complete:
            found.skipped.append(f"{self._store.url}: the listing was cut short; only what a manifest proves is taken")
        offered = self._offered(listing)
        manifests = dict(self._manifests(offered))
        if self._wish.everything and listing.complete:
            self._known.forget_manifests(self._store.url, (f for k, f in listing.files.items() if k.endswith(MANIFEST)))
        reader = Reader(self._store.url, manifests, listing.complete, self._wish.without_manifest)
        for model, offer in offered.items():
            self._model(model, offer, reader)
        self._granted()
        return found

    def _listing(self) -> Listing:
        prefixes = [""] if self._wish.models is None else [f"{model}/" for model in self._wish.models]
        listings = together([bound(self._store.list, prefix) for prefix in prefixes], self._workers)
        if len(listings) == 1:
            return listings[0]
        files = {key: file for listing in listings for key, file in listing.files.items()}
        return Listing(files, all(listing.complete for listing in listings))

    def _offered(self, listing: Listing) -> dict[str, Offer]:
        offered = offers(listing, self._store.url, self._found.skipped)
        for model in self._wish.models or ():
            if model not in offered:
                raise StoreError(f"{self._store.url}: no model {model} there; nothing is changed")
        if not offered:
            raise StoreError(f"{self._store.url}: no model there; nothing is changed")
        return offered if self._wish.models is None else {model: offered[model] for model in self._wish.models}

    def _manifests(self, offered: Mapping[str, Offer]) -> Iterator[tuple[str, Manifest]]:
        """Those that matter, by key; read only if their etag is new."""
        files = [
            files[MANIFEST]
            for offer in offered.values()
            for version, files in [(None, offer.own), *offer.versions.items()]
            if MANIFEST in files and (version is None or self._wish.wants(version))
        ]
        read = together([bound(self._manifest, file) for file in files], self._workers)
        for file, data in zip(files, read, strict=True):
            yield file.key, Manifest.from_bytes(data, f"{self._store.url}: {file.key}")
            self._known.keep_manifest(self._store.url, file, data)

    def _manifest(self, file: StoredFile) -> bytes:
        known = self._known.manifest(self._store.url, file)
        return known if known is not None else read_whole(self._store, file)

    def _model(self, model: str, offer: Offer, reader: Reader) -> None:
        folder = self._staging.repository / model
        if folder.exists():
            self._staging.check_target(folder)
        left_out = False
        for version, files in sorted(offer.versions.items()):
            if not self._wish.wants(version):
                continue
            job = reader.job(model, version, files)
            if isinstance(job, str):
                self._found.skipped.append(job)
                left_out = True
            else:
                self._version(job, folder / str(version), files)
        if offer.own:
            reader.check_folders(model, offer.own)
            own = reader.job(model, None, offer.own)
            if isinstance(own, str):
                self._found.skipped.append(own)
            elif left_out and not reader.complete:  # its configuration may speak of versions that are not here yet
                self._found.skipped.append(f"{model}: its own files wait until all of its versions are listed")
            else:
                self._own(own, folder)

    def _version(self, job: Job, folder: Path, files: Mapping[str, StoredFile]) -> None:
        manifest = job.manifest
        assert manifest.version is not None
        self._found.seen.add(manifest.name)
        self._found.skipped.extend(not_listed(job, files))
        if folder.exists() or folder.is_symlink():
            self._check_present(folder, job)
            self._found.unchanged.append((manifest.model, manifest.version))
        elif is_retired(folder) and self._wish.versions is None:
            self._found.skipped.append(f"{manifest.name}: was retired here, and stays out: remove it from the store")
        else:
            self._found.jobs.append(job)

    def _check_present(self, folder: Path, job: Job) -> None:
        """What the repository has already is what the store has.

        Its files are hashed if asked for, or where their sizes and times are not those of the last time.
        """
        if not folder.is_dir():
            raise StoreError(f"{folder}: not a folder, so no version")
        manifest, lines = job.manifest, []
        if (own := folder / MANIFEST).is_file():
            local = Manifest.from_bytes(own.read_bytes(), str(own))
            lines = disagreements(local, manifest)
            manifest = manifest if job.vouched else local
        if not lines and (self._wish.rehash or not self._known.is_verified(manifest, folder)):
            lines = manifest.differences(folder)
        if lines:
            more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
            raise StoreError(
                f"{folder} is not the {manifest.name} of {self._store.url}: {lines[0]}{more}; a version is never "
                "overwritten: publish it under a new number, or move that folder away"
            )
        self._known.keep_verified(manifest, folder)

    def _own(self, job: Job, folder: Path) -> None:
        """Only those that differ from the repository's, or from what they were merged into."""
        self._found.seen.add(job.manifest.name)
        changed = {}
        for path, file in job.stored.items():
            local = folder / path
            if local.is_file():
                sha = sha256_of(local)
                same = sha == job.manifest.files[path].sha256
                if same or self._known.is_merged(file.key, job.source(path), sha):
                    continue
            if os.path.realpath(local) != f"{os.path.realpath(folder)}/{path}":
                self._found.skipped.append(f"{file.key}: {local} is a link, so managed elsewhere; it is left alone")
                continue
            there = next(place for place in (local, *local.parents) if place.exists())
            if there.is_dir() == (there == local):
                raise StoreError(f"{there}: in the way of {file.key}; move it away")
            changed[path] = file
        if changed:
            self._found.own.append(Job(job.manifest, changed))

    def _granted(self) -> None:
        """Each version that was asked for by number is there, or will be."""
        found = self._found
        there = {version for _, version in found.unchanged} | {job.manifest.version for job in found.jobs}
        for version in self._wish.versions or ():
            if version not in there:
                why = next((line for line in found.skipped if f"/{version}: " in line), "")
                raise StoreError(why or f"{self._store.url}: no version {version} there; nothing is changed")
        if not (found.complete or found.jobs or found.own or found.unchanged):
            raise StoreError(f"{found.skipped[0]}, and it proves nothing; nothing is changed")
