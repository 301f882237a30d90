"""night-batch on a Triton of somebody else: what it switches, what it proves, and what a kill at night leaves."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness.embedded import EmbeddedServer, build_repository
from harness.errors import UsageError
from harness.run.execute import Result
from harness.run.operations import operate as operating
from harness.run.operations.clock import Clock
from harness.run.operations.night import observe
from harness.run.operations.operate import operate
from harness.scenario import Operation, load
from harness.triton import Batching, Control
from tests.run.conftest import Background, canary, only_folder
from tests.waiting import until

pytestmark = pytest.mark.triton

DAY, NIGHT = Batching({"preferred_batch_size": [16]}), Batching({"preferred_batch_size": [16]}).changed(20_000)
NIGHT_BATCH = """
kind: night-batch
name: night
target: {{url: "{url}", repository: {repository}}}
model: batching
day: {{max_queue_delay: 0s}}
night: {{max_queue_delay: 20ms}}
realtime: {{rate: 40/s}}
batch: {{in_flight: 16}}
phase: {phase}
warm_up: 500ms
limits: {{gain: 1%, latency: 1000x, back: 100%}}
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    folder = tmp_path_factory.mktemp("night")
    build_repository(folder / "models", {"batching": {1: "fp16"}, "tiny": {1: "fp16"}})
    with EmbeddedServer(folder / "models", folder / "server.log") as server:
        yield server.start({"batching": [1], "tiny": [1]})


