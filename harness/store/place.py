"""From the staging folder into the repository."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from harness.errors import StoreError
from harness.store.durable import fsync_tree, make_folder, make_visible_folder, rename_new, replace, write_file
from harness.store.fetch import WHOLE
from harness.store.known import Known
from harness.store.manifest import MANIFEST, Manifest, sha256_of
from harness.store.plan import Job
from harness.store.retired import unmark_retired
from harness.store.staging import Staging

CONFIG = "config.pbtxt"

Merge = Callable[[bytes, bytes], bytes]
"""(the repository's config.pbtxt, the store's) to the one that the repository is to have."""


def take_theirs(_local: bytes, from_store: bytes) -> bytes:
    """The merge that has no regard for what the repository has."""
    return from_store


def prepare(staging: Staging, job: Job, manifest: Manifest) -> None:
    """Write all of a version that is still missing, so that nothing but a rename remains.

    StoreError where what is staged is more or less than the manifest's files: something else wrote there, or one name
    took another's place, as upper case takes that of lower case on some filesystems.
    """
    whole = staging.job(job) / WHOLE
    make_folder(whole)
    (whole / MANIFEST).unlink(missing_ok=True)  # so that nothing is written through a link
    write_file(whole / MANIFEST, manifest.to_bytes())
    if wrong := sorted(_leaves(whole) ^ {*manifest.files, MANIFEST}):
        raise StoreError(
            f"{whole}: {wrong[0]!a} is {'missing' if wrong[0] in manifest.files else 'none of its files'} in what is "
            f"staged of {manifest.name}, which is not taken: remove {staging.job(job)}, and sync once more"
        )
    fsync_tree(whole)


def place_version(staging: Staging, job: Job) -> Path:
    """The version's folder in the repository. StoreError if somebody made one meanwhile."""
    target = staging.repository / job.manifest.name
    make_visible_folder(target.parent, staging.spare)
    try:
        rename_new(staging.job(job) / WHOLE, target)
    except FileExistsError:
        raise StoreError(f"{target} was made by somebody else meanwhile; it is not overwritten") from None
    unmark_retired(target)
    return target


def check_merge(staging: Staging, job: Job, merge: Merge) -> None:
    """Whatever a merge has to complain about, it says here, before the repository is touched."""
    if CONFIG in job.stored:
        _config(staging, job, merge)


def place_own(staging: Staging, job: Job, merge: Merge, known: Known) -> list[str]:
    """Put a model's own files in place, config.pbtxt last; the keys of those that are others now."""
    changed = []
    for path in sorted(job.stored, key=lambda path: (path == CONFIG, path)):
        local, staged = _local(staging, job, path), _staged(staging, job, path)
        content = _config(staging, job, merge) if path == CONFIG else None  # what the operator set meanwhile is theirs
        if content is None or not local.is_file() or local.read_bytes() != content:
            if content is not None:
                staged = staging.job(job) / "merged"
                write_file(staged, content)
            make_visible_folder(local.parent, staging.spare)
            replace(staged, local)
            changed.append(job.stored[path].key)
        known.keep_merged(job.stored[path].key, job.source(path), sha256_of(local))
    return changed


def _leaves(folder: Path) -> set[str]:
    """Everything below that is no folder; a link to a folder is none."""
    return {
        place.relative_to(folder).as_posix()
        for base, folders, files in os.walk(folder)
        for place in (Path(base, name) for name in [*folders, *files])
        if place.is_symlink() or not place.is_dir()
    }


def _config(staging: Staging, job: Job, merge: Merge) -> bytes:
    local, from_store = _local(staging, job, CONFIG), _staged(staging, job, CONFIG).read_bytes()
    return merge(local.read_bytes(), from_store) if local.is_file() else from_store


def _local(staging: Staging, job: Job, path: str) -> Path:
    return staging.repository / job.manifest.model / path


def _staged(staging: Staging, job: Job, path: str) -> Path:
    return staging.job(job) / WHOLE / path
