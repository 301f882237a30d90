"""A checkout against its base on a real Triton: an embedded one, and one that is somebody else's."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from harness.cli import main
from harness.embedded import EmbeddedServer
from harness.recording import Recording
from tests.run.checkouts import ENSEMBLE, commit, snapshot, working_tree, write_model
from tests.run.conftest import Background, Done, canary, journal, only_folder

pytestmark = pytest.mark.triton


@dataclass
class Production:
    """Somebody's Triton, which serves `echo` from a model repository of its own."""

    server: EmbeddedServer

    @property
    def repository(self) -> Path:
        return self.server.repository

    def ready(self) -> list[str]:
        rows = httpx.post(f"{self.server.http_url}/v2/repository/index", timeout=30).json()
        return sorted(row["name"] for row in rows if row.get("state") == "READY")

    def healthy(self) -> bool:
        return httpx.get(f"{self.server.http_url}/v2/health/ready", timeout=30).status_code == 200

    @property
    def options(self) -> list[str]:
        return ["--url", self.server.grpc_url, "--repository", str(self.repository)]


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    folder = tmp_path_factory.mktemp("production")
    write_model(folder / "models" / "echo")
    with EmbeddedServer(folder / "models", folder / "server.log") as server:
        server.start({"echo": [1]})
        yield Production(server)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return working_tree(tmp_path / "team")


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """The command in this process, which need not import everything once more."""

    def call(*words: object) -> Done:
        code = main([str(word) for word in words])
        return Done(code, *capsys.readouterr())

    return call


def test_a_worse_checkout_is_rolled_back_and_the_report_says_what_changed(model: Path, tmp_path: Path) -> None:
    file = write_model(model, delay_s=0.016)
    # Every request fails: that shows on a machine, too, that is too busy to be trusted with times.
    file.write_text(file.read_text().replace('"INPUT"', '"no such input"'))
    head = commit(model, "echo: waits <b>longer</b>")
    before = snapshot(model.parents[1])
    done = canary("gate", "--checkout", model, "--base", "main", "--for", "4s", "--out", tmp_path / "out", "--json")
    assert done.code == 1, done.stderr
    assert done.verdict["verdict"] == "rollback"
    assert "fail" in done.verdict["reason"]
    assert "echo/1/model.py: changed" in done.stderr
    assert snapshot(model.parents[1]) == before
    folder = only_folder(tmp_path / "out")
    meta = json.loads((folder / "run.json").read_text())
    assert meta["git"]["commits"] == [{"sha": head, "subject": "echo: waits <b>longer</b>"}]
    assert [file["path"] for file in meta["git"]["changed"]] == ["echo/1/model.py"]
    assert "echo: waits &lt;b&gt;longer&lt;/b&gt;" in (folder / "report.md").read_text()
    page = (folder / "report.html").read_text()
    assert "What changed" in page
    assert "echo: waits &lt;b&gt;longer&lt;/b&gt;" in page
    assert "<b>longer" not in page
    samples = Recording.open(folder).samples.to_pandas()
    assert {name.partition("-")[0] for name in samples.model} == {"echo.base", "echo.head"}
    assert set(samples[samples.arm == "baseline"].status) == {"ok"}
    assert not (folder / "models").exists(), "weights are not kept with the report"


@pytest.mark.slow
def test_on_somebody_elses_triton_nothing_is_left(production: Production, model: Path, tmp_path: Path) -> None:
    """An ensemble, the same in both: each build is asked through steps of its own, and then they are gone."""
    for name, version in (("first", 1), ("second", 2)):
        write_model(model.parent / name, version=version)
    (model.parent / "both").mkdir()
    (model.parent / "both" / "config.pbtxt").write_text(ENSEMBLE)
    commit(model, "an ensemble")
    (model.parent / "both" / "note.txt").write_text("the same otherwise\n")
    before = snapshot(production.repository)
    done = canary(
        "gate", "--checkout", model.parent, "--model", "both", "--base", "HEAD", *production.options,
        "--for", "3s", "--out", tmp_path, "--json", "--margin", "errors=20pp",
    )  # fmt: skip
    assert done.code in (0, 3), done.stderr  # on a busy machine as many requests may not suffice
    folder = next(tmp_path.glob("*-gate-both"))
    assert set(Recording.open(folder).samples["status"].to_pylist()) == {"ok"}
    meta = json.loads((folder / "run.json").read_text())
    assert [step.partition("-")[0] for step in meta["arms"]["candidate"]["steps"]] == ["first.head", "second.head"]
    assert snapshot(production.repository) == before
    assert production.ready() == ["echo"]
    assert production.healthy()
    changed = {line["target"].rpartition("/")[2] for line in journal(folder) if line["action"] == "models.set"}
    assert len(changed) == 6
    log = production.server.log.read_text()
    assert all(log.count(f"ModelInstanceInitialize: {name}_0_0") == 1 for name in changed if "both" not in name)
    assert "echo" not in changed