@pytest.fixture
def server(running: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddedServer:
    """By day. What is done to it is remembered in this test's own folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with Control(running.grpc_url) as control:
        control.set_batching("batching", DAY)
    return running


def served(server: EmbeddedServer) -> dict[int, Batching]:
    with Control(server.http_url) as control:
        return control.batching("batching")


def write(folder: Path, server: EmbeddedServer, more: str = "", phase: str = "3s") -> Path:
    path = folder / "night.yaml"
    path.write_text(NIGHT_BATCH.format(url=server.grpc_url, repository=server.repository, phase=phase) + more)
    return path


def run(path: Path, out: Path) -> Result:
    scenario = load(path)
    assert isinstance(scenario, Operation)
    return operate(scenario, out, lambda _line: None)


def outcomes(result: Result) -> dict[str, str]:
    return {finding.metric: finding.outcome for finding in result.verdict.findings}


def facts(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "observations.json").read_text())


def test_a_night_with_real_times_switches_under_load_and_gives_the_day_back(
    server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dusk and dawn come when a clock says so; it is looked at what serves while it is waited for each."""
    seen: list[tuple[str, dict[int, Batching]]] = []
    time = datetime.fromisoformat("2026-03-28T12:00:00+01:00")

    def sleep(seconds: float) -> None:
        nonlocal time
        seen.append((f"{time:%H:%M}", served(server)))
        time += timedelta(hours=5)

    monkeypatch.setitem(operating._OBSERVE, "night-batch", partial(observe, clock=Clock(lambda: time, sleep)))
    at = 'at: {dusk: "22:00", dawn: "06:00", zone: Europe/Berlin}\n'
    result = run(write(tmp_path, server, at), tmp_path / "out")
    found = outcomes(result)
    for metric in ("switch.dusk", "switch.dawn", "setting.night", "setting.day", "errors"):
        assert found[metric] == "pass", result.verdict
    # On a busy machine times say little: all the same nothing may be missing.
    assert set(found.values()) <= {"pass", "inconclusive", "fail"}
    assert {"gain.request_throughput", "drift.request_throughput", "paid.response_time.p95"} <= set(found)
    assert {"back.response_time.p50", "load.batch", "load.realtime"} <= set(found)
    assert seen == [("12:00", {1: DAY}), ("17:00", {1: DAY}), ("22:00", {1: NIGHT}), ("03:00", {1: NIGHT})]
    assert served(server) == {1: DAY}
    windows = {(one["load"], one["stage"]): one for one in facts(result.folder)["windows"]}
    assert len(windows) == 8
    assert {load for load, _ in windows} == {"realtime", "batch"}
    assert windows["batch", 7]["part"] == "dawn"
    assert 8 <= windows["batch", 3]["held"] <= 16
    assert sum(block["done"] for block in windows["batch", 3]["blocks"]) > 200
    assert (result.folder / "night" / "batch" / "samples.parquet").is_file()
    assert "during the switch" in (result.folder / "report.md").read_text()
    again = canary("judge", result.folder, "--json")
    assert again.verdict == json.loads((result.folder / "verdict.json").read_text())


@pytest.mark.slow
def test_killed_at_night_recover_puts_the_day_back(
    server: EmbeddedServer, tmp_path: Path, background: Background
) -> None:
    config = (server.repository / "batching" / "config.pbtxt").read_bytes()
    path, out = write(tmp_path, server), tmp_path / "out"
    night = background("run", path, "--out", out)
    until(lambda: served(server) == {1: NIGHT}, "the night's setting")
    night.kill()
    night.communicate()
    assert served(server) == {1: NIGHT}
    folder = only_folder(out)
    recovered = canary("recover", folder)
    assert recovered.code == 0, recovered.stderr
    assert served(server) == {1: DAY}
    verdict = json.loads((folder / "verdict.json").read_text())
    assert verdict["verdict"] == "inconclusive"
    assert canary("recover", folder).code == 0, "twice is harmless"
    assert (server.repository / "batching" / "config.pbtxt").read_bytes() == config


@pytest.mark.slow
def test_interrupted_in_the_switch_the_day_is_back_when_it_ends(
    server: EmbeddedServer, tmp_path: Path, background: Background
) -> None:
    night = background("run", write(tmp_path, server, phase="3s"), "--out", tmp_path / "out")
    state = tmp_path / "state"
    until(lambda: any("models.tune" in f.read_text() for f in state.rglob("journal.jsonl")), "the switch")
    night.terminate()
    _, stderr = night.communicate(timeout=120)
    assert night.returncode == 3, stderr
    assert "NOT PUT BACK" not in stderr
    assert served(server) == {1: DAY}


@pytest.mark.slow
@pytest.mark.alone
def test_two_deployments_are_measured_beside_one(server: EmbeddedServer, tmp_path: Path) -> None:
    shutil.copytree(server.repository / "batching", server.repository / "batching_jobs")
    config = server.repository / "batching_jobs" / "config.pbtxt"
    text = config.read_text().replace('name: "batching"', 'name: "batching_jobs"')
    config.write_text(re.sub(r"max_queue_delay_microseconds: \d+", "max_queue_delay_microseconds: 20000", text))
    with Control(server.grpc_url) as control:
        control.set_versions("batching_jobs", [1], repository=server.repository)
    result = run(write(tmp_path, server, "separate: {model: batching_jobs}\n"), tmp_path / "out")
    found = outcomes(result)
    assert {"a.request_throughput", "b.request_throughput", "trade.response_time.p95"} <= set(found)
    assert found["setting.day"] == found["switch.dusk"] == found["switch.dawn"] == "pass", result.verdict
    assert set(found.values()) <= {"pass", "inconclusive", "fail"}
    assert served(server) == {1: DAY}
    assert "B: two deployments" in (result.folder / "report.md").read_text()


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("", "max_batch_size is 0, so Triton's queue delay forms no batches of it: give batch jobs a deployment"),
        ("version: 7\n", "max_batch_size is 0"),
    ],
)
def test_a_model_that_forms_no_batches_is_told_to_have_two_deployments(
    server: EmbeddedServer, tmp_path: Path, more: str, expected: str
) -> None:
    path = write(tmp_path, server, more)
    path.write_text(path.read_text().replace("model: batching", "model: tiny"))
    with pytest.raises(UsageError, match=re.escape(expected)):
        run(path, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_another_setting_than_the_scenarios_day_is_not_touched(server: EmbeddedServer, tmp_path: Path) -> None:
    path = write(tmp_path, server)
    path.write_text(path.read_text().replace("max_queue_delay: 0s", "max_queue_delay: 1ms"))
    with pytest.raises(UsageError, match="which is not the scenario's day"):
        run(path, tmp_path / "out")
    assert served(server) == {1: DAY}
