"""A version from the folder where it was built into a store: what CI does after the build."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial as bound
from pathlib import Path
from threading import Event, Lock

from harness.errors import StoreError, UsageError
from harness.store.body import read_whole
from harness.store.fetch import Progress
from harness.store.manifest import MANIFEST, Entry, Manifest, own_files, sha256_of, walk
from harness.store.names import Place, place_of
from harness.store.place import CONFIG
from harness.store.port import Listing, Store
from harness.store.together import alone, together

_ENSEMBLE = re.compile(rb"""^[^#\n]*\bplatform\s*:\s*["']ensemble["']""", re.MULTILINE)


def publish(
    store: Store,
    folder: Path,
    model: str,
    version: int,
    *,
    config: Path | None = None,
    workers: int = 4,
    progress: Callable[[Progress], None] | None = None,
) -> Manifest:
    """Stores `folder` as `model`/`version`: its files, then their manifest, then what belongs to the model as a whole.

    That is `config`, stored as config.pbtxt beside what the store has of the model already; or, without it and where
    `folder` is called like the version and has a config.pbtxt beside it, that and everything else which lies there
    and is no version. With neither, the store must have a config.pbtxt.

    A version appears with its manifest, so never half; one that is there already is never changed: the same content
    is fine, another is a StoreError. Files of a publish that broke off are not sent again where the store knows their
    SHA-256. UsageError for a folder that holds a link or a name that no sync would take, for one without files unless
    the model is an ensemble, and for a name that is none.
    """
    _check_name(model, version)
    with _readable():
        places = _own_places(folder, version, config)
        before = _stamps(folder, places)
        manifest = Manifest.of_folder(folder, model, version)
        own = Manifest(model, None, {path: _entry(file) for path, file in places.items()})
    for path in manifest.files:
        _check_place(manifest, path, folder / path)
    for path, file in places.items():
        _check_place(own, path, file)
    work = _Publishing(store, model, workers, progress)
    work.total(manifest, own)
    known = work.manifest(None)
    settings = work.config(places.get(CONFIG))
    if settings is None:
        raise UsageError(f"{model} has no {CONFIG}: neither beside {folder} nor in {store.url}; name one with --config")
    if not manifest.files and not _ENSEMBLE.search(settings):
        raise UsageError(
            f"{folder} holds no file, which only an ensemble's version may, and {CONFIG} does not say platform: "
            '"ensemble" (if this model needs none, put one there: .gitkeep)'
        )

    published = work.manifest(version)
    if published is not None and published != manifest:
        lines = sorted(path for path, _ in set(published.files.items()) ^ set(manifest.files.items()))
        raise StoreError(f"{store.url}: {manifest.name} is published with another {lines[0]}; versions are immutable")
    work.upload(manifest, {path: folder / path for path in manifest.files}, published)
    _check_unchanged(folder, places, before, f"{manifest.name} is not complete in {store.url}")
    if published is None:
        work.conclude(manifest)
    if places:
        kept = known.files if known is not None and config is not None else {}
        whole = Manifest(model, None, {**kept, **own.files})
        work.upload(whole, places, known)
        _check_unchanged(folder, places, before, f"{model}'s own files are not complete in {store.url}")
        if whole != known:
            work.write_manifest(whole)
    return manifest


class _Publishing:
    """What one publish knows of the store, and how far it is."""

    def __init__(self, store: Store, model: str, workers: int, progress: Callable[[Progress], None] | None) -> None:
        self._store, self._model, self._workers, self._progress = store, model, workers, progress
        self._lock, self._stop = Lock(), Event()
        self._bytes = self._files = self._total_bytes = self._total_files = 0
        self._under_way: dict[str, int] = {}
        self.there: Listing = alone(bound(store.list, f"{model}/"))

    def total(self, *manifests: Manifest) -> None:
        self._total_bytes = sum(manifest.size for manifest in manifests)
        self._total_files = sum(len(manifest.files) for manifest in manifests)

    def manifest(self, version: int | None) -> Manifest | None:
        """The manifest that the store has. StoreError where it does not let us know whether it has one."""
        key = _key(Manifest(self._model, version, {}), MANIFEST)
        file = self.there.files.get(key)
        if file is not None:
            return Manifest.from_bytes(alone(bound(read_whole, self._store, file)), f"{self._store.url}/{key}")
        if not self.there.complete:
            raise StoreError(f"{self._store.url}: the listing of {self._model} was cut: is {key} there, or not?")
        return None

    def config(self, local: Path | None) -> bytes | None:
        """The model's config.pbtxt: the local one, or else the store's."""
        if local is not None:
            with _readable():
                return local.read_bytes()
        file = self.there.files.get(f"{self._model}/{CONFIG}")
        return alone(bound(read_whole, self._store, file)) if file is not None else None

    def upload(self, manifest: Manifest, places: Mapping[str, Path], published: Manifest | None) -> None:
        """Every file that the store does not have with this content; after the first failure no other is begun."""
        known = published.files if published is not None else {}
        sends = [
            bound(self._send, _key(manifest, path), manifest.files[path], known.get(path), file)
            for path, file in places.items()
        ]
        together(sends, self._workers, self._stop)

    def conclude(self, manifest: Manifest) -> None:
        """The version's manifest, once the store shows every file and nobody else's manifest."""
        now = alone(bound(self._store.list, f"{manifest.name}/"))
        if _key(manifest, MANIFEST) in now.files:
            raise StoreError(f"{self._store.url}: somebody else has published {manifest.name} meanwhile")
        for path, entry in manifest.files.items():
            file = now.files.get(_key(manifest, path))
            if (file is None and now.complete) or (file is not None and file.size != entry.size):
                raise StoreError(f"{self._store.url}: {_key(manifest, path)} is not there as it was written")
        self.write_manifest(manifest)

    def write_manifest(self, manifest: Manifest) -> None:
        with tempfile.NamedTemporaryFile(prefix="triton-canary-") as file:
            file.write(manifest.to_bytes())
            file.flush()
            source = Path(file.name)
            alone(bound(self._store.write, _key(manifest, MANIFEST), source, sha256_of(source)))

    def _send(self, key: str, entry: Entry, known: Entry | None, source: Path) -> None:
        file = self.there.files.get(key)
        if file is None or file.size != entry.size or (known != entry and self._store.sha256(file) != entry.sha256):
            self._store.write(key, source, entry.sha256, bound(self._sent, key))
        with self._lock:
            self._bytes += entry.size - self._under_way.pop(key, 0)
            self._files += 1
            self._tell(key)

    def _sent(self, key: str, count: int) -> None:
        if self._stop.is_set():
            raise StoreError(f"{self._store.url}: {key} was given up")
        with self._lock:
            self._bytes += count
            self._under_way[key] = self._under_way.get(key, 0) + count
            self._tell(key)

    def _tell(self, key: str) -> None:
        if self._progress and not self._stop.is_set():
            self._progress(Progress(key, self._bytes, self._total_bytes, self._files, self._total_files))


def _own_places(folder: Path, version: int, config: Path | None) -> dict[str, Path]:
    """The model's own files that are published with this version, and where they lie."""
    beside = folder.absolute().parent
    if config is not None:
        if not config.is_file():
            raise UsageError(f"{config}: no such file")
        return {CONFIG: config}
    if folder.absolute().name != str(version) or not (beside / CONFIG).is_file():
        return {}
    return dict(own_files(beside))


def _entry(file: Path) -> Entry:
    if file.is_symlink() or not file.is_file():
        raise UsageError(f"{file}: not a regular file (a link is not followed)")
    return Entry(file.stat().st_size, sha256_of(file))


def _key(manifest: Manifest, path: str) -> str:
    return f"{manifest.name}/{path}"


def _check_name(model: str, version: int) -> None:
    try:
        if place_of(f"{model}/{version}/{MANIFEST}", "publish") == Place(model, version, MANIFEST):
            return
    except StoreError:
        pass
    raise UsageError(f"{model}/{version} is not the name of a model and a version from 1 on")


def _check_place(manifest: Manifest, path: str, file: Path) -> None:
    """One file that no sync would take keeps every model of the store from being synced."""
    try:
        place_of(_key(manifest, path), str(file))
    except StoreError as error:
        raise UsageError(f"{error} by a sync; move it away") from None


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from error


def _check_unchanged(folder: Path, places: Mapping[str, Path], before: Mapping[Path, object], so: str) -> None:
    with _readable():
        now = _stamps(folder, places)
    if wrong := {path for path, _ in now.items() ^ before.items()}:
        raise StoreError(f"{min(wrong)} was changed while it was published; {so}")


def _stamps(folder: Path, places: Mapping[str, Path]) -> dict[Path, tuple[int, int]]:
    files = [*(file for _, file in walk(folder)), *places.values()] if folder.is_dir() else []
    return {file: (found.st_size, found.st_mtime_ns) for file in files for found in (os.lstat(file),)}
