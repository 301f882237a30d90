"""Whatever a store or a disk does wrong: one clear line, and the repository is as it was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import CanaryError, StoreError, UsageError
from harness.store import MANIFEST, Entry, FolderStore, Listing, Manifest, StoredFile, sync
from tests.store.folders import CONFIG, Odd, contents, noise, partial_versions, put, put_own, put_version

SIZE = 5_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "store"
    put_version(root, "llm", 1, {"a.plan": noise(SIZE, 1), "b.plan": noise(SIZE, 2)})
    put_version(root, "llm", 2, {"a.plan": noise(SIZE, 3)})
    put_own(root, "llm", {"config.pbtxt": CONFIG})
    return root


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    put(tmp_path / "models", {"other/1/model.plan": b"x"})
    return tmp_path / "models"


def refused(store: FolderStore, repository: Path, says: str, kind: type[CanaryError] = StoreError) -> None:
    before = contents(repository)
    with pytest.raises(kind, match=says) as raised:
        sync(store, repository)
    assert "\n" not in str(raised.value)
    assert contents(repository) == before


def truncated(file: StoredFile, offset: int, body: Iterator[bytes]) -> Iterator[bytes]:
    first = next(body)
    yield first[: len(first) // 2] if file.key == "llm/1/b.plan" else first
    if file.key != "llm/1/b.plan":
        yield from body


def damaged(file: StoredFile, offset: int, body: Iterator[bytes]) -> Iterator[bytes]:
    for block in body:
        yield bytes([block[0] ^ 1]) + block[1:] if file.key == "llm/1/b.plan" else block


def longer(file: StoredFile, offset: int, body: Iterator[bytes]) -> Iterator[bytes]:
    yield from body
    if file.key == "llm/1/b.plan":
        yield b"more"


def breaks(file: StoredFile, offset: int, body: Iterator[bytes]) -> Iterator[bytes]:
    yield next(body)
    if file.key == "llm/1/b.plan":
        raise StoreError("the store: llm/1/b.plan: 500 Internal Server Error")
    yield from body


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (truncated, r"llm/1/b\.plan broke off after \d+ of 5000000 bytes"),
        (damaged, r"llm/1/b\.plan arrived with the SHA-256 [0-9a-f]{64}, not [0-9a-f]{64} as its manifest says"),
        (longer, r"llm/1/b\.plan sends more than its 5000000 bytes"),
        (breaks, "the store: llm/1/b.plan: 500 Internal Server Error"),
    ],
)
@pytest.mark.parametrize("workers", [1, 4])
def test_a_body_that_is_not_what_it_should_be(root, repository, sent, says, workers) -> None:  # type: ignore[no-untyped-def]
    before = contents(repository)
    with pytest.raises(StoreError, match=says) as raised:
        sync(Odd(root, sent=sent), repository, workers=workers)
    assert "\n" not in str(raised.value)
    assert contents(repository) == before
    again = Odd(root)
    assert sync(again, repository).changed == ("llm",)
    assert partial_versions(repository / "llm") == []
    whole = dict(again.reads)
    assert sent is damaged or workers > 1 or "llm/1/a.plan" not in whole  # what was whole is not fetched again


def test_an_empty_listing(root: Path, repository: Path) -> None:
    sync(FolderStore(str(root)), repository)
    refused(Odd(root, listed=lambda listing: Listing({})), repository, "no model there; nothing is changed")


def test_a_listing_that_was_cut_short(root: Path, repository: Path) -> None:
    """Only what a manifest shows to be whole is taken, and the configuration waits."""

    def cut(listing: Listing) -> Listing:
        files = {key: file for key, file in listing.files.items() if key != "llm/1/b.plan"}
        return Listing(files, complete=False)

    result = sync(Odd(root, listed=cut), repository)
    assert not result.complete
    assert result.added == (("llm", 2),)
    assert result.configs == ()
    first, *others = result.skipped
    assert "the listing was cut short" in first
    assert others == [
        "llm/1: b.plan is in its manifest but not in the listing",
        "llm: its own files wait until all of its versions are listed",
    ]
    assert sync(FolderStore(str(root)), repository).added == (("llm", 1),)


def test_a_listing_that_was_cut_short_proves_nothing_without_a_manifest(root: Path, repository: Path) -> None:
    """Neither the wish to do without manifests nor the store's own hashes make up for what was not listed."""
    (root / f"llm/1/{MANIFEST}").unlink()

    def cut(listing: Listing) -> Listing:
        files = {key: replace(file, sha256="0" * 64) for key, file in listing.files.items() if "llm/1/" in key}
        return Listing({**listing.files, **files}, complete=False)

    result = sync(Odd(root, listed=cut), repository, without_manifest=True)
    assert result.added == (("llm", 2),)
    assert "llm/1: no manifest in a listing that was cut short" in result.skipped


