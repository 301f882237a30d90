"""A version from the folder where it was built into a store: what CI does after the build."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Lock

from harness.errors import StoreError, UsageError
from harness.store.fetch import Progress
from harness.store.manifest import MANIFEST, Entry, Manifest, sha256_of, walk
from harness.store.names import Place, place_of
from harness.store.port import Listing, Store

CONFIG = "config.pbtxt"


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
    SHA-256. UsageError for a folder that is empty or holds a link, and for a name that is none.
    """
    _check_name(model, version)
    with _readable():
        before = _stamps(folder)
        manifest = Manifest.of_folder(folder, model, version)
        own, places = _own(folder, model, version, config)
    if not manifest.files:
        raise UsageError(f"{folder} holds no file")
    work = _Publishing(store, model, workers, progress)
    work.total(manifest.size + sum(own[path].size for path in places), len(manifest.files) + len(places))
    known = work.manifest(None)
    if CONFIG not in own and f"{model}/{CONFIG}" not in work.there.files:
        raise UsageError(f"{model} has no {CONFIG}: neither beside {folder} nor in {store.url}; name one with --config")

    published = work.manifest(version)
    if published is not None and published != manifest:
        lines = sorted(path for path, _ in set(published.files.items()) ^ set(manifest.files.items()))
        raise StoreError(f"{store.url}: {manifest.name} is published with another {lines[0]}; versions are immutable")
    work.upload(manifest, {path: folder / path for path in manifest.files}, published)
    if _stamps(folder) != before:
        raise StoreError(f"{folder} was changed while it was published; {manifest.name} is not complete in {store.url}")
    if published is None:
        work.conclude(manifest)
    if places:
        kept = known.files if known is not None and config is not None else {}
        whole = Manifest(model, None, {**kept, **own})
        work.upload(whole, places, known)
        if whole != known:
            work.write_manifest(whole)
    return manifest


class _Publishing:
    """What one publish knows of the store, and how far it is."""

    def __init__(self, store: Store, model: str, workers: int, progress: Callable[[Progress], None] | None) -> None:
        self._store, self._model, self._workers, self._progress = store, model, workers, progress
        self._lock = Lock()
        self._bytes = self._files = self._total_bytes = self._total_files = 0
        self.there: Listing = store.list(f"{model}/")

    def total(self, size: int, files: int) -> None:
        self._total_bytes, self._total_files = size, files

    def manifest(self, version: int | None) -> Manifest | None:
        """The manifest that the store has. StoreError where it does not let us know whether it has one."""
        key = _key(Manifest(self._model, version, {}), MANIFEST)
        file = self.there.files.get(key)
        if file is not None:
            return Manifest.from_bytes(b"".join(self._store.read(file)), f"{self._store.url}/{key}")
        if not self.there.complete:
            raise StoreError(f"{self._store.url}: the listing of {self._model} was cut: is {key} there, or not?")
        return None

    def upload(self, manifest: Manifest, places: Mapping[str, Path], published: Manifest | None) -> None:
        """Every file that the store does not have with this content; after the first failure no other is begun."""
        known = published.files if published is not None else {}
        with ThreadPoolExecutor(self._workers, "publish") as pool:
            sent = [
                pool.submit(self._send, _key(manifest, path), manifest.files[path], known.get(path), file)
                for path, file in places.items()
            ]
            failed = [future for future in wait(sent, return_when=FIRST_EXCEPTION).done if future.exception()]
            pool.shutdown(wait=True, cancel_futures=True)
            for future in failed:
                future.result()

    def conclude(self, manifest: Manifest) -> None:
        """The version's manifest, once the store shows every file and nobody else's manifest."""
        now = self._store.list(f"{manifest.name}/")
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
            self._store.write(_key(manifest, MANIFEST), Path(file.name), sha256_of(Path(file.name)))

    def _send(self, key: str, entry: Entry, known: Entry | None, source: Path) -> None:
        file = self.there.files.get(key)
        if file is None or file.size != entry.size or (known != entry and self._store.sha256(file) != entry.sha256):
            self._store.write(key, source, entry.sha256)
        with self._lock:
            self._bytes += entry.size
            self._files += 1
            if self._progress:
                self._progress(Progress(key, self._bytes, self._total_bytes, self._files, self._total_files))


def _own(folder: Path, model: str, version: int, config: Path | None) -> tuple[Mapping[str, Entry], dict[str, Path]]:
    """The model's own files that are published with this version: what they are, and where they lie."""
    beside = folder.absolute().parent
    if config is not None:
        if not config.is_file():
            raise UsageError(f"{config}: no such file")
        return {CONFIG: Entry(config.stat().st_size, sha256_of(config))}, {CONFIG: config}
    if folder.absolute().name != str(version) or not (beside / CONFIG).is_file():
        return {}, {}
    files = Manifest.of_folder(beside, model, None).files
    return files, {path: beside / path for path in files}


def _key(manifest: Manifest, path: str) -> str:
    return f"{manifest.name}/{path}"


def _check_name(model: str, version: int) -> None:
    try:
        if place_of(f"{model}/{version}/{MANIFEST}", "publish") == Place(model, version, MANIFEST):
            return
    except StoreError:
        pass
    raise UsageError(f"{model}/{version} is not the name of a model and a version from 1 on")


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from error


def _stamps(folder: Path) -> dict[str, tuple[int, int]]:
    found = {path: os.lstat(file) for path, file in walk(folder)} if folder.is_dir() else {}
    return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}
