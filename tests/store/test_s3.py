"""S3Store against a real S3 server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.store import sync
from harness.store.manifest import sha256_of
from harness.store.publish import publish
from harness.store.s3 import S3Store
from tests.store.folders import CONFIG, contents, noise, partial_versions, put


def test_what_is_written_is_listed_and_read(seaweed_store: S3Store, tmp_path: Path) -> None:
    source = tmp_path / "file"
    for key, data in {"llm/2/a b+ü.bin": b"abc", "llm/20/x": b"", "llm/config.pbtxt": b"name"}.items():
        source.write_bytes(data)
        seaweed_store.write(key, source)
    everything = seaweed_store.list()
    assert everything.complete
    assert {key: file.size for key, file in everything.files.items()} == {
        "llm/2/a b+ü.bin": 3,
        "llm/20/x": 0,
        "llm/config.pbtxt": 4,
    }
    assert set(seaweed_store.list("llm/2/").files) == {"llm/2/a b+ü.bin"}
    assert seaweed_store.list("none/").files == {}
    for file in everything.files.values():
        assert len(b"".join(seaweed_store.read(file))) == file.size
    assert b"".join(seaweed_store.read(everything.files["llm/2/a b+ü.bin"], 1)) == b"bc"
    assert b"".join(seaweed_store.read(everything.files["llm/2/a b+ü.bin"], 3)) == b""


def test_a_listing_goes_over_all_pages(seaweed_store: S3Store, tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(b"1")
    keys = [f"llm/1/part-{number:04}" for number in range(1050)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: seaweed_store.write(key, source), keys))
    listing = seaweed_store.list("llm/1/")
    assert listing.complete
    assert sorted(listing.files) == keys


def test_a_large_file_goes_in_parts_and_comes_back_from_anywhere(seaweed_store: S3Store, tmp_path: Path) -> None:
    source = tmp_path / "model.plan"
    data = noise(20 << 20)
    source.write_bytes(data)
    sent: list[int] = []
    seaweed_store.write("llm/1/model.plan", source, sha256_of(source), sent.append)
    assert sum(sent) == len(data)
    file = seaweed_store.list().files["llm/1/model.plan"]
    assert file.etag.endswith("-4"), "in four parts"
    assert seaweed_store.sha256(file) == sha256_of(source)
    offsets = (0, 1, 5 << 20, (20 << 20) - 1)
    with ThreadPoolExecutor(4) as pool:
        bodies = list(pool.map(lambda offset: b"".join(seaweed_store.read(file, offset)), offsets))
    assert [body == data[offset:] for offset, body in zip(offsets, bodies, strict=True)] == [True] * 4


def test_an_object_that_changed_is_not_mixed_with_the_old_one(seaweed_store: S3Store, tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(b"old, and long")
    seaweed_store.write("llm/1/x", source)
    file = seaweed_store.list().files["llm/1/x"]
    source.write_bytes(b"new, and long")
    seaweed_store.write("llm/1/x", source, "ab" * 32)
    for offset in (0, 5):
        with pytest.raises(StoreError, match=r"reading s3://models/\S+/llm/1/x: it changed in the store since"):
            list(seaweed_store.read(file, offset))
    assert seaweed_store.sha256(file) == "", "the hash of another content is not this one's"


def test_published_then_synced(seaweed_store: S3Store, tmp_path: Path) -> None:
    built = tmp_path / "build" / "llm"
    put(built, {"config.pbtxt": CONFIG, "labels.txt": b"a\nb\n"})
    put(built / "1", {"model.plan": noise(6 << 20), "deep/er/weights.bin": noise(1000, 1)})
    put(built / "2", {"model.plan": noise(7 << 20, 2)})
    for version in (1, 2):
        publish(seaweed_store, built / str(version), "llm", version)
    repository = tmp_path / "models"
    repository.mkdir()
    result = sync(seaweed_store, repository, staging=tmp_path / "staging")
    assert set(result.added) == {("llm", 1), ("llm", 2)}
    assert not partial_versions(repository)
    arrived = {path: data for path, data in contents(repository).items() if "manifest" not in path}
    assert arrived == {f"llm/{path}": data for path, data in contents(built).items()}
    assert not sync(seaweed_store, repository, staging=tmp_path / "staging").changed
