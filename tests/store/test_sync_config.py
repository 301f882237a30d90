"""A model's own files: config.pbtxt and its neighbours, which may change, and which others may manage."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import StoreError, UsageError
from harness.store import FolderStore, sync
from tests.store.folders import CONFIG, Odd, contents, put, put_own


def policy(text: bytes) -> bytes:
    return b"".join(line for line in text.splitlines(keepends=True) if line.startswith(b"version_policy"))


def keep_policy(local: bytes, from_store: bytes) -> bytes:
    return from_store + policy(local)


def test_a_change_is_taken_and_its_mode_kept(root: Path, repository: Path) -> None:
    sync(FolderStore(str(root)), repository)
    (repository / "llm/config.pbtxt").chmod(0o640)
    put_own(root, "llm", {"config.pbtxt": CONFIG + b"max_batch_size: 8\n"})
    result = sync(FolderStore(str(root)), repository)
    assert (result.configs, result.added, result.changed) == (("llm/config.pbtxt",), (), ("llm",))
    assert (repository / "llm/config.pbtxt").read_bytes() == CONFIG + b"max_batch_size: 8\n"
    assert (repository / "llm/config.pbtxt").stat().st_mode & 0o777 == 0o640


def test_the_operators_part_is_merged(root: Path, repository: Path) -> None:
    local = CONFIG + b"version_policy: { specific { versions: [1] } }\n"
    put(repository, {"llm/config.pbtxt": local})
    first = sync(FolderStore(str(root)), repository, merge_config=keep_policy)
    assert "llm/config.pbtxt" not in first.configs
    assert (repository / "llm/config.pbtxt").read_bytes() == local
    store = Odd(root)
    assert sync(store, repository, merge_config=keep_policy).configs == ()
    assert store.reads == []  # it is known what the store's was merged into

    put_own(root, "llm", {"config.pbtxt": CONFIG + b"max_batch_size: 8\n"})
    assert sync(store, repository, merge_config=keep_policy, dry_run=True).configs == ("llm/config.pbtxt",)
    assert sync(store, repository, merge_config=keep_policy).configs == ("llm/config.pbtxt",)
    assert (repository / "llm/config.pbtxt").read_bytes() == CONFIG + b"max_batch_size: 8\n" + policy(local)
    assert sync(store, repository, merge_config=keep_policy, dry_run=True).configs == ()


def test_a_merge_that_fails_leaves_the_repository_alone(root: Path, repository: Path) -> None:
    def fails(local: bytes, from_store: bytes) -> bytes:
        raise UsageError("config.pbtxt cannot be read")

    put(repository, {"llm/config.pbtxt": b"}"})
    with pytest.raises(UsageError, match="cannot be read"):
        sync(FolderStore(str(root)), repository, merge_config=fails)
    assert contents(repository) == {"llm/config.pbtxt": b"}"}


def test_a_link_is_left_alone(root: Path, repository: Path, tmp_path: Path) -> None:
    (tmp_path / "managed").write_bytes(b"elsewhere")
    (repository / "llm").mkdir()
    (repository / "llm/config.pbtxt").symlink_to(tmp_path / "managed")
    result = sync(FolderStore(str(root)), repository)
    assert "llm/config.pbtxt" not in result.configs
    assert any("is a link, so managed elsewhere" in line for line in result.skipped)
    assert (tmp_path / "managed").read_bytes() == b"elsewhere"


def test_a_link_to_their_folder_is_left_alone_too(root: Path, repository: Path, tmp_path: Path) -> None:
    put(tmp_path / "managed", {"merges.txt": b"elsewhere"})
    (repository / "llm").mkdir()
    (repository / "llm/tokenizer").symlink_to(tmp_path / "managed")
    result = sync(FolderStore(str(root)), repository)
    assert result.configs == ("llm/config.pbtxt",)
    assert any("tokenizer/merges.txt is a link" in line for line in result.skipped)
    assert contents(tmp_path / "managed") == {"merges.txt": b"elsewhere"}


@pytest.mark.parametrize("there", ["llm/config.pbtxt/x", "llm/tokenizer"])
def test_what_is_in_the_way_is_said_beforehand(root: Path, repository: Path, there: str) -> None:
    put(repository, {there: b""})
    with pytest.raises(StoreError, match=r"models/llm/\S+: in the way of llm/\S+; move it away"):
        sync(FolderStore(str(root)), repository)
    assert contents(repository) == {there: b""}


def test_a_publish_under_way_holds_up_no_other_model(root: Path, repository: Path) -> None:
    """Its files are replaced one by one, their manifest last."""
    put(root / "llm", {"config.pbtxt": CONFIG + b"max_batch_size: 8\n"})
    result = sync(FolderStore(str(root)), repository)
    (line,) = result.skipped
    assert line.startswith(f"llm/config.pbtxt has {len(CONFIG) + 18} bytes, and {len(CONFIG)} by its manifest; a")
    assert line.endswith("publish is under way, or broke off: publish it once more")
    assert result.added == (("ensemble", 1), ("llm", 1), ("llm", 2))
    assert result.configs == ()


def test_it_goes_last(root: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def note(name: str) -> None:
        import harness.store.place as place

        real = getattr(place, name)
        monkeypatch.setattr(
            place,
            name,
            lambda source, target: (order.append(target.relative_to(repository).as_posix()), real(source, target)),
        )

    note("rename_new")
    note("replace")
    sync(FolderStore(str(root)), repository)
    assert order == ["ensemble/1", "llm/1", "llm/2", "llm/tokenizer/merges.txt", "llm/config.pbtxt"]
