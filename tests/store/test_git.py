"""What a git repository has of a folder, in the working tree and at a commit; and that nothing there is touched."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from harness.errors import StoreError, UsageError
from harness.store import GitFile, GitRepository
from tests.run.checkouts import commit, git, snapshot, working_tree, write_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return working_tree(tmp_path / "team")


@pytest.fixture
def repository(model: Path) -> GitRepository:
    return GitRepository(model)


def by_path(files: tuple[GitFile, ...]) -> dict[str, GitFile]:
    return {file.path: file for file in files}


def pointer(content: bytes) -> bytes:
    digest = hashlib.sha256(content).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(content)}\n".encode()


def test_a_commit_and_the_working_tree_are_read_and_neither_is_touched(
    model: Path, repository: GitRepository, tmp_path: Path
) -> None:
    base = git(model, "rev-parse", "HEAD")
    write_model(model, delay_s=0.009)
    (model / "notes*.txt").write_text("new\n")
    (model / "1" / "__pycache__").mkdir()
    (model / "1" / "__pycache__" / "model.pyc").write_bytes(b"x")
    # An index whose times are off is what git would refresh on disk.
    os.utime(repository.root / "README", ns=(1, 1))
    before = snapshot(repository.root)
    old, new = by_path(repository.at(base, "models/echo")), by_path(repository.here("models/echo"))
    assert sorted(old) == ["models/echo/1/model.py", "models/echo/config.pbtxt"]
    assert sorted(new) == ["models/echo/1/model.py", "models/echo/config.pbtxt", "models/echo/notes*.txt"]
    assert repository.same([(old[path], new[path]) for path in sorted(old)]) == (False, True)
    assert b"DELAY_S = 0.004" in repository.read(old["models/echo/1/model.py"])
    assert b"DELAY_S = 0.009" in repository.read(new["models/echo/1/model.py"])
    repository.copy(old["models/echo/1/model.py"], tmp_path / "copy.py")
    assert b"DELAY_S = 0.004" in (tmp_path / "copy.py").read_bytes()
    assert repository.is_dirty(["models/echo"])
    assert not repository.is_dirty(["models/other"])
    assert snapshot(repository.root) == before


def test_commits_are_those_between_that_touch_the_folder(model: Path, repository: GitRepository) -> None:
    base = git(model, "rev-parse", "HEAD")
    write_model(model, delay_s=0.009)
    commit(repository.root, "echo: waits longer")
    (repository.root / "README").write_text("something else\n")
    head = commit(repository.root, "README: more words")
    assert [found.subject for found in repository.commits(base, head, ["models/echo"])] == ["echo: waits longer"]
    assert repository.merge_base("HEAD", "main") == base
    assert repository.commit("nowhere") is None
    assert repository.commit("--all") is None


def test_a_subject_is_told_whole_whatever_is_in_it(model: Path, repository: GitRepository) -> None:
    """These characters are line ends for Python, and not for git."""
    base = git(model, "rev-parse", "HEAD")
    write_model(model, delay_s=0.009)
    subject = "a\u2028b \x0bc \x85 d"
    commit(repository.root, subject)
    assert [found.subject for found in repository.commits(base, "HEAD", ["models/echo"])] == [subject]


def test_a_hook_of_another_repository_may_ask(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """git tells its hooks by variables where they are."""
    other = working_tree(tmp_path / "other").parents[1]
    for name, value in (("GIT_DIR", other / ".git"), ("GIT_INDEX_FILE", other / "x"), ("GIT_LITERAL_PATHSPECS", "1")):
        monkeypatch.setenv(name, str(value))
    write_model(model, version=2)
    repository = GitRepository(model)
    assert repository.root == model.parents[1]
    assert len(repository.here("models/echo")) == 3


def test_a_name_that_cannot_be_shown_is_refused_and_not_left_out(model: Path, repository: GitRepository) -> None:
    """It would be missing in both builds, and nothing would have changed."""
    (model / "1" / os.fsdecode(b"w\xff.bin")).write_bytes(b"weights")
    with pytest.raises(UsageError, match=r"1/w.udcff\.bin' is refused: a character that cannot be shown"):
        repository.here("models/echo")
    base = commit(repository.root, "weights")
    with pytest.raises(UsageError, match=r"1/w.udcff\.bin' is refused"):
        repository.at(base, "models/echo")


def test_a_removed_file_is_not_here_and_an_ignored_one_only_if_asked_for(
    model: Path, repository: GitRepository
) -> None:
    (repository.root / ".gitignore").write_text("*.plan\n")
    (model / "1" / "model.plan").write_bytes(b"weights")
    (model / "1" / "model.py").unlink()
    assert [file.path for file in repository.here("models/echo")] == ["models/echo/config.pbtxt"]
    assert [file.path for file in repository.here("models/echo", ignored=True)] == ["models/echo/1/model.plan"]


def test_a_pointer_of_lfs_stands_for_its_object_or_is_refused(model: Path, repository: GitRepository) -> None:
    old, new = b"weights " * 1000, b"WEIGHTS " * 1000
    file = model / "1" / "model.onnx"
    file.write_bytes(pointer(old))
    base = commit(repository.root, "weights")
    file.write_bytes(new)
    with pytest.raises(
        UsageError, match=r"model\.onnx is a Git LFS pointer in the base.*8000 bytes.*git lfs fetch.*first of the base"
    ):
        repository.at(base, "models/echo")
    oid = hashlib.sha256(old).hexdigest()
    place = repository.root / ".git" / "lfs" / "objects" / oid[:2] / oid[2:4]
    place.mkdir(parents=True)
    (place / oid).write_bytes(old)
    at, here = (by_path(found)["models/echo/1/model.onnx"] for found in (
        repository.at(base, "models/echo"), repository.here("models/echo")
    ))  # fmt: skip
    assert repository.read(at) == old
    assert repository.same([(at, here)]) == (False,)
    file.write_bytes(old)
    again = by_path(repository.here("models/echo"))["models/echo/1/model.onnx"]
    assert repository.same([(at, again)]) == (True,)


def test_the_object_may_be_the_working_trees_own_file(model: Path, repository: GitRepository) -> None:
    """What a clone of a pull request has that did not change the weights."""
    content = b"weights " * 1000
    (model / "1" / "model.onnx").write_bytes(pointer(content))
    base = commit(repository.root, "weights")
    (model / "1" / "model.onnx").write_bytes(content)
    at = by_path(repository.at(base, "models/echo"))["models/echo/1/model.onnx"]
    assert repository.read(at) == content


def test_a_pointer_in_the_working_tree_says_how_to_get_it(model: Path, repository: GitRepository) -> None:
    (model / "1" / "model.onnx").write_bytes(pointer(b"weights"))
    with pytest.raises(UsageError, match=r"pointer in the working tree.*git lfs pull.*lfs: true"):
        repository.here("models/echo")


def test_links_and_submodules_are_refused_by_name(model: Path, repository: GitRepository, tmp_path: Path) -> None:
    (model / "1" / "weights").symlink_to("/etc/passwd")
    with pytest.raises(UsageError, match=r"1/weights is a link in the working tree"):
        repository.here("models/echo")
    base = commit(repository.root, "a link")
    with pytest.raises(UsageError, match=r"1/weights is a link in [0-9a-f]{7}"):
        repository.at(base, "models/echo")
    git(repository.root, "reset", "-q", "--hard", "HEAD~1")
    inner = tmp_path / "inner"
    working_tree(inner)
    git(repository.root, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner), "models/echo/tok")
    with pytest.raises(UsageError, match=r"models/echo/tok is a submodule in the working tree"):
        repository.here("models/echo")
    base = commit(repository.root, "a submodule")
    with pytest.raises(UsageError, match=r"models/echo/tok is a submodule in [0-9a-f]{7}"):
        repository.at(base, "models/echo")
    assert GitRepository(model / "tok").is_submodule
    git(repository.root, "reset", "-q", "--hard", "HEAD~1")
    git(repository.root, "clone", "-q", str(inner), "models/echo/cloned")
    with pytest.raises(UsageError, match=r"models/echo/cloned is .* a repository of its own"):
        repository.here("models/echo")
    assert not repository.is_submodule


def test_a_folder_outside_of_git_and_a_damaged_repository_are_one_line(
    tmp_path: Path, repository: GitRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="is in no git repository"):
        GitRepository(tmp_path)
    with pytest.raises(StoreError, match="git cat-file failed"):
        repository.read(GitFile("x", 1, blob="0" * 40))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="git is not installed"):
        GitRepository(repository.root)
