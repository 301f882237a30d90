"""The small files: whole or absent."""

from pathlib import Path

import pytest

from harness import files
from harness.errors import RecordingError
from harness.files import atomic_write


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_atomic_write_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    atomic_write(path, b"one")
    atomic_write(path, b"two")
    assert path.read_bytes() == b"two"
    assert names(tmp_path) == ["run.json"]


def test_a_failed_atomic_write_keeps_the_old_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "run.json"
    atomic_write(path, b"one")
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(RecordingError, match=r"run\.json: cannot be written: No space left on device"):
        atomic_write(path, b"two")
    assert path.read_bytes() == b"one"
    assert names(tmp_path) == ["run.json"]
