"""Whatever dies: recorded samples survive, and traffic and models can be put back."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from harness.embedded import EmbeddedServer, build_repository
from harness.recording import Recording
from tests.processes import family, name
from tests.run.conftest import Background, canary, journal, only_folder
from tests.run.measured import measured
from tests.waiting import until

pytestmark = pytest.mark.triton
ROWS = 20


def samples_of(out: Path, stage: int) -> int:
    """How many samples of `stage` the run under `out` has on disk."""
    if not out.exists() or not list(out.iterdir()):
        return 0
    try:
        return Recording.open(only_folder(out)).samples["stage"].to_pylist().count(stage)
    except Exception:  # noqa: BLE001 - the folder is being made
        return 0


def reached(run: subprocess.Popen[str], out: Path, stage: int, rows: int = ROWS) -> bool:
    """Waits until `run`, which records under `out`, has `rows` samples of `stage` on disk, or has ended without."""
    until(lambda: samples_of(out, stage) >= rows or run.poll() is not None, f"{rows} samples of stage {stage}")
    return samples_of(out, stage) >= rows


def wait_for_samples(run: subprocess.Popen[str], out: Path, stage: int, rows: int = ROWS) -> Path:
    """The folder of `run`, once it has so many samples."""
    assert reached(run, out, stage, rows), run.communicate()
    return only_folder(out)


def in_stage(
    stage: int, start: Callable[[Path], subprocess.Popen[str]], out: Path
) -> tuple[subprocess.Popen[str], Path]:
    """A run that has samples of `stage` on disk, and its folder. Where this machine was too busy for the stages before,
    another one.
    """

    def once(folder: Path) -> tuple[subprocess.Popen[str], Path]:
        run = start(folder)
        reached(run, folder, stage)
        return run, folder

    run, folder = measured(once, out)
    return run, wait_for_samples(run, folder, stage)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """Somebody else's Triton: it outlives the harness."""
    folder = tmp_path_factory.mktemp("server")
    build_repository(folder / "models", {"tiny": {1: "fp16", 2: "same"}})
    with EmbeddedServer(folder / "models", folder / "server.log") as running:
        running.start(load={"tiny": [1]})
        yield running


def ready(server: EmbeddedServer) -> list[int]:
    index = httpx.post(f"{server.http_url}/v2/repository/index", timeout=30).json()
    return sorted(int(row["version"]) for row in index if row.get("state") == "READY")


def on(server: EmbeddedServer) -> list[str]:
    return [
        "--set", "target.server=", "--set", f"target.url={server.grpc_url}",
        "--set", "baseline.build=", "--set", "candidate.build=",
    ]  # fmt: skip


def test_sigkill_leaves_no_process_and_a_recording_that_can_be_judged(
    scenario: Path, tmp_path: Path, background: Background
) -> None:
    out = tmp_path / "out"
    run = background("run", scenario, "--out", out, "--set", "stages.0.for=120s")
    folder = wait_for_samples(run, out, 0)
    _, *below = family(run.pid)
    assert "tritonserver" in [name(process) for process in below]
    alive = canary("recover", folder)
    assert alive.code == 2
    assert "still alive" in alive.stderr
    acknowledged = Recording.open(folder).samples.num_rows
    run.kill()
    _, left = psutil.wait_procs(below, timeout=60)
    assert not left, "left behind"
    assert Recording.open(folder).samples.num_rows >= acknowledged
    judged = canary("judge", folder, "--json")
    assert judged.code == 3
    assert judged.verdict["verdict"] == "inconclusive"
    recovered = canary("recover", folder)
    assert recovered.code == 0, recovered.stderr
    assert (folder / "report.html").exists()
    assert canary("recover", folder).code == 0


def test_after_sigkill_recover_brings_traffic_and_models_back(
    scenario: Path, tmp_path: Path, background: Background, server: EmbeddedServer
) -> None:
    assert ready(server) == [1]
    words = (
        "run", scenario, *on(server), "--set", "stages.1.for=120s", "--set", "stages.0.for=5s",
        "--set", "gates=[{metric: errors, margin: 20pp}]",
    )  # fmt: skip
    run, folder = in_stage(1, lambda out: background(*words, "--out", out), tmp_path / "out")
    assert ready(server) == [1, 2]
    assert json.loads((folder / "split.json").read_text())["candidate_share"] == 0.2
    run.kill()
    run.wait()
    recovered = canary("recover", folder)
    assert recovered.code == 0, recovered.stderr
    assert ready(server) == [1]
    assert json.loads((folder / "split.json").read_text())["candidate_share"] == 0.0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_puts_everything_back_before_it_exits(
    scenario: Path, tmp_path: Path, background: Background, server: EmbeddedServer, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    run = background("run", scenario, "--out", out, *on(server), "--set", "stages.0.for=120s")
    folder = wait_for_samples(run, out, 0)
    assert ready(server) == [1, 2]
    run.send_signal(number)
    _, stderr = run.communicate(timeout=120)
    assert run.returncode == 3, stderr
    assert ready(server) == [1]
    assert json.loads((folder / "verdict.json").read_text())["verdict"] == "inconclusive"
    assert [line["action"] for line in journal(folder) if "undoes" in line]
    assert canary("recover", folder).code == 0
    assert ready(server) == [1]


def test_recover_says_what_it_could_not_put_back(scenario: Path, tmp_path: Path, background: Background) -> None:
    build_repository(tmp_path / "models", {"tiny": {1: "fp16", 2: "same"}})
    out = tmp_path / "out"
    with EmbeddedServer(tmp_path / "models", tmp_path / "server.log") as server:
        server.start(load={"tiny": [1]})
        run = background("run", scenario, "--out", out, *on(server), "--set", "stages.0.for=120s")
        folder = wait_for_samples(run, out, 0)
        run.kill()
        run.wait()
    recovered = canary("recover", folder)
    assert recovered.code == 4
    assert "NOT PUT BACK: models.set" in recovered.stderr
    assert "triton-canary recover" in recovered.stderr


def test_a_server_that_dies_is_the_worlds_failure_and_not_a_verdict(
    scenario: Path, tmp_path: Path, background: Background
) -> None:
    out = tmp_path / "out"
    run = background("run", scenario, "--out", out, "--set", "stages.0.for=120s")
    folder = wait_for_samples(run, out, 0)
    servers = [process for process in family(run.pid) if name(process) == "tritonserver"]
    assert servers
    for process in servers:
        process.kill()
    _, stderr = run.communicate(timeout=240)
    assert run.returncode == 4, stderr
    assert "Triton" in stderr
    assert "Traceback (most" not in stderr
    assert json.loads((folder / "verdict.json").read_text())["verdict"] == "inconclusive"
