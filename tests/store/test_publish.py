"""publish: what CI does after the build. Against folders where that says it all; moto and SeaweedFS elsewhere."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import StoreError, UsageError
from harness.store import MANIFEST, FolderStore, Listing, Manifest, Progress, publish, sync
from harness.store.port import unwatched
from harness.store.s3 import S3Store
from tests.store import faults
from tests.store.faults import Proxy
from tests.store.folders import CONFIG, contents, noise, put


class Watched(FolderStore):
    """Remembers what is written; `before` is called ahead of each write."""

    def __init__(self, root: Path) -> None:
        root.mkdir(exist_ok=True)
        super().__init__(str(root))
        self.written: list[str] = []
        self.before: Callable[[str], None] = lambda key: None
        self.complete = True

    def list(self, prefix: str = "") -> Listing:
        return Listing(super().list(prefix).files, self.complete)

    def write(self, key: str, source: Path, sha256: str = "", sent: Callable[[int], None] = unwatched) -> None:
        self.before(key)
        super().write(key, source, sha256, sent)
        self.written.append(key)


@pytest.fixture
def store(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "store")


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """llm/2 of three files, with config.pbtxt and labels.txt beside it, and another version."""
    put(
        tmp_path / "build/llm",
        {"config.pbtxt": CONFIG, "labels.txt": b"a\n", "1/x": b"older", "1.retired": b"", "2/x": b"1"},
    )
    put(tmp_path / "build/llm/2", {"y": noise(1000), "sub/z": b"", "__pycache__/model.pyc": b"no"})
    return tmp_path / "build/llm/2"


def test_files_then_their_manifest_then_what_is_the_models_own(store: Watched, built: Path) -> None:
    seen: list[Progress] = []
    manifest = publish(store, built, "llm", 2, progress=seen.append)
    version, own = store.written[:4], store.written[4:]
    assert set(version[:3]) == {"llm/2/x", "llm/2/y", "llm/2/sub/z"}
    assert version[3] == f"llm/2/{MANIFEST}"
    assert set(own[:2]) == {"llm/config.pbtxt", "llm/labels.txt"}
    assert own[2:] == [f"llm/{MANIFEST}"], "and what was retired here says nothing about other repositories"
    assert manifest == Manifest.of_folder(built, "llm", 2)
    assert contents(store.root)["llm/2/y"] == noise(1000)
    assert list(dict.fromkeys(progress.files_done for progress in seen)) == [0, 1, 2, 3, 4, 5]
    assert [progress.done_bytes for progress in seen] == sorted(progress.done_bytes for progress in seen)
    assert seen[-1].done_bytes == seen[-1].total_bytes == 1001 + len(CONFIG) + 2


def test_the_same_again_changes_nothing(store: Watched, built: Path) -> None:
    manifest = publish(store, built, "llm", 2)
    before = contents(store.root)
    store.written.clear()
    assert publish(store, built, "llm", 2) == manifest
    assert store.written == []
    assert contents(store.root) == before


def test_another_content_is_refused(store: Watched, built: Path) -> None:
    publish(store, built, "llm", 2)
    before = contents(store.root)
    (built / "y").write_bytes(noise(1000, 7))
    with pytest.raises(StoreError, match="llm/2 is published with another y; versions are immutable"):
        publish(store, built, "llm", 2)
    (built / "y").unlink()
    with pytest.raises(StoreError, match="llm/2 is published with another y; versions are immutable"):
        publish(store, built, "llm", 2)
    assert contents(store.root) == before


def test_a_changed_configuration_follows(store: Watched, built: Path) -> None:
    publish(store, built, "llm", 2)
    store.written.clear()
    (built.parent / "config.pbtxt").write_bytes(CONFIG + b"max_batch_size: 8\n")
    publish(store, built, "llm", 2)
    assert store.written == ["llm/config.pbtxt", f"llm/{MANIFEST}"]


def test_config_by_name_keeps_its_neighbours(store: Watched, built: Path, tmp_path: Path) -> None:
    publish(store, built, "llm", 2)
    (tmp_path / "other.pbtxt").write_bytes(b'name: "llm"\n')
    put(tmp_path / "elsewhere", {"x": b"3"})
    publish(store, tmp_path / "elsewhere", "llm", 3, config=tmp_path / "other.pbtxt")
    own = Manifest.from_bytes((store.root / "llm" / MANIFEST).read_bytes(), "")
    assert set(own.files) == {"config.pbtxt", "labels.txt"}
    assert contents(store.root)["llm/config.pbtxt"] == b'name: "llm"\n'


def test_without_a_configuration_the_store_must_have_one(store: Watched, built: Path, tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", {"x": b"3"})
    with pytest.raises(UsageError, match=r"llm has no config.pbtxt: neither beside .* name one with --config"):
        publish(store, tmp_path / "elsewhere", "llm", 3)
    assert store.written == []
    publish(store, built, "llm", 2)
    store.written.clear()
    publish(store, tmp_path / "elsewhere", "llm", 3)
    assert store.written == ["llm/3/x", f"llm/3/{MANIFEST}"]


@pytest.mark.parametrize(
    ("model", "version"), [("..", 1), ("", 1), ("a/b", 1), ("a\nb", 1), (".hidden", 1), ("llm", 0), ("llm", -1)]
)
def test_a_name_that_is_none(store: Watched, built: Path, model: str, version: int) -> None:
    with pytest.raises(UsageError, match="is not the name of a model and a version"):
        publish(store, built, model, version)


def test_folders_that_are_not_published(store: Watched, built: Path, tmp_path: Path) -> None:
    (tmp_path / "empty/sub").mkdir(parents=True)
    with pytest.raises(
        UsageError, match=r"empty holds no file, which only an ensemble's version may, and config.pbtxt"
    ):
        publish(store, tmp_path / "empty", "llm", 2, config=built.parent / "config.pbtxt")
    with pytest.raises(UsageError, match="none: not a folder"):
        publish(store, tmp_path / "none", "llm", 2)
    with pytest.raises(UsageError, match="none: no such file"):
        publish(store, built, "llm", 2, config=tmp_path / "none")
    (built / "link").symlink_to("x")
    with pytest.raises(UsageError, match="a link is not followed"):
        publish(store, built, "llm", 2)
    (built / "link").unlink()
    os.mkfifo(built / "pipe")
    with pytest.raises(UsageError, match="not a regular file"):
        publish(store, built, "llm", 2)
    assert store.written == []


@pytest.mark.parametrize("neighbour", ["llm/0/x", "llm/03/x", "llm/7", "llm/a\nb"])
def test_what_no_sync_would_take_is_not_published(store: Watched, built: Path, neighbour: str) -> None:
    """One such key, and every sync from that store is refused, whatever model it is for."""
    put(built.parents[1], {neighbour: b"x"})
    with pytest.raises(UsageError, match=r"is refused: .* by a sync; move it away"):
        publish(store, built, "llm", 2)
    assert store.written == []


class TestEnsemble:
    """The version directory of an ensemble is empty, and in S3 no empty directory can be."""

    CONFIG = b'name: "all"\nplatform: "ensemble"\n'

    def test_its_manifest_makes_the_directory(self, moto_store: S3Store, tmp_path: Path) -> None:
        built, repository = tmp_path / "build/all", tmp_path / "models"
        put(built, {"config.pbtxt": self.CONFIG})
        (built / "1").mkdir()
        repository.mkdir()
        assert publish(moto_store, built / "1", "all", 1).files == {}
        assert "all/1/" + MANIFEST in moto_store.list().files
        publish(moto_store, built / "1", "all", 2, config=built / "config.pbtxt")
        (tmp_path / "empty").mkdir()
        publish(moto_store, tmp_path / "empty", "all", 3)  # the configuration is in the store
        assert sync(moto_store, repository).added == (("all", 1), ("all", 2), ("all", 3))
        assert set(contents(repository)) == {"all/config.pbtxt", *(f"all/{n}/{MANIFEST}" for n in (1, 2, 3))}
        assert sync(moto_store, repository).changed == ()

    @pytest.mark.parametrize(
        "config", [b'platform: "tensorrt_plan"', b'# platform: "ensemble"\nbackend: "x"', b'name: "ensemble"']
    )
    def test_what_is_none_may_not_be_empty(self, store: Watched, tmp_path: Path, config: bytes) -> None:
        put(tmp_path / "build/all", {"config.pbtxt": config})
        (tmp_path / "build/all/1").mkdir()
        with pytest.raises(UsageError, match="holds no file"):
            publish(store, tmp_path / "build/all/1", "all", 1)
        assert store.written == []


def test_a_configuration_that_changes_meanwhile_is_not_concluded(store: Watched, built: Path) -> None:
    def change(key: str) -> None:
        if key == "llm/labels.txt":
            (built.parent / "config.pbtxt").write_bytes(CONFIG + b"# more")

    store.before = change
    with pytest.raises(StoreError, match=r"config.pbtxt was changed while it was (published; llm's own files|written)"):
        publish(store, built, "llm", 2)
    assert f"llm/{MANIFEST}" not in store.written


def test_a_folder_that_changes_meanwhile_is_not_concluded(store: Watched, built: Path) -> None:
    once = threading.Lock()

    def change(key: str) -> None:
        if once.acquire(blocking=False):
            (built / "late").write_bytes(b"one more")

    store.before = change
    with pytest.raises(StoreError, match="was changed while it was published; llm/2 is not complete"):
        publish(store, built, "llm", 2)
    assert f"llm/2/{MANIFEST}" not in store.written


def test_somebody_else_who_publishes_meanwhile(store: Watched, built: Path) -> None:
    def theirs(key: str) -> None:
        if not key.endswith(MANIFEST):
            (store.root / "llm/2").mkdir(parents=True, exist_ok=True)
            (store.root / "llm/2" / MANIFEST).write_bytes(b"{}")

    store.before = theirs
    with pytest.raises(StoreError, match="somebody else has published llm/2 meanwhile"):
        publish(store, built, "llm", 2)
    assert (store.root / "llm/2" / MANIFEST).read_bytes() == b"{}"


def test_what_another_publish_left_is_replaced(store: Watched, built: Path) -> None:
    put(store.root / "llm/2", {"x": b"7", "y": noise(10)})
    publish(store, built, "llm", 2)
    manifest = Manifest.from_bytes((store.root / "llm/2" / MANIFEST).read_bytes(), "")
    assert manifest.differences(store.root / "llm/2") == []


def test_a_listing_that_was_cut_says_nothing_about_what_is_published(store: Watched, built: Path) -> None:
    store.complete = False
    with pytest.raises(StoreError, match=r"the listing of llm was cut: is llm/manifest\S+ there, or not\?"):
        publish(store, built, "llm", 2)
    assert store.written == []


def test_a_publish_that_broke_off_goes_on(moto_store: S3Store, proxy: Proxy, built: Path, tmp_path: Path) -> None:
    """The first is refused the second file; the second sends only what is missing."""
    refused = faults.error(403, "AccessDenied")
    proxy.fault = lambda asked, forward: (
        refused(asked, forward) if asked.method == "PUT" and "/y" in asked.path else forward()
    )
    with pytest.raises(StoreError, match=r"writing \S+/llm/2/y: access is denied"):
        publish(moto_store, built, "llm", 2, workers=1)
    proxy.fault = None
    repository = tmp_path / "models"
    repository.mkdir()
    assert sync(moto_store, repository, staging=tmp_path / "staging").changed == (), "what is half there is not taken"
    there = set(moto_store.list().files)
    assert there
    assert f"llm/2/{MANIFEST}" not in there
    proxy.requests.clear()
    publish(moto_store, built, "llm", 2)
    sent = [asked.path.partition("/pre/")[2].partition("?")[0] for asked in proxy.requests if asked.method == "PUT"]
    assert not there & set(sent)
    assert {"llm/2/y", f"llm/2/{MANIFEST}"} <= set(sent)
    assert sync(moto_store, repository, staging=tmp_path / "staging").added == (("llm", 2),)


def test_a_published_version_is_not_asked_about_file_by_file(moto_store: S3Store, proxy: Proxy, built: Path) -> None:
    publish(moto_store, built, "llm", 2)
    proxy.requests.clear()
    publish(moto_store, built, "llm", 2)
    assert {asked.method for asked in proxy.requests} == {"GET"}
    assert len(proxy.requests) == 3, "one listing, two manifests"