def test_a_checkout_that_does_not_load_is_a_rollback(
    production: Production, model: Path, tmp_path: Path, here: Callable[..., Done]
) -> None:
    """And the server, whose readiness a failed load takes away, is as ready as before."""
    (model / "1" / "model.py").write_text("raise RuntimeError('no such tokenizer')\n")
    before = snapshot(production.repository)
    assert production.healthy()
    done = here("gate", "--checkout", model, "--base", "main", *production.options, "--out", tmp_path / "out", "--json")
    assert done.code == 1, done.stderr
    assert "does not load" in done.verdict["reason"]
    assert "no such tokenizer" in done.verdict["reason"]
    assert snapshot(production.repository) == before
    assert production.ready() == ["echo"]
    assert production.healthy()
    assert "does not load" in (only_folder(tmp_path / "out") / "report.html").read_text()


def test_a_folder_that_is_not_the_servers_is_refused(
    production: Production, model: Path, tmp_path: Path, here: Callable[..., Done]
) -> None:
    write_model(model, delay_s=0.016)
    (tmp_path / "other").mkdir()
    where = ["--url", production.server.grpc_url, "--repository", tmp_path / "other"]
    done = here("gate", "--checkout", model, "--base", "main", *where, "--out", tmp_path / "out")
    assert done.code == 2
    assert f"other: is not the model repository of {production.server.grpc_url}" in done.stderr
    assert list((tmp_path / "other").iterdir()) == []


def test_a_server_that_loads_nothing_on_request_is_refused_before_anything_is_put_there(
    model: Path, tmp_path: Path, here: Callable[..., Done]
) -> None:
    write_model(model, delay_s=0.016)
    write_model(tmp_path / "models" / "echo")
    before = snapshot(tmp_path / "models")
    with EmbeddedServer(tmp_path / "models", tmp_path / "log", arguments=["--model-control-mode=none"]) as server:
        server.start()
        where = ["--url", server.grpc_url, "--repository", tmp_path / "models"]
        done = here("gate", "--checkout", model, "--base", "main", *where, "--out", tmp_path / "out")
    assert done.code == 2, done.stderr
    assert "loads no model on request" in done.stderr
    assert "--model-control-mode=explicit" in done.stderr
    left = {path: content for path, (_, content) in snapshot(tmp_path / "models").items() if "__pycache__" not in path}
    assert left == {path: content for path, (_, content) in before.items()}


@pytest.mark.slow
@pytest.mark.parametrize("way", ["recover", "the next run", "the next run in a clean working tree"])
def test_after_a_sigkill_the_repository_is_as_before(
    production: Production, model: Path, tmp_path: Path, background: Background, way: str
) -> None:
    write_model(model, delay_s=0.016)
    before = snapshot(production.repository)
    out = tmp_path / "out"
    run = background("gate", "--checkout", model, "--base", "main", *production.options, "--for", "300s", "--out", out)
    deadline = time.monotonic() + 200
    while len(production.ready()) < 3:
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    run.send_signal(signal.SIGKILL)
    run.wait()
    folder = only_folder(out)
    assert len(production.ready()) == 3
    assert snapshot(production.repository) != before
    if way == "recover":
        done = canary("recover", folder)
        assert done.code == 0, done.stderr
    else:
        if way != "the next run":
            shutil.rmtree(out)  # as CI systems do, with the journal
        done = canary("gate", "--checkout", model, "--base", "main", *production.options, "--for", "2s", "--out", out)
        assert done.code in (1, 3), done.stderr
        told = "had left changes, put back now" if way == "the next run" else "removed from the repository, as before"
        assert told in done.stderr
    assert production.ready() == ["echo"]
    assert snapshot(production.repository) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "moment"),
    [
        ("1", "after"),  # about to make the base's folder
        ("2", "before"),  # it is there, and that is not written down
        ("4", "before"),  # it serves
        ("8", "before"),  # the checkout's folder is there
        ("10", "before"),  # it serves
        ("14", "before"),  # the first of them is unloaded again
    ],
)
def test_a_kill_at_a_line_of_the_journal_is_put_back(
    production: Production, model: Path, tmp_path: Path, here: Callable[..., Done], line: str, moment: str
) -> None:
    write_model(model, delay_s=0.016)
    before = snapshot(production.repository)
    out = tmp_path / "out"
    words = ["gate", "--checkout", str(model), "--base", "main", *production.options, "--for", "1s", "--out", str(out)]
    command = [sys.executable, "-m", "tests.run.killed", line, moment, "--", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    recovered = here("recover", only_folder(out))
    assert recovered.code == 0, recovered.stderr
    assert production.ready() == ["echo"]
    assert snapshot(production.repository) == before
