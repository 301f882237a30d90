"""After failures that may have ended a version, the run asks whether it still serves: on a real Triton."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from harness.embedded import EmbeddedServer, build_repository, change_settings
from harness.errors import WorldError
from harness.judge.errors.recovery import RECOVERED
from harness.run import recovered
from harness.run.recovered import Recovery, suspects
from harness.telemetry import Value
from harness.triton import Control
from harness.types import Arm, Sample
from tests.judge.worlds import plan, sample, table
from tests.run.conftest import canary, only_folder

pytestmark = pytest.mark.triton
OUT_OF_MEMORY = {"status": "oom", "error": "out of memory"}
DIED = {"status": "error", "error": "stub died"}
BROKEN = {"status": "error", "error": "connection broken"}
STAGE = plan(0, "paired", 6.0)


class Asked:
    """A Recovery of the versions of `tiny` on one server; what it recorded and what it said."""

    def __init__(self, url: str) -> None:
        self.recorded: list[Value] = []
        self.said: list[str] = []
        arms = {"baseline": Arm(url, "tiny", version=1), "candidate": Arm(url, "tiny", version=2)}
        self.controls = {name: Control(url) for name in arms}
        target: Any = SimpleNamespace(arms=arms, controls=self.controls)
        sampler: Any = SimpleNamespace(record=self.recorded.append)
        self.recovery = Recovery(target, sampler, self.said.append)

    def after(self, *samples: Sample, stage: Any = STAGE) -> dict[str, float]:
        """What is known of each arm that was asked."""
        self.recorded.clear()
        self.said.clear()
        self.recovery.begin(stage, table(samples))
        self.recovery.wait()
        return {value.device: value.value for value in self.recorded if value.metric == RECOVERED}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    build_repository(folder, {"tiny": {1: "fp16", 2: {"delay_ms": 1}}})
    return folder


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(repository, tmp_path_factory.mktemp("log") / "triton.log") as running:
        yield running.start({"tiny": [1, 2]})


@pytest.fixture
def asked(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    monkeypatch.setattr(recovered, "PATIENCE_S", 2.0)
    made = Asked(server.grpc_url)
    yield made
    made.recovery.close()
    for control in made.controls.values():
        control.close()


def failed(arm: str, more: dict[str, str], stage: int = 0) -> Sample:
    return sample(arm, 1, 1.0, 0.1, stage=stage, **more)


def test_only_what_may_have_ended_a_version_is_asked_after() -> None:
    rows = [
        failed("candidate", OUT_OF_MEMORY), failed("candidate", DIED), failed("baseline", DIED, stage=1),
        failed("baseline", {"status": "timeout", "error": "deadline"}), sample("baseline", 2, 1.0, 0.1),
    ]  # fmt: skip
    assert suspects(table(rows), 0) == {"candidate": frozenset({"out of memory", "stub died"})}
    assert suspects(table(rows), 2) == {}


def test_nobody_is_asked_without_reason(asked: Asked) -> None:
    assert asked.after(sample("candidate", 1, 1.0, 0.1)) == {}
    assert asked.after(failed("candidate", {"status": "timeout", "error": "deadline"})) == {}
    assert asked.after(failed("candidate", DIED), stage=plan(0, "split", 6.0, purpose="warm-up")) == {}
    assert asked.recovery.probed("candidate") == 0


def test_out_of_memory_and_it_serves_on(asked: Asked, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory is there again in a moment: until then the probe itself runs out of it."""
    monkeypatch.setattr(recovered, "PATIENCE_S", 60.0)
    change_settings(repository, 2, hold_mb=64, limit_mb=32)
    asked.recovery.begin(STAGE, table([failed("candidate", OUT_OF_MEMORY)]))
    deadline = time.monotonic() + 60
    while asked.recovery.probed("candidate") < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert asked.recovery.probed("candidate") >= 2
    (repository / "tiny/2/settings.json").unlink()
    asked.recovery.wait()
    known = {value.metric: value.value for value in asked.recorded if value.device == "candidate"}
    assert known[RECOVERED] == known["recovered.live"] == known["recovered.ready"] == 1
    assert known["recovered.after"] > 0
    assert "tiny version 2 serves" in asked.said[0]


def test_out_of_memory_for_good(asked: Asked, repository: Path) -> None:
    change_settings(repository, 2, hold_mb=64, limit_mb=32)
    assert asked.after(failed("candidate", OUT_OF_MEMORY), failed("baseline", OUT_OF_MEMORY)) == {
        "candidate": 0.0,
        "baseline": 1.0,
    }
    (repository / "tiny/2/settings.json").unlink()
    assert any("does not serve any more" in line and "Unable to allocate 64.0 MiB" in line for line in asked.said)


def test_where_nobody_says_whose_it_was_both_are_asked(asked: Asked) -> None:
    assert asked.after(failed("unknown", BROKEN)) == {"baseline": 1.0, "candidate": 1.0}


def test_one_that_answers_too_slowly_for_a_row_is_not_known(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovered, "ROW_S", 0.0)
    assert asked.after(failed("candidate", DIED), failed("baseline", OUT_OF_MEMORY)) == {"baseline": 1.0}
    assert asked.recovery.probed("candidate") == 1


