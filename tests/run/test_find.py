"""find-max-load on a real Triton: a model whose capacity is known because it is made so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness.embedded import EmbeddedServer, build_repository
from harness.errors import UsageError
from harness.recording import read_table
from harness.run.execute import Result
from harness.run.operations.operate import operate
from harness.scenario import Operation, load
from tests.run.conftest import canary, only_folder

pytestmark = pytest.mark.triton

DELAY_S = 0.025
CAPACITY = 1 / DELAY_S
"""One instance that sleeps for so long with each request: 40/s, and not one more."""

MUCH_STEAL = 0.05
"""Of the machine's time, taken by other guests of its host."""

FIND = """
kind: find-max-load
name: find
target: {{url: "{url}"}}
model: tiny
between: [15/s, 60/s]
under: [{{metric: response_time.p90, max: 250ms}}, {{metric: errors, max: 5%}}]
trial: 5s
warm_up: 500ms
precision: 20%
repeats: 1
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    folder = tmp_path_factory.mktemp("one-instance")
    build_repository(folder / "models", {"tiny": {1: {"delay_ms": DELAY_S * 1e3}}})
    config = folder / "models" / "tiny" / "config.pbtxt"
    text = config.read_text()
    assert text.count("count: 4") == 1
    config.write_text(text.replace("count: 4", "count: 1"))
    with EmbeddedServer(folder / "models", folder / "server.log") as running:
        yield running.start({"tiny": [1]})


def sought(folder: Path, text: str, low: float, high: float) -> Result:
    """A search whose answer lies in [low, high]. A machine that others take away meanwhile can send no load: then it
    names none, holds nothing against the server, and is made again. Three in vain are right only where the kernel says
    that much of the machine was stolen.
    """
    before = psutil.cpu_times()
    for attempt in range(3):
        result = run(folder / str(attempt), text)
        found = {finding.metric: finding for finding in result.verdict.findings}["max_load"]
        if found.candidate is not None:
            assert low <= found.candidate <= high, result.verdict
            return result
        assert "could not be sent" in found.reason, result.verdict
        assert (result.verdict.verdict, found.outcome) == ("inconclusive", "inconclusive")
        assert result.verdict.needs.startswith("a load that this machine can send")
    passed = [now - then for now, then in zip(psutil.cpu_times(), before, strict=True)]
    assert passed[before._fields.index("steal")] > MUCH_STEAL * sum(passed), result.verdict
    return result


def run(folder: Path, text: str) -> Result:
    folder.mkdir(exist_ok=True)
    path = folder / "find.yaml"
    path.write_text(text)
    scenario = load(path)
    assert isinstance(scenario, Operation)
    return operate(scenario, folder / "out", lambda _line: None)


@pytest.mark.slow
def test_the_rate_that_one_instance_can_do(server: EmbeddedServer, tmp_path: Path) -> None:
    """Below its capacity: a queue that is nearly full makes requests wait. The machine may be slow, but no faster."""
    result = sought(tmp_path, FIND.format(url=server.grpc_url), 15, CAPACITY)
    seen = json.loads((result.folder / "observations.json").read_text())
    trials = seen["trials"]
    above = [one for one in trials if one["level"] >= 1.5 * CAPACITY]
    assert above or "behind" in {one["found"]["outcome"] for one in trials}, "more than the capacity was tried"
    assert {one["found"]["outcome"] for one in above} <= {"misses", "behind"}
    assert all(one["found"]["outcome"] != "holds" for one in trials if one["level"] > CAPACITY)
    for one in above:
        done = sum(block["done"] for block in one["blocks"]) / one["seconds"]
        assert done <= 1.1 * CAPACITY
    # Each trial is a stage of one generator, and counts what was recorded in it.
    samples = read_table(result.folder / "loads" / "load", "samples")
    assert samples is not None
    assert sum(block["due"] for one in trials for block in one["blocks"]) <= samples.num_rows
    assert "windows" not in seen or not seen["windows"]
    assert canary("judge", result.folder, "--json").verdict == json.loads((result.folder / "verdict.json").read_text())
    page = (result.folder / "report.html").read_text()
    assert "confirming" in page
    assert "response_time.p90 &lt; 250ms" in page


def test_requests_in_flight_are_sought_as_well(server: EmbeddedServer, tmp_path: Path) -> None:
    """With n in flight each takes n times the delay: 7 are 175 ms, 8 are 200 ms. One may take as long as seven."""
    text = FIND.format(url=server.http_url).replace("[15/s, 60/s]", "[1, 8]").replace("20%", "50%")
    text = text.replace("250ms", "200ms").replace("trial: 5s", "trial: 4s")
    result = sought(tmp_path, text, 1, 7)
    assert "in flight" in result.verdict.reason


def test_a_model_that_does_not_serve_leaves_nothing_behind(server: EmbeddedServer, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nobody: does not serve as asked"):
        run(tmp_path, FIND.format(url=server.grpc_url).replace("model: tiny", "model: nobody"))
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_the_built_in_one(tmp_path: Path) -> None:
    """Short and coarse: which rate it finds depends on the machine, that every trial is told does not."""
    short = ["--set", "between=[20/s, 200/s]", "--set", "precision=50%", "--set", "repeats=0"]
    done = canary("run", "max-rate", "--out", tmp_path, "--json", *short)
    assert done.code in (0, 1, 3), done.stderr
    assert done.verdict["findings"][0]["metric"] == "max_load"
    seen = json.loads((only_folder(tmp_path) / "observations.json").read_text())
    assert seen["finished"]
    assert seen["trials"]
