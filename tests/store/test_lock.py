"""Two syncs into one repository never meet."""

from __future__ import annotations

import errno
import fcntl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.store import FolderStore, StoredFile, sync
from harness.store.lock import folder_held, held
from harness.store.staging import Staging
from tests.store.folders import CONFIG, Odd, noise, partial_versions, put_own, put_version


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "store"
    put_version(root, "llm", 1, {"a.plan": noise(100_000, 1)})
    put_version(root, "llm", 2, {"a.plan": noise(100_000, 2)})
    put_own(root, "llm", {"config.pbtxt": CONFIG})
    return root


def test_two_at_once(root: Path, repository: Path) -> None:
    """The second is told who is at work; the first is not disturbed."""
    begun, go_on = threading.Event(), threading.Event()

    def slowly(file: StoredFile, offset: int, body: Iterator[bytes]) -> Iterator[bytes]:
        begun.set()
        assert go_on.wait(60)
        yield from body

    first = threading.Thread(target=sync, args=(Odd(root, sent=slowly), repository))
    first.start()
    try:
        assert begun.wait(60)
        with pytest.raises(UsageError, match=r"another sync is at work: pid \d+ on \S+ holds "):
            sync(FolderStore(str(root)), repository)
    finally:
        go_on.set()
        first.join(60)
    assert partial_versions(repository / "llm") == []
    assert sync(FolderStore(str(root)), repository).unchanged == (("llm", 1), ("llm", 2))


def test_the_second_can_wait(tmp_path: Path) -> None:
    taken, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with held(tmp_path / "lock"):
            taken.set()
            assert let_go.wait(60)

    first = threading.Thread(target=hold)
    first.start()
    assert taken.wait(60)
    threading.Timer(0.3, let_go.set).start()
    with held(tmp_path / "lock", wait_s=60):
        assert let_go.is_set()
    first.join(60)


def test_another_staging_folder_is_no_way_around_it(root: Path, repository: Path, tmp_path: Path) -> None:
    place = Staging(repository)
    place.make()
    with place.held(), pytest.raises(UsageError, match=r"another sync is at work in .*models, with another staging"):
        sync(FolderStore(str(root)), repository, staging=tmp_path / "elsewhere")
    assert list(repository.iterdir()) == []
    assert sync(FolderStore(str(root)), repository, staging=tmp_path / "elsewhere").changed == ("llm",)


def test_a_filesystem_that_holds_no_folders_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As NFS, where a folder, which cannot be opened to write, cannot be locked either."""

    def refused(descriptor: int, how: int) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", refused)
    with folder_held(tmp_path):
        pass
    with pytest.raises(UsageError, match=r"lock: Bad file descriptor, so no sync can hold it"), held(tmp_path / "lock"):
        pass
