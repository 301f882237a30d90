"""From a store into a model repository."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial as bound
from pathlib import Path

from harness.errors import UsageError
from harness.store.body import read_whole
from harness.store.fetch import Fetch, Progress
from harness.store.known import Known
from harness.store.place import CONFIG, Merge, check_merge, place_own, place_version, prepare, take_theirs
from harness.store.port import Store
from harness.store.staging import Staging
from harness.store.survey import Findings, Survey, Wish
from harness.store.together import alone


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What a sync did, or with `dry_run` would do. `bytes` of files came from the store in this run.

    `configs` are the keys of model files (config.pbtxt and its neighbours) that are others now; `skipped` has one
    line for each thing that the store has and that was not taken; `complete` is False where the store cut its
    listing short.
    """

    added: tuple[tuple[str, int], ...]
    configs: tuple[str, ...]
    unchanged: tuple[tuple[str, int], ...]
    skipped: tuple[str, ...]
    bytes: int
    took_s: float
    complete: bool = True

    @property
    def changed(self) -> tuple[str, ...]:
        """The models that have something to load."""
        return tuple(sorted({model for model, _ in self.added} | {key.partition("/")[0] for key in self.configs}))


def sync(
    store: Store,
    repository: Path,
    *,
    models: Sequence[str] | None = None,
    versions: Sequence[int] | None = None,
    staging: Path | None = None,
    workers: int = 4,
    without_manifest: bool = False,
    rehash: bool = False,
    dry_run: bool = False,
    wait_s: float = 0.0,
    merge_config: Merge = take_theirs,
    progress: Callable[[Progress], None] | None = None,
) -> SyncResult:
    """Bring what `store` has and `repository` lacks. Deletes nothing, overwrites no version.

    Nothing is fetched before every name, every manifest and every version that is there already was checked. The
    repository is not touched before every file was fetched and verified; a version appears by one rename. After the
    versions of a model come its own files, config.pbtxt last. What a run left that broke off is used by the next.

    UsageError for a wish that cannot be granted, StoreError where the store or the disk fails.
    """
    if workers < 1:
        raise UsageError(f"workers: {workers}, and at least 1 is needed")
    for model in models or ():
        if not model or "/" in model or model.startswith("."):
            raise UsageError(f"{model!r}: not the name of a model")
    place = Staging(repository, staging)
    wish = Wish(models, versions, without_manifest, rehash)
    if dry_run:
        return _dry_run(store, place, wish, workers, merge_config)
    place.make()
    with place.held(wait_s):
        return _sync(store, place, wish, workers, merge_config, progress)


def _dry_run(store: Store, place: Staging, wish: Wish, workers: int, merge: Merge) -> SyncResult:
    started = time.monotonic()
    try:
        found = Survey(store, place, wish, Known.read(place.known), workers).find()
        keys = []
        for job in found.own:
            for path, file in job.stored.items():
                local = place.repository / file.key
                if path == CONFIG and local.is_file():
                    theirs = alone(bound(read_whole, store, file))
                    here = local.read_bytes()
                    if merge(here, theirs) == here:
                        continue
                keys.append(file.key)
    except OSError as error:
        place.failed(error)
    return _result(found, keys, 0, started)


def _sync(
    store: Store,
    place: Staging,
    wish: Wish,
    workers: int,
    merge: Merge,
    progress: Callable[[Progress], None] | None,
) -> SyncResult:
    started = time.monotonic()
    known = Known.read(place.known)
    try:
        found = Survey(store, place, wish, known, workers).find()
        jobs = [*found.jobs, *found.own]
        place.tidy(jobs, found.seen, everything=found.complete and wish.everything)
        place.check_space(jobs)
        fetch = Fetch(store, place, progress)
        manifests = fetch.all(jobs, workers)
        for job, manifest in zip(found.jobs, manifests, strict=False):
            prepare(place, job, manifest)
        for job in found.own:
            check_merge(place, job, merge)
        for job, manifest in zip(found.jobs, manifests, strict=False):
            known.keep_verified(manifest, place_version(place, job))
        configs = [key for job in found.own for key in place_own(place, job, merge, known)]
        place.tidy((), found.seen, everything=False)
        return _result(found, configs, fetch.bytes, started)
    except OSError as error:
        place.failed(error)
    finally:
        known.save()


def _result(found: Findings, configs: Sequence[str], received: int, started: float) -> SyncResult:
    added = tuple((job.manifest.model, job.manifest.version) for job in found.jobs if job.manifest.version is not None)
    return SyncResult(
        added,
        tuple(sorted(configs)),
        tuple(found.unchanged),
        tuple(found.skipped),
        received,
        time.monotonic() - started,
        found.complete,
    )
