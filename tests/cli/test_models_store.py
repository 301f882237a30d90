"""models publish and models sync, from a folder as the store."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Call
from tests.run.conftest import CANARY
from tests.run.models.conftest import GOOD, MODEL, repository_in


@pytest.fixture
def built(tmp_path: Path) -> Path:
    return repository_in(tmp_path / "built", {1: {}, GOOD: {}}) / MODEL


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "repository").mkdir()
    return tmp_path / "repository"


def publish(call: Call, built: Path, store: Path, version: int) -> None:
    done = call("models", "publish", built / str(version), store, "--model", MODEL, "--version", version)
    assert done.code == 0, done.stderr
    assert f"{MODEL}/{version} is in {store}" in done.stdout


def test_published_and_synced(call: Call, built: Path, store: Path, repository: Path) -> None:
    publish(call, built, store, 1)
    done = call("models", "sync", store, "--repository", repository, "--dry-run")
    assert (done.code, "new versions: tiny 1" in done.stdout) == (0, True), done.stderr
    assert not (repository / MODEL).exists()
    done = call("models", "sync", store, "--repository", repository)
    assert done.code == 0, done.stderr
    assert done.stdout.splitlines()[0] == "tiny 1: new"
    assert (repository / MODEL / "1" / "model.py").read_bytes() == (built / "1" / "model.py").read_bytes()
    done = call("models", "sync", store, "--repository", repository)
    assert "new versions: none" in done.stdout
    assert "1 versions unchanged; 0 bytes" in done.stdout


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("sync", "{store}"), 2, "--repository"),
        (("sync", "{store}", "--repository", "{repository}", "--load", "add"), 2, "--url"),
        (("sync", "gopher://x", "--repository", "{repository}"), 2, "is no model store"),
        (("sync", "{store}/nowhere", "--repository", "{repository}"), 4, "nowhere"),
        (("publish", "{store}/nowhere", "{store}", "--model", "m", "--version", "1"), 2, "not a folder"),
    ],
)
def test_what_cannot_be(
    call: Call, store: Path, repository: Path, args: tuple[str, ...], code: int, words: str
) -> None:
    done = call("models", *(arg.format(store=store, repository=repository) for arg in args))
    assert done.code == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_watch_goes_on_after_a_failed_round_and_ends_at_sigterm(
    call: Call, built: Path, store: Path, repository: Path
) -> None:
    store.rmdir()
    process = subprocess.Popen(
        [str(CANARY), "models", "sync", str(store), "--repository", str(repository), "--watch", "100ms"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        assert process.stdout is not None
        assert "this round failed" in process.stderr.readline()
        store.mkdir()
        publish(call, built, store, 1)
        line = process.stdout.readline()
        while "tiny 1" not in line:
            assert line, "it ended"
            line = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, err
    assert "ended: interrupted by SIGTERM" in err
    assert (repository / MODEL / "1").is_dir()
