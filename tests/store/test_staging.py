"""What lies in the staging folder that no sync has put there: nothing of it is taken, followed or thrown away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.store import FolderStore, StoredFile, sync
from tests.store.folders import CONFIG, Odd, contents, noise, partial_versions, put, put_own, put_version

SIZE = 3_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "store"
    put_version(root, "llm", 1, {"a.plan": noise(SIZE, 1), "b.plan": noise(SIZE, 2), "sub/c": b"c"})
    put_own(root, "llm", {"config.pbtxt": CONFIG})
    return root


@pytest.fixture
def job(root: Path, repository: Path) -> Path:
    """The folder of llm/1 in staging, after a sync that broke off in b.plan; a.plan is whole."""

    def broken(file: StoredFile, offset: int, body: Iterator[bytes]) -> Iterator[bytes]:
        yield next(body)
        if file.key.endswith("b.plan"):
            raise StoreError("broke off")
        yield from body

    with pytest.raises(StoreError, match="broke off"):
        sync(Odd(root, sent=broken), repository, workers=1)
    (job,) = (repository.parent / ".triton-canary-staging/models/incoming/llm").glob("1.*")
    assert (job / "whole/a.plan").is_file()
    return job


def refused(root: Path, repository: Path, path: str, what: str) -> None:
    with pytest.raises(StoreError, match=f"whole: '{path}' is {what} in what is staged of llm/1, which is not taken"):
        sync(FolderStore(str(root)), repository)
    assert list(repository.iterdir()) == []


def test_a_file_too_many(root: Path, repository: Path, job: Path) -> None:
    put(job / "whole", {"__pycache__/model.cpython-311.pyc": b"not published"})
    refused(root, repository, "__pycache__/model.cpython-311.pyc", "none of its files")


def test_a_link_that_leads_out(root: Path, repository: Path, job: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (job / "whole/sub").symlink_to(tmp_path / "elsewhere")
    refused(root, repository, "sub", "none of its files")
    (job / "whole/sub").unlink()
    (job / "whole/more").symlink_to("/etc")
    refused(root, repository, "more", "none of its files")


def test_a_link_in_the_place_of_a_file(root: Path, repository: Path, job: Path, tmp_path: Path) -> None:
    """To the right content even: it is the link that would be renamed into the repository."""
    (job / "whole/a.plan").rename(tmp_path / "a.plan")
    (job / "whole/a.plan").symlink_to(tmp_path / "a.plan")
    (partial,) = (path for path in (job / "partial").iterdir() if path.stat().st_size)
    partial.unlink()
    (tmp_path / "target").write_bytes(b"mine")
    partial.symlink_to(tmp_path / "target")
    sync(FolderStore(str(root)), repository)
    assert partial_versions(repository) == []
    assert not [path for path in repository.rglob("*") if path.is_symlink()]
    assert (tmp_path / "target").read_bytes() == b"mine"


def test_a_name_that_took_the_place_of_another(root: Path, repository: Path) -> None:
    """As upper case takes that of lower case on filesystems that fold it."""
    incoming = repository.parent / ".triton-canary-staging/models/incoming"

    def folding(file: StoredFile, offset: int, body: Iterator[bytes]) -> Iterator[bytes]:
        if file.key == "llm/1/b.plan":
            next(incoming.rglob("a.plan")).unlink()
        yield from body

    with pytest.raises(StoreError, match=r"'a\.plan' is missing in what is staged of llm/1"):
        sync(Odd(root, sent=folding), repository, workers=1)
    assert list(repository.iterdir()) == []


def test_only_what_syncs_have_staged_is_thrown_away(root: Path, repository: Path, job: Path, tmp_path: Path) -> None:
    """Somebody may name a folder for staging that has an `incoming` of its own."""
    data = tmp_path / "data"
    mine = {
        "incoming/project/raw/x": b"x",
        "incoming/llm/1.0/x": b"x",
        "incoming/file": b"x",
        "incoming/llm/own.1": b"x",
    }
    put(data, mine)
    put(tmp_path / "other", {"1.0123456789abcdef/x": b"x"})
    (data / "incoming/link").symlink_to(tmp_path / "other")
    put(data, {"incoming/old/1.0123456789abcdef/whole/x": b"left by a sync"})
    sync(FolderStore(str(root)), repository, staging=data)
    left = contents(data)
    assert left.items() >= mine.items()
    assert not (data / "incoming/old").exists()
    assert (tmp_path / "other/1.0123456789abcdef/x").is_file()
