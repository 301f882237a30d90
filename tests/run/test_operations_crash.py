"""An operation that is interrupted, killed, or whose server dies: nothing stays half done, and it is no success."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness.embedded import EmbeddedServer
from harness.triton import Control
from tests.processes import family, name
from tests.run.conftest import Background, canary, only_folder
from tests.run.test_operations import RETIRE, repository_in
from tests.waiting import until

pytestmark = [pytest.mark.triton, pytest.mark.slow]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedServer]:
    """Somebody else's Triton: it outlives the harness."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    repository = repository_in(tmp_path / "place" / "models", {1: "fp16", 2: "same"})
    with EmbeddedServer(repository, tmp_path / "server.log") as running:
        running.start({"tiny": [1, 2]})
        yield running


@pytest.fixture
def scenario(server: EmbeddedServer, tmp_path: Path) -> Path:
    path = tmp_path / "retire.yaml"
    more = "version: 1\nwindow: 1s\nsteady: 20/s\narchive: archive\n"
    path.write_text(RETIRE.format(url=server.grpc_url, repository=server.repository, model="tiny", more=more))
    return path


def ready(server: EmbeddedServer) -> tuple[int, ...]:
    with Control(server.grpc_url) as control:
        return control.loaded("tiny")


def said(state: Path, action: str) -> bool:
    """Whether the journal of the operator says that the action was begun."""
    lines = [line for file in state.rglob("journal.jsonl") for line in file.read_text().splitlines()]
    return any(f'"action": "{action}"' in line for line in lines)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_it_watches_nothing_was_changed(
    scenario: Path, server: EmbeddedServer, tmp_path: Path, background: Background, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    run = background("run", scenario, "--out", out, "--set", "window=120s")
    until(lambda: out.exists() and any('"retire"' in f.read_text() for f in out.rglob("journal.jsonl")), "the watch")
    run.send_signal(number)
    _, stderr = run.communicate(timeout=120)
    assert run.returncode == 3, stderr
    verdict = json.loads((only_folder(out) / "verdict.json").read_text())
    assert verdict["verdict"] == "inconclusive"
    assert number.name in verdict["reason"]
    assert ready(server) == (1, 2)


def test_killed_while_it_unloads_recover_goes_back_and_running_again_finishes(
    scenario: Path, server: EmbeddedServer, tmp_path: Path, background: Background
) -> None:
    out = tmp_path / "out"
    run = background("run", scenario, "--out", out)
    until(lambda: said(tmp_path / "state", "models.set"), "the unload")
    run.kill()
    run.communicate()
    folder = only_folder(out)
    judged = canary("judge", folder, "--json")
    assert judged.code == 3
    recovered = canary("recover", folder)
    assert recovered.code == 0, recovered.stderr
    assert ready(server) == (1, 2)
    assert (server.repository / "tiny" / "1").is_dir()
    assert canary("recover", folder).code == 0
    done = canary("run", scenario, "--out", tmp_path / "again", "--json")
    assert done.code == 0, done.stderr
    assert done.verdict["verdict"] == "promote"
    assert ready(server) == (2,)
    assert (tmp_path / "archive" / "tiny" / "1").is_dir()


def test_killed_and_run_again_without_recover(
    scenario: Path, server: EmbeddedServer, tmp_path: Path, background: Background
) -> None:
    run = background("run", scenario, "--out", tmp_path / "out")
    until(lambda: said(tmp_path / "state", "models.set"), "the unload")
    run.kill()
    run.communicate()
    done = canary("run", scenario, "--out", tmp_path / "again", "--json")
    assert done.code == 0, done.stderr
    assert ready(server) == (2,)
    assert not (server.repository / "tiny" / "1").exists()


def test_a_server_that_dies_is_the_worlds_failure(tmp_path: Path, background: Background) -> None:
    out = tmp_path / "out"
    run = background("run", "retire-model", "--out", out, "--set", "window=120s")
    until(lambda: out.exists() and any('"retire"' in f.read_text() for f in out.rglob("journal.jsonl")), "the watch")
    below = family(run.pid)
    for process in below:
        if name(process) == "tritonserver":
            process.kill()
    _, stderr = run.communicate(timeout=240)
    assert run.returncode == 4, stderr
    assert "Traceback (most" not in stderr
    assert json.loads((only_folder(out) / "verdict.json").read_text())["verdict"] == "inconclusive"
    _, left = psutil.wait_procs(below[1:], timeout=60)
    assert not left