def test_who_stops_gets_no_answer(asked: Asked, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovered, "PATIENCE_S", 600.0)
    change_settings(repository, 2, hold_mb=64, limit_mb=32)
    asked.recovery.begin(STAGE, table([failed("candidate", OUT_OF_MEMORY)]))
    with pytest.raises(WorldError, match="enough"):
        asked.recovery.wait(_enough)
    asked.recovery.close()
    assert (asked.recorded, asked.said) == ([], [])
    (repository / "tiny/2/settings.json").unlink()


def _enough() -> None:
    raise WorldError("enough")


def test_one_dead_stub_of_four_is_found_though_the_others_answer(asked: Asked, repository: Path) -> None:
    change_settings(repository, 2, crash=True)
    with Control(asked.controls["candidate"].url) as control, pytest.raises(WorldError, match="not healthy"):
        control.probe("tiny", 2)
    (repository / "tiny/2/settings.json").unlink()
    assert asked.after(failed("candidate", DIED), failed("baseline", BROKEN)) == {"candidate": 0.0, "baseline": 1.0}
    known = {value.metric: value.value for value in asked.recorded if value.device == "candidate"}
    assert known["recovered.ready"] == 1, "Triton 2.51 calls it READY all the same"
    assert any("Stub process" in line for line in asked.said)


def test_a_server_that_is_gone(asked: Asked, server: EmbeddedServer) -> None:
    """The last one of this file that needs the server."""
    os.kill(server.pid, signal.SIGKILL)
    assert asked.after(failed("candidate", BROKEN)) == {"candidate": 0.0}
    assert {value.value for value in asked.recorded if value.metric == "recovered.live"} == {0.0}


# ---------------------------------------------------------------- whole runs


def run(scenario: Path, out: Path, *changes: str) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """The verdict, its findings by metric, and the samples."""
    done = canary("run", scenario, "--out", out, "--json", *(part for change in changes for part in ("--set", change)))
    assert done.code == 1, done.stderr
    samples = pq.read_table(only_folder(out) / "samples.parquet").to_pandas()
    assert (samples[samples.arm == "baseline"].status == "ok").all()
    return done.verdict, {f["metric"]: f for f in done.verdict["findings"]}, samples


def classes(samples: Any) -> set[tuple[str, str]]:
    rows = samples[(samples.arm == "candidate") & (samples.status != "ok")]
    return set(zip(rows.status, rows.error, strict=True))


@pytest.mark.slow
def test_a_candidate_that_runs_out_of_memory_is_rolled_back_and_serves_on(scenario: Path, tmp_path: Path) -> None:
    verdict, found, samples = run(
        scenario, tmp_path / "out", "candidate.build={hold_mb: 64, limit_mb: 32, heavy: 0.4}", "stages.0.for=60s",
    )  # fmt: skip
    assert verdict["verdict"] == "rollback"
    assert "most often out of memory" in found["errors"]["reason"]
    assert found["errors.out of memory"]["outcome"] == "pass"
    assert classes(samples) == {("oom", "out of memory")}
    assert found["recovery"]["outcome"] == "pass"
    assert "v2 served again" in found["recovery"]["reason"]
    assert found["traffic.strays"]["outcome"] == "pass", "a probe of ours is nobody's stray"


@pytest.mark.slow
def test_a_candidate_whose_stubs_die_is_rolled_back_and_does_not_come_back(scenario: Path, tmp_path: Path) -> None:
    """Each request takes a second then: too few for the errors gate to be sure, and enough for this. It stays loaded:
    Triton 2.51 takes a minute to unload a version whose stubs are dead.
    """
    scenario.write_text(scenario.read_text().replace(", unload: candidate", ""))
    verdict, found, samples = run(scenario, tmp_path / "out", "candidate.build={crash: true}")
    assert verdict["verdict"] == "rollback"
    assert classes(samples) == {("error", "stub died")}
    assert found["recovery"]["outcome"] == "fail"
    assert "was READY and did not answer" in found["recovery"]["reason"]
    readings = pq.read_table(only_folder(tmp_path / "out") / "readings.parquet").to_pandas()
    assert np.all(readings[(readings.metric == RECOVERED) & (readings.device == "candidate")].value == 0)
    meta = json.loads((only_folder(tmp_path / "out") / "run.json").read_text())
    assert meta["recovery"] == ["baseline", "candidate"]


@pytest.mark.slow
def test_a_candidate_that_times_out_is_not_called_out_of_memory(scenario: Path, tmp_path: Path) -> None:
    verdict, found, samples = run(
        scenario, tmp_path / "out", "candidate.build={delay_ms: 4000}", "load.timeout=2s", "stages.0.in_flight=4",
        "stages.0.for=60s",
    )  # fmt: skip
    assert verdict["verdict"] == "rollback"
    assert classes(samples) <= {("timeout", "deadline"), ("cancelled", "cancelled")}
    assert "deadline" in found["errors"]["reason"]
    assert not [metric for metric in found if "memory" in metric or metric.startswith("recovery")]
