"""A manifest says what a folder holds; anything else that claims to be one is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from harness.errors import StoreError, UsageError
from harness.store import MANIFEST, Entry, Manifest
from tests.store.folders import put

SHA = hashlib.sha256(b"plan").hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path, {"model.plan": b"plan", "tokenizer/vocab.json": b"{}", "__pycache__/model.cpython-311.pyc": b"x"})
    return tmp_path


def test_of_folder_and_back(folder: Path) -> None:
    manifest = Manifest.of_folder(folder, "llm", 2)
    assert manifest.name == "llm/2"
    assert set(manifest.files) == {"model.plan", "tokenizer/vocab.json"}
    assert manifest.files["model.plan"] == Entry(4, SHA)
    assert manifest.size == 6
    (folder / MANIFEST).write_bytes(manifest.to_bytes())
    read = Manifest.from_bytes((folder / MANIFEST).read_bytes(), "here")
    assert read == manifest
    assert read.digest == manifest.digest
    assert read.to_bytes() == manifest.to_bytes()
    assert read.differences(folder) == []
    document = json.loads(manifest.to_bytes())
    assert document["files"]["model.plan"] == {"size": 4, "sha256": SHA}
    assert (document["format"], document["model"], document["version"]) == (1, "llm", 2)


def test_a_models_own_files_are_those_beside_its_versions(tmp_path: Path) -> None:
    put(tmp_path, {"config.pbtxt": b"x", "tokenizer/a": b"y", "1/model.plan": b"z", "20/b/c": b"z"})
    manifest = Manifest.of_folder(tmp_path, "llm", None)
    assert set(manifest.files) == {"config.pbtxt", "tokenizer/a"}
    assert manifest.name == "llm"
    assert Manifest.from_bytes(manifest.to_bytes(), "").version is None


def test_an_empty_version_is_one(tmp_path: Path) -> None:
    """An ensemble's version directory is empty."""
    assert Manifest.of_folder(tmp_path, "ensemble", 1).differences(tmp_path) == []


def test_every_difference_is_named(folder: Path) -> None:
    manifest = Manifest.of_folder(folder, "llm", 2)
    (folder / "model.plan").write_bytes(b"plam")
    (folder / "tokenizer/vocab.json").write_bytes(b"{ }")
    (folder / "more").write_bytes(b"")
    more, plan, vocab = manifest.differences(folder)
    assert more == "more is not in the manifest"
    assert plan.startswith("model.plan has the SHA-256")
    assert vocab == "tokenizer/vocab.json has 3 bytes, not 2"
    (folder / "model.plan").unlink()
    assert "model.plan is missing" in manifest.differences(folder)


def test_who_answers_for_the_hashes_is_kept_and_changes_no_content(folder: Path) -> None:
    manifest = Manifest.of_folder(folder, "llm", 2)
    received = Manifest("llm", 2, manifest.files, "received")
    assert Manifest.from_bytes(received.to_bytes(), "").origin == "received"
    assert received == manifest
    assert received.digest == manifest.digest


def test_of_folder_refuses_links(folder: Path) -> None:
    (folder / "link").symlink_to("model.plan")
    with pytest.raises(UsageError, match="link: not a regular file"):
        Manifest.of_folder(folder, "llm", 2)
    (folder / "link").unlink()
    (folder / "link").symlink_to("tokenizer")
    with pytest.raises(UsageError, match="link: not a regular file"):
        Manifest.of_folder(folder, "llm", 2)
    with pytest.raises(UsageError, match="not a folder"):
        Manifest.of_folder(folder / "model.plan", "llm", 2)


def document(**changes: object) -> bytes:
    base = {"format": 1, "model": "llm", "version": 2, "files": {"model.plan": {"size": 4, "sha256": SHA}}}
    return json.dumps({**base, **changes}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"null",
        b"[" * 100_000,
        document().decode().encode("utf-16"),
        document(files={"\x1b[31m": {"size": -1, "sha256": SHA}}),
        document(format=2),
        document(model=7),
        document(version="2"),
        document(version=True),
        document(origin="me"),
        document(files=[]),
        document(files={"model.plan": 4}),
        document(files={"model.plan": {"size": -1, "sha256": SHA}}),
        document(files={"model.plan": {"size": True, "sha256": SHA}}),
        document(files={"model.plan": {"size": 4, "sha256": SHA.upper()}}),
        document(files={"model.plan": {"size": 4, "sha256": ""}}),
        document(files={"model.plan": {"size": 4}}),
        document(files={"../model.plan": {"size": 4, "sha256": SHA}}),
        document(files={"/model.plan": {"size": 4, "sha256": SHA}}),
        document(files={"a//b": {"size": 4, "sha256": SHA}}),
        document(files={"a\\b": {"size": 4, "sha256": SHA}}),
        document(files={"a\nb": {"size": 4, "sha256": SHA}}),
        document(files={"a": {"size": 4, "sha256": SHA}, "a/b": {"size": 4, "sha256": SHA}}),
        document(files={MANIFEST: {"size": 4, "sha256": SHA}}),
        document(files={f"{MANIFEST}/x": {"size": 4, "sha256": SHA}}),
    ],
)
def test_what_is_no_manifest_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(StoreError, match=r"^s3://bucket/llm/2: ") as raised:
        Manifest.from_bytes(data, "s3://bucket/llm/2")
    assert str(raised.value).isprintable()
