"""What a sync brings, what it leaves alone, and what it costs when there is nothing to do."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.store import MANIFEST, Entry, FolderStore, Listing, Manifest, Progress, sync
from harness.store.known import Known
from harness.store.retired import is_retired, mark_retired
from tests.store.folders import CONFIG, Odd, contents, noise, partial_versions, put, put_version, wait_for_later_stamp


def staging(repository: Path) -> Path:
    return repository.parent / ".triton-canary-staging" / repository.name


def test_all_of_it(root: Path, repository: Path) -> None:
    seen: list[Progress] = []
    result = sync(FolderStore(str(root)), repository, progress=seen.append)
    assert result.added == (("ensemble", 1), ("llm", 1), ("llm", 2))
    assert result.configs == ("llm/config.pbtxt", "llm/tokenizer/merges.txt")
    assert result.changed == ("ensemble", "llm")
    assert (result.unchanged, result.skipped, result.complete) == ((), (), True)
    assert result.bytes == 6_000_000 + 4 + len(CONFIG) + 3
    expected = contents(root)
    del expected[f"llm/{MANIFEST}"]
    assert contents(repository) == expected
    assert (repository / "ensemble/1").is_dir()
    assert partial_versions(repository) == []
    last = seen[-1]
    assert (last.done_bytes, last.files_done) == (last.total_bytes, last.files_total) == (result.bytes, 7)
    assert [p.done_bytes for p in seen] == sorted(p.done_bytes for p in seen)
    assert list((staging(repository) / "incoming").iterdir()) == []


def test_nothing_to_do_costs_one_listing(root: Path, repository: Path) -> None:
    sync(FolderStore(str(root)), repository)
    before = {path: path.stat().st_mtime_ns for path in [repository, *repository.rglob("*")]}
    store = Odd(root)
    result = sync(store, repository)
    assert result.unchanged == (("ensemble", 1), ("llm", 1), ("llm", 2))
    assert (result.added, result.configs, result.changed, result.bytes) == ((), (), (), 0)
    assert (store.listings, store.reads) == ([""], [])
    assert {path: path.stat().st_mtime_ns for path in [repository, *repository.rglob("*")]} == before


def test_only_what_is_new_is_fetched(root: Path, repository: Path) -> None:
    sync(FolderStore(str(root)), repository)
    put_version(root, "llm", 3, {"model.plan": noise(10, 3)})
    store = Odd(root)
    result = sync(store, repository)
    assert result.added == (("llm", 3),)
    assert result.bytes == 10
    assert store.reads == [(f"llm/3/{MANIFEST}", 0), ("llm/3/model.plan", 0)]


def test_a_lost_staging_folder_costs_reading_and_hashing_only(root: Path, repository: Path) -> None:
    sync(FolderStore(str(root)), repository)
    (staging(repository) / "known.json").write_text("[]")
    store = Odd(root)
    assert sync(store, repository).changed == ()
    assert {Path(key).name for key, _ in store.reads} == {MANIFEST}


def test_models_and_versions_can_be_chosen(root: Path, repository: Path) -> None:
    store = Odd(root)
    assert sync(store, repository, models=["llm"], versions=[2]).added == (("llm", 2),)
    assert store.listings == ["llm/"]
    assert not (repository / "llm/1").exists()
    assert sync(store, repository, models=["llm", "ensemble"]).added == (("llm", 1), ("ensemble", 1))


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"models": ["other"]}, "no model other there"),
        ({"versions": [7]}, "no version 7 there"),
        ({"models": ["ensemble"], "versions": [2]}, "no version 2 there"),
    ],
)
def test_what_the_store_does_not_have(root: Path, repository: Path, asked: dict[str, list[str]], says: str) -> None:
    with pytest.raises(StoreError, match=says):
        sync(FolderStore(str(root)), repository, **asked)  # type: ignore[arg-type]
    assert contents(repository) == {}


def test_a_dry_run_says_the_same_and_does_nothing(root: Path, repository: Path) -> None:
    would = sync(FolderStore(str(root)), repository, dry_run=True)
    assert contents(repository) == {}
    assert not staging(repository).parent.exists()
    done = sync(FolderStore(str(root)), repository)
    assert (would.added, would.configs, would.bytes) == (done.added, done.configs, 0)
    assert sync(FolderStore(str(root)), repository, dry_run=True).changed == ()


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_modes_do_not_depend_on_the_umask(root: Path, repository: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        sync(FolderStore(str(root)), repository)
    finally:
        os.umask(before)
    for path in repository.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


def test_without_manifest_is_skipped_with_the_reason(root: Path, repository: Path) -> None:
    (root / f"llm/2/{MANIFEST}").unlink()
    result = sync(FolderStore(str(root)), repository)
    assert result.skipped == ("llm/2: no manifest: not published completely, or not by triton-canary publish",)
    assert not (repository / "llm/2").exists()
    with pytest.raises(StoreError, match="llm/2: no manifest: not published completely"):
        sync(FolderStore(str(root)), repository, models=["llm"], versions=[2])


def test_without_manifest_on_demand(root: Path, repository: Path) -> None:
    """The manifest that is written says that nobody but the arrival answers for it."""
    (root / f"llm/2/{MANIFEST}").unlink()
    assert ("llm", 2) in sync(FolderStore(str(root)), repository, without_manifest=True).added
    written = Manifest.from_bytes((repository / f"llm/2/{MANIFEST}").read_bytes(), "")
    assert written.origin == "received"
    assert written == Manifest.of_folder(root / "llm/2", "llm", 2)
    assert sync(FolderStore(str(root)), repository, without_manifest=True).changed == ()
    (root / "llm/2/model.plan").write_bytes(b"shorter")
    with pytest.raises(StoreError, match=r"models/llm/2 is not the llm/2 of file://.*model\.plan differs"):
        sync(FolderStore(str(root)), repository, without_manifest=True)


def test_hashes_of_the_store_do_not_prove_that_a_version_is_complete(root: Path, repository: Path) -> None:
    (root / f"llm/2/{MANIFEST}").unlink()
    hashes = Manifest.of_folder(root / "llm/2", "llm", 2).files

    def vouching(listing: Listing) -> Listing:
        vouched = {f"llm/2/{path}": entry.sha256 for path, entry in hashes.items()}
        return Listing({key: replace(file, sha256=vouched.get(key, "")) for key, file in listing.files.items()})

    half_way = sync(Odd(root, listed=vouching), repository)
    assert ("llm", 2) not in half_way.added
    assert [line for line in half_way.skipped if line.startswith("llm/2: no manifest")]
    result = sync(Odd(root, listed=vouching), repository, without_manifest=True)
    assert result.added == (("llm", 2),)
    assert Manifest.from_bytes((repository / f"llm/2/{MANIFEST}").read_bytes(), "").origin == "store"
    assert partial_versions(repository) == []


def test_what_belongs_to_no_model_is_named(root: Path, repository: Path) -> None:
    put(root, {"README.md": b"", ".git/HEAD": b"", "llm/1/notes.txt": b"x", "llm/1/__pycache__/x.pyc": b""})
    skipped = (".git: belongs to no model", "README.md: belongs to no model", "llm/1/notes.txt: not in the manifest")
    assert sync(FolderStore(str(root)), repository).skipped == skipped
    assert not (repository / "llm/1/notes.txt").exists()


class TestVersionsAreImmutable:
    @pytest.fixture(autouse=True)
    def synced(self, root: Path, repository: Path) -> None:
        sync(FolderStore(str(root)), repository)

    def test_another_one_in_the_store(self, root: Path, repository: Path) -> None:
        before = contents(repository)
        put_version(root, "llm", 1, {"model.plan": b"another"})
        put_version(root, "llm", 3, {"model.plan": b"new"})
        with pytest.raises(StoreError, match=r"models/llm/1 is not the llm/1 of file://\S+: model\.plan differs"):
            sync(FolderStore(str(root)), repository)
        assert contents(repository) == before

    def test_a_changed_file_in_the_repository(self, root: Path, repository: Path) -> None:
        file = repository / "llm/2/model.plan"
        wait_for_later_stamp(file, repository.parent)
        file.write_bytes(noise(3_000_000, 9))
        with pytest.raises(StoreError, match=r"llm/2 is not .* model\.plan has the SHA-256"):
            sync(FolderStore(str(root)), repository)
        assert file.read_bytes() == noise(3_000_000, 9)

    def test_times_put_back_do_not_hide_it(self, root: Path, repository: Path) -> None:
        file = repository / "llm/2/model.plan"
        times = file.stat()
        wait_for_later_stamp(file, repository.parent)
        file.write_bytes(noise(3_000_000, 9))
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        with pytest.raises(StoreError, match="has the SHA-256"):
            sync(FolderStore(str(root)), repository)

    def test_a_file_too_many_and_one_missing(self, root: Path, repository: Path) -> None:
        (repository / "llm/2/more").write_bytes(b"")
        (repository / "llm/2/empty").unlink()
        with pytest.raises(StoreError, match=r"more is not in the manifest \(and 1 more\)"):
            sync(FolderStore(str(root)), repository)

    def test_an_empty_folder_in_its_place(self, root: Path, repository: Path) -> None:
        put_version(root, "llm", 3, {"model.plan": b"new"})
        (repository / "llm/3").mkdir()
        with pytest.raises(StoreError, match=r"llm/3 is not .* model\.plan is missing"):
            sync(FolderStore(str(root)), repository)
        assert list((repository / "llm/3").iterdir()) == []

    def test_bytecode_beside_a_python_model_is_no_difference(self, root: Path, repository: Path) -> None:
        put(repository, {"llm/2/__pycache__/model.cpython-311.pyc": b"x"})
        assert sync(FolderStore(str(root)), repository, rehash=True).changed == ()

    def test_rehash_finds_what_times_do_not_show(self, root: Path, repository: Path) -> None:
        """A disk that forgets bits changes no time."""
        (repository / "llm/2/model.plan").write_bytes(noise(3_000_000, 9))
        known = Known.read(staging(repository) / "known.json")
        known.keep_verified(Manifest.of_folder(root / "llm/2", "llm", 2), repository / "llm/2")
        known.save()
        assert sync(FolderStore(str(root)), repository).changed == ()
        with pytest.raises(StoreError, match="has the SHA-256"):
            sync(FolderStore(str(root)), repository, rehash=True)


def test_a_version_that_was_placed_by_hand_is_verified_and_left_alone(root: Path, repository: Path) -> None:
    put(repository, {"llm/1/model.plan": noise(3_000_000, 1), "llm/1/sub/vocab.json": b"{}"})
    result = sync(FolderStore(str(root)), repository)
    assert result.unchanged == (("llm", 1),)
    assert not (repository / f"llm/1/{MANIFEST}").exists()


def test_nothing_is_ever_deleted(root: Path, repository: Path) -> None:
    put(repository, {"llm/9/model.plan": b"by hand", "other/1/model.plan": b"x", "llm/notes": b"x"})
    sync(FolderStore(str(root)), repository)
    (root / "ensemble/1" / MANIFEST).unlink()
    for path in sorted((root / "llm/1").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    before = contents(repository)
    sync(FolderStore(str(root)), repository)
    assert contents(repository) == before


def test_a_manifest_that_contradicts_the_store(root: Path, repository: Path) -> None:
    manifest = Manifest.of_folder(root / "llm/2", "llm", 2)
    put(root, {f"llm/2/{MANIFEST}": Manifest("other", 2, manifest.files).to_bytes()})
    with pytest.raises(StoreError, match="the manifest of llm/2 is one of 'other/2'"):
        sync(FolderStore(str(root)), repository)
    wrong = {**manifest.files, "model.plan": Entry(5, "0" * 64)}
    put(root, {f"llm/2/{MANIFEST}": Manifest("llm", 2, wrong).to_bytes()})
    with pytest.raises(StoreError, match=r"llm/2/model\.plan has 3000000 bytes, and 5 by its manifest"):
        sync(FolderStore(str(root)), repository)
    put(root, {f"llm/2/{MANIFEST}": b"{"})
    with pytest.raises(StoreError, match="not a manifest of triton-canary"):
        sync(FolderStore(str(root)), repository)
    assert contents(repository) == {}


def test_a_file_that_is_gone_from_the_store_leaves_its_version_out(root: Path, repository: Path) -> None:
    (root / "llm/2/model.plan").unlink()
    result = sync(FolderStore(str(root)), repository)
    assert result.skipped == ("llm/2: model.plan is in its manifest but not in the store",)
    assert ("llm", 1) in result.added


def test_a_retired_version_stays_out_until_it_is_asked_for(root: Path, repository: Path) -> None:
    (repository / "llm").mkdir()
    mark_retired(repository / "llm" / "1")
    result = sync(FolderStore(str(root)), repository)
    assert result.added == (("ensemble", 1), ("llm", 2))
    assert [line for line in result.skipped if line.startswith("llm/1: was retired here")]
    assert sync(FolderStore(str(root)), repository, models=["llm"], versions=[1]).added == (("llm", 1),)
    assert not is_retired(repository / "llm" / "1")
    assert partial_versions(repository) == []
