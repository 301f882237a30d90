"""What a sync has to fetch: the listing and the manifests against what the repository has."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from harness.errors import StoreError
from harness.store.manifest import BYTECODE, MANIFEST, Entry, Manifest
from harness.store.names import check_tree, place_of
from harness.store.port import Listing, StoredFile


@dataclass(frozen=True)
class Job:
    """Files to fetch: a whole version, or those of a model's own files that changed."""

    manifest: Manifest
    stored: Mapping[str, StoredFile]

    @cached_property
    def identity(self) -> str:
        """Another one for other contents, as far as manifest and etags tell."""
        etags = "" if self.vouched else repr(sorted((file.key, file.etag) for file in self.stored.values()))
        return hashlib.sha256((self.manifest.digest + etags).encode()).hexdigest()

    @property
    def vouched(self) -> bool:
        return all(entry.sha256 for entry in self.manifest.files.values())

    @property
    def size(self) -> int:
        return sum(self.manifest.files[path].size for path in self.stored)

    @property
    def advice(self) -> str:
        """What to do where the store's files are not those of the manifest."""
        if self.manifest.version is None:  # these are replaced one by one, their manifest last
            return "a publish is under way, or broke off: publish it once more"
        return "it was damaged or overwritten in the store: publish it under a new number, and remove this one there"

    def source(self, path: str) -> str:
        """What tells one content of a file from another: its hash, or its etag, or "" where the store gives neither."""
        return self.manifest.files[path].sha256 or self.stored[path].etag


@dataclass
class Offer:
    """What the store has of one model: its versions and its own files, each by path."""

    versions: dict[int, dict[str, StoredFile]] = field(default_factory=dict)
    own: dict[str, StoredFile] = field(default_factory=dict)


def offers(listing: Listing, url: str, skipped: list[str]) -> dict[str, Offer]:
    """The models in a listing. StoreError for a name that may not be; what belongs to no model goes to `skipped`."""
    found: dict[str, Offer] = {}
    beside: set[str] = set()
    keys = [key for key, file in listing.files.items() if not (key.endswith("/") and file.size == 0)]  # folder markers
    for key in keys:
        place = place_of(key, url)
        if place is None:
            beside.add(key.partition("/")[0])
            continue
        offer = found.setdefault(place.model, Offer())
        files = offer.own if place.version is None else offer.versions.setdefault(place.version, {})
        files[place.path] = listing.files[key]
    check_tree(keys, url)
    skipped.extend(f"{name}: belongs to no model" for name in sorted(beside))
    return {model: found[model] for model in sorted(found)}


@dataclass(frozen=True, slots=True)
class Reader:
    """Turns what is offered into jobs. `manifests` are those of the store, by key."""

    url: str
    manifests: Mapping[str, Manifest]
    complete: bool
    without_manifest: bool

    def job(self, model: str, version: int | None, files: Mapping[str, StoredFile]) -> Job | str:
        """The job, or the reason why there is none. StoreError where the store contradicts its manifest."""
        name = model if version is None else f"{model}/{version}"
        manifest = self.manifests.get(f"{name}/{MANIFEST}")
        content = {path: file for path, file in files.items() if path != MANIFEST and BYTECODE not in path.split("/")}
        if manifest is None:
            if not self.complete:
                return f"{name}: no manifest in a listing that was cut short"
            vouched = bool(content) and all(file.sha256 for file in content.values())
            # Hashes vouch for files, not for their number: a version may still be on its way up.
            if self.without_manifest or (vouched and version is None):
                entries = {path: Entry(file.size, file.sha256 if vouched else "") for path, file in content.items()}
                return Job(Manifest(model, version, entries, "store" if vouched else "received"), content)
            return f"{name}: no manifest: not published completely, or not by triton-canary publish"
        if (manifest.model, manifest.version) != (model, version):
            raise StoreError(f"{self.url}: the manifest of {name} is one of {manifest.name!a}")
        if missing := sorted(manifest.files.keys() - content.keys()):
            return f"{name}: {missing[0]} is in its manifest but not in the {'store' if self.complete else 'listing'}"
        job = Job(manifest, {path: content[path] for path in manifest.files})
        for path, entry in manifest.files.items():
            if wrong := _contradiction(content[path], entry):
                if version is not None:
                    raise StoreError(f"{self.url}: {wrong}; {job.advice}")
                return f"{wrong}; {job.advice}"
        return job

    def check_folders(self, model: str, files: Mapping[str, StoredFile]) -> None:
        """A folder of a model that is no version: StoreError unless its manifest, or the store's hashes, vouch for it.

        A listing that was cut short may lack the manifest: there, such a folder is only left out.
        """
        manifest = self.manifests.get(f"{model}/{MANIFEST}")
        for path, file in sorted(files.items()):
            vouched = path in manifest.files if manifest else file.sha256 or not self.complete
            if "/" in path and BYTECODE not in path.split("/") and not vouched:
                raise StoreError(f"{self.url}: {file.key} is refused: neither a version nor in the model's manifest")


def _contradiction(file: StoredFile, entry: Entry) -> str:
    if file.size != entry.size:
        return f"{file.key} has {file.size} bytes, and {entry.size} by its manifest"
    if file.sha256 and file.sha256 != entry.sha256:
        return f"{file.key} has the SHA-256 {file.sha256}, and {entry.sha256} by its manifest"
    return ""


def not_listed(job: Job, files: Iterable[str]) -> Sequence[str]:
    extra = sorted(set(files) - job.stored.keys() - {MANIFEST})
    return [f"{job.manifest.name}/{path}: not in the manifest" for path in extra if BYTECODE not in path.split("/")]


def disagreements(local: Manifest, remote: Manifest) -> list[str]:
    """What two manifests say differently, a line each; an unknown hash disagrees with none."""
    lines = []
    for path in sorted(local.files.keys() | remote.files.keys()):
        here, there = local.files.get(path), remote.files.get(path)
        if here is None or there is None:
            lines.append(f"{path} is only in the {'repository' if there is None else 'store'}")
        elif here.size != there.size or (there.sha256 and here.sha256 != there.sha256):
            lines.append(f"{path} differs ({here.size} bytes, SHA-256 {here.sha256[:12]}... in the repository)")
    return lines