def test_a_listing_cut_so_short_that_nothing_is_certain(root: Path, repository: Path) -> None:
    def cut(listing: Listing) -> Listing:
        return Listing({k: f for k, f in listing.files.items() if not k.endswith(MANIFEST)}, complete=False)

    refused(Odd(root, listed=cut), repository, "the listing was cut short.* proves nothing; nothing is changed")


@pytest.mark.parametrize(
    "key",
    [
        "../x",
        "llm/../../x",
        "llm/3/../x",
        "/etc/x",
        "llm//x",
        "llm/3/a\\b",
        "llm/3/a\nb",
        "llm/3/\x7f",
        "llm/3/\u202eabc",
        "llm/3/./x",
        "llm/01/model.plan",
        "llm/0/model.plan",
        "llm/²/model.plan",
        "llm/3",
        "llm/3/" + "x" * 256,
        "llm/1/a.plan/x",
        "llm/extra/x",
        "llm/v3/model.plan",
        "",
    ],
)
def test_a_name_that_may_not_be(root: Path, repository: Path, key: str) -> None:
    def with_key(listing: Listing) -> Listing:
        return Listing({**listing.files, key: StoredFile(key, 1)})

    store = Odd(root, listed=with_key)
    refused(store, repository, "is refused|is a file, and a folder")
    assert [name for name, _ in store.reads if not name.endswith(MANIFEST)] == []


def test_a_link_in_the_store(root: Path, repository: Path) -> None:
    (root / "llm/2/link").symlink_to("/etc/hostname")
    refused(FolderStore(str(root)), repository, "link' is refused: a link")


class TestResume:
    def broken(self, root: Path, repository: Path) -> None:
        with pytest.raises(StoreError, match="broke off"):
            sync(Odd(root, sent=truncated), repository, workers=1)

    def test_goes_on_from_the_offset(self, root: Path, repository: Path) -> None:
        self.broken(root, repository)
        store = Odd(root)
        result = sync(store, repository)
        (offset,) = [offset for key, offset in store.reads if key == "llm/1/b.plan"]
        assert 0 < offset < SIZE
        assert "llm/1/a.plan" not in dict(store.reads)
        assert result.bytes == (SIZE - offset) + SIZE + len(CONFIG)
        assert partial_versions(repository / "llm") == []

    def test_a_staged_file_that_rotted_is_fetched_again(self, root: Path, repository: Path) -> None:
        self.broken(root, repository)
        incoming = repository.parent / ".triton-canary-staging/models/incoming"
        (whole,) = incoming.rglob("a.plan")
        whole.write_bytes(noise(SIZE, 9))
        (partial,) = (path for path in incoming.rglob("partial/*") if path.stat().st_size)
        partial.write_bytes(b"torn" * 1000)
        store = Odd(root)
        sync(store, repository)
        assert ("llm/1/a.plan", 0) in store.reads
        assert [offset for key, offset in store.reads if key == "llm/1/b.plan"] == [4000, 0]
        assert partial_versions(repository / "llm") == []

    def test_what_nothing_identifies_is_fetched_from_the_start(self, root: Path, repository: Path) -> None:
        """No manifest and no etag: what is staged may be of another content."""
        (root / f"llm/1/{MANIFEST}").unlink()

        def without_etags(listing: Listing) -> Listing:
            return Listing({key: replace(file, etag="") for key, file in listing.files.items()})

        with pytest.raises(StoreError, match="broke off"):
            sync(Odd(root, listed=without_etags, sent=truncated), repository, workers=1, without_manifest=True)
        put(root, {"llm/1/a.plan": noise(SIZE, 8), "llm/1/b.plan": noise(SIZE, 9)})
        sync(Odd(root, listed=without_etags), repository, without_manifest=True)
        assert (repository / "llm/1/a.plan").read_bytes() == noise(SIZE, 8)
        assert (repository / "llm/1/b.plan").read_bytes() == noise(SIZE, 9)

    def test_what_is_staged_of_another_manifest_is_thrown_away(self, root: Path, repository: Path) -> None:
        self.broken(root, repository)
        put_version(root, "llm", 1, {"a.plan": noise(SIZE, 1), "b.plan": noise(SIZE, 7)})
        store = Odd(root)
        sync(store, repository)
        assert {("llm/1/a.plan", 0), ("llm/1/b.plan", 0)} <= set(store.reads)
        assert (repository / "llm/1/b.plan").read_bytes() == noise(SIZE, 7)
        assert list((repository.parent / ".triton-canary-staging/models/incoming").iterdir()) == []


