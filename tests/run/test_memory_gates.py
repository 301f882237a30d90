"""Limits on memory on a real Triton, of a model whose requests really take it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow.compute as pc
import pytest

from harness.embedded import EmbeddedServer, build_repository
from harness.recording import read_table
from harness.run.execute import Result, execute
from harness.run.operations.operate import operate
from harness.scenario import Operation, Scenario, load
from harness.telemetry.host import stub_of
from tests.run.conftest import canary
from tests.run.measured import measured

pytestmark = pytest.mark.triton

MIB = 2**20
HOLD_MB = 150
"""What each request takes while it is answered."""

CANARY = """
name: heavier-build
target: {server: embedded}
baseline: {model: tiny, version: 1, build: {delay_ms: 60, hold_mb: 300}}
candidate: {model: tiny, version: 2, build: {delay_ms: 60, hold_mb: 600}}
load: {timeout: 20s}
telemetry: {interval: 250ms}
gates:
  - {metric: memory.peak, GATE}
stages:
  - {mode: paired, in_flight: 1, for: 14s}
"""

FIND = """
kind: find-max-load
name: most-in-memory
target: {{url: "{url}", server_pid: {pid}}}
model: tiny
version: 1
between: [1, 4]
under: [{{metric: errors, max: 10%}}, {{metric: memory.peak, max: {limit}}}]
trial: 3s
warm_up: 500ms
repeats: 1
"""

AB = """
kind: ab-test
name: tunes
target: {{server_pid: {pid}}}
a: {{model: tiny, version: 1, url: "{url}"}}
b: {{model: tiny, version: 1, url: "{http}"}}
units: 60
load: {{rate: 8/s}}
for: 3s
warm_up: 500ms
limits: {{memory: {limit}}}
"""


def judged(folder: Path, gate: str) -> Result:
    path = folder / "heavier-build.yaml"
    path.write_text(CANARY.replace("GATE", gate))
    scenario = load(path)
    assert isinstance(scenario, Scenario)
    return measured(lambda out: execute(scenario, out, lambda _: None, lambda _: None), folder / "out")


def test_a_build_that_needs_a_fifth_more_than_its_gate_allows_is_rolled_back(tmp_path: Path) -> None:
    """Its instances hold 600 MiB while they answer, beside what Python takes: the gate allows 500."""
    result = judged(tmp_path, "max: 500MiB")
    assert result.error is None
    assert result.exit_code == 1
    assert result.verdict.reason.startswith("Peak memory of the processes of tiny/2 was ")
    assert re.search(r", limit 500 MiB; read every \d+\.\d ms,", result.verdict.reason)
    (found,) = (finding for finding in result.verdict.findings if finding.metric == "memory.peak")
    assert found.candidate is not None
    assert found.candidate > 1.2 * 500 * MIB
    readings = read_table(result.folder, "readings")
    assert readings is not None
    mine = pc.and_(pc.equal(readings["device"], "tiny/2"), pc.equal(readings["metric"], "memory.rss"))
    assert found.candidate <= pc.max(readings.filter(mine)["value"]).as_py(), "the sentence tells what was read"


@pytest.mark.slow
def test_against_the_baseline_it_is_rolled_back_too(tmp_path: Path) -> None:
    result = judged(tmp_path, "margin: 10%")
    assert result.error is None
    assert result.exit_code == 1
    assert result.verdict.reason.startswith("Peak memory is ")
    assert "higher on v2 than on v1" in result.verdict.reason


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    folder = tmp_path_factory.mktemp("held")
    build_repository(folder / "models", {"tiny": {1: {"delay_ms": 60, "hold_mb": HOLD_MB}}})
    with EmbeddedServer(folder / "models", folder / "server.log") as running:
        yield running.start({"tiny": [1]})


def operated(folder: Path, text: str) -> Result:
    path = folder / "operation.yaml"
    path.write_text(text)
    scenario = load(path)
    assert isinstance(scenario, Operation)
    return operate(scenario, folder / "out", lambda _line: None)


@pytest.mark.slow
def test_find_max_load_and_an_ab_test_that_break_their_limit(server: EmbeddedServer, tmp_path: Path) -> None:
    short = FIND.replace("trial: 3s", "trial: 1s")
    sought = operated(tmp_path, short.format(url=server.grpc_url, pid=server.pid, limit="64MiB"))
    assert sought.exit_code == 1
    assert sought.verdict.reason.startswith(
        "Even the low end misses: 1 in flight misses: peak memory of the processes of"
    )
    seen = json.loads((sought.folder / "observations.json").read_text())
    assert all(trial["memory"]["peaks"][0]["gap"] == "" for trial in seen["trials"])
    assert "Peaks of memory" in (sought.folder / "report.html").read_text()
    assert canary("judge", sought.folder, "--json").verdict == json.loads((sought.folder / "verdict.json").read_text())
    compared = operated(
        tmp_path, AB.format(pid=server.pid, url=server.grpc_url, http=server.http_url, limit="64MiB")
    )  # fmt: skip
    assert compared.exit_code == 1
    assert "Peak memory of the server's processes was " in compared.verdict.reason
    assert "limit 64 MiB" in compared.verdict.reason


@pytest.mark.slow
def test_the_highest_load_is_where_its_memory_ends(server: EmbeddedServer, tmp_path: Path) -> None:
    """Two requests at a time fit beside what four instances take at rest, three do not."""
    below = psutil.Process(server.pid).children(recursive=True)
    at_rest = sum(each.memory_info().rss for each in below if stub_of(each.cmdline()))
    limit = at_rest // MIB + 2 * HOLD_MB + HOLD_MB // 2
    result = operated(tmp_path, FIND.format(url=server.grpc_url, pid=server.pid, limit=f"{limit}MiB"))
    found = {finding.metric: finding for finding in result.verdict.findings}
    assert found["max_load"].candidate == 2, result.verdict
    assert found["memory.peak"].outcome == "pass"
    assert "misses: peak memory of the processes of tiny/1 was " in result.verdict.reason
