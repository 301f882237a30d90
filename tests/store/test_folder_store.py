"""A folder as a store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.errors import StoreError, UsageError
from harness.store import FolderStore, StoredFile
from tests.store.folders import put


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path / "root", {"llm/1/model.plan": b"0123456789", "llm/config.pbtxt": b"", "llm2/1/x": b"x"})
    return tmp_path / "root"


def test_lists_by_prefix(root: Path) -> None:
    store = FolderStore(root.as_uri())
    assert set(store.list().files) == {"llm/1/model.plan", "llm/config.pbtxt", "llm2/1/x"}
    assert set(store.list("llm/").files) == {"llm/1/model.plan", "llm/config.pbtxt"}
    assert set(store.list("llm").files) == set(store.list().files)
    assert set(store.list("llm/1/mod").files) == {"llm/1/model.plan"}
    assert store.list("other/").files == {}
    assert store.list("llm/config.pbtxt/").files == {}
    assert store.list().files["llm/1/model.plan"].size == 10
    assert store.list().complete


def test_reads_from_an_offset(root: Path) -> None:
    store = FolderStore(str(root))
    file = store.list().files["llm/1/model.plan"]
    assert b"".join(store.read(file)) == b"0123456789"
    assert b"".join(store.read(file, 7)) == b"789"
    assert b"".join(store.read(file, 10)) == b""


def test_another_content_is_noticed(root: Path) -> None:
    store = FolderStore(str(root))
    file = store.list().files["llm/1/model.plan"]
    (root / file.key).write_bytes(b"9876543210")
    os.utime(root / file.key, ns=(1, 1))
    assert store.list().files[file.key].etag != file.etag
    with pytest.raises(StoreError, match="was changed since it was listed"):
        list(store.read(file))
    (root / file.key).unlink()
    with pytest.raises(StoreError, match=r"llm/1/model.plan: No such file"):
        list(store.read(file))


def test_what_changes_while_it_is_read_is_noticed(root: Path) -> None:
    """Halves of two contents make none; without a manifest nothing else would tell."""
    put(root, {"llm/1/large": bytes(3 << 20)})
    os.utime(root / "llm/1/large", ns=(1, 1))  # what is written next may get the same time: the kernel stamps by ticks
    store = FolderStore(str(root))
    body = store.read(store.list().files["llm/1/large"])
    next(body)
    (root / "llm/1/large").write_bytes(b"1" * (3 << 20))
    with pytest.raises(StoreError, match="llm/1/large was changed while it was read"):
        list(body)


def test_writes_whole_or_not_at_all(root: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"new")
    store = FolderStore(str(root))
    store.write("llm/2/sub/model.plan", source)
    assert (root / "llm/2/sub/model.plan").read_bytes() == b"new"
    assert (root / "llm/2/sub/model.plan").stat().st_mode & 0o777 == 0o644
    with pytest.raises(StoreError, match="cannot be written"):
        store.write("llm/3/model.plan", tmp_path / "missing")
    assert set(store.list("llm/").files) == {"llm/1/model.plan", "llm/2/sub/model.plan", "llm/config.pbtxt"}
    with pytest.raises(StoreError, match=r"'\.\./x' is refused"):
        store.write("../x", source)


def test_a_link_is_refused_wherever_it_lies(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "llm/1/link").symlink_to(tmp_path / "secret")
    store = FolderStore(str(root))
    with pytest.raises(StoreError, match="llm/1/link' is refused: a link"):
        store.list()
    with pytest.raises(StoreError, match="llm/1/link is refused: a link"):
        list(store.read(StoredFile("llm/1/link", 6)))
    (root / "llm/1/link").unlink()
    (root / "llm3").symlink_to(tmp_path)
    with pytest.raises(StoreError, match="llm3' is refused: a link"):
        store.list()
    with pytest.raises(StoreError, match="llm3 is refused: a link"):
        store.list("llm3/")
    (root / "circle").symlink_to("circle")
    with pytest.raises(StoreError, match="circle/x: Too many levels"):
        list(store.read(StoredFile("circle/x", 6)))


def test_a_pipe_is_refused(root: Path) -> None:
    os.mkfifo(root / "llm/1/pipe")
    with pytest.raises(StoreError, match="not a regular file"):
        FolderStore(str(root)).list()


def test_addresses(tmp_path: Path) -> None:
    odd = tmp_path / "a b#c"
    odd.mkdir()
    assert FolderStore(odd.as_uri()).root == odd
    assert FolderStore(str(odd)).url == odd.as_uri()
    for url in ("file://me:secret@other-host/x", "file:", "s3://bucket/x", "file://[::1/x", "/a\0b"):
        with pytest.raises(UsageError, match="a folder is file:///path") as raised:
            FolderStore(url)
        assert "secret" not in str(raised.value)
    with pytest.raises(StoreError, match="no such folder"):
        FolderStore(str(tmp_path / "missing")).list()