class TestPlace:
    def test_no_repository(self, root: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no such folder"):
            sync(FolderStore(str(root)), tmp_path / "missing")

    def test_staging_inside_the_repository(self, root: Path, repository: Path) -> None:
        with pytest.raises(UsageError, match="inside the repository, where Triton would list it as a model"):
            sync(FolderStore(str(root)), repository, staging=repository / ".staging")
        assert not (repository / ".staging").exists()

    def test_staging_elsewhere(self, root: Path, repository: Path, tmp_path: Path) -> None:
        sync(FolderStore(str(root)), repository, staging=tmp_path / "elsewhere/staging")
        assert (tmp_path / "elsewhere/staging/known.json").is_file()
        assert not (tmp_path / ".triton-canary-staging").exists()

    def test_staging_on_another_filesystem(self, root: Path, repository: Path) -> None:
        shm = Path("/dev/shm")
        if not shm.is_dir() or shm.stat().st_dev == repository.stat().st_dev:
            pytest.skip("no second filesystem: /dev/shm is none")
        with pytest.raises(UsageError, match="not on the filesystem of"):
            sync(FolderStore(str(root)), repository, staging=shm / "triton-canary-test-staging")
        assert not (shm / "triton-canary-test-staging").exists()

    def test_a_model_that_is_a_file(self, root: Path, repository: Path) -> None:
        put(repository, {"llm": b""})
        refused(FolderStore(str(root)), repository, "models/llm: not a folder, so no model", UsageError)

    def test_a_version_that_is_made_meanwhile(self, root: Path, repository: Path) -> None:
        """Even an empty folder, which a plain rename would replace."""

        def meanwhile(file: StoredFile, offset: int, body: Iterator[bytes]) -> Iterator[bytes]:
            if file.key == "llm/1/a.plan":
                (repository / "llm/1").mkdir(parents=True, exist_ok=True)
            yield from body

        with pytest.raises(StoreError, match="llm/1 was made by somebody else meanwhile; it is not overwritten"):
            sync(Odd(root, sent=meanwhile), repository)
        assert list((repository / "llm/1").iterdir()) == []
        assert not (repository / "llm/config.pbtxt").exists()

    def test_wrong_names_and_numbers(self, root: Path, repository: Path) -> None:
        for wrong in ("", "..", "a/b", ".git"):
            with pytest.raises(UsageError, match="not the name of a model"):
                sync(FolderStore(str(root)), repository, models=[wrong])
        with pytest.raises(UsageError, match="workers: 0"):
            sync(FolderStore(str(root)), repository, workers=0)


def test_a_disk_without_room_is_said_before_anything_is_fetched(root: Path, repository: Path) -> None:
    huge = {"huge": Entry(1 << 60, "0" * 64)}
    put(root, {f"llm/3/{MANIFEST}": Manifest("llm", 3, huge).to_bytes()})

    def with_huge(listing: Listing) -> Listing:
        return Listing({**listing.files, "llm/3/huge": StoredFile("llm/3/huge", 1 << 60)})

    store = Odd(root, listed=with_huge)
    refused(store, repository, r"1,152,921,\d{3},\d{3},\d{3},\d{3} bytes are still to be fetched and [\d,]+ are free")
    assert all(key.endswith(MANIFEST) for key, _ in store.reads)
