"""multi-model-server: two models of one real Triton under loads of their own, alone and together."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.embedded import EmbeddedServer, build_repository
from harness.errors import UsageError
from harness.recording import read_table
from harness.run.execute import Result
from harness.run.operations.operate import operate
from harness.scenario import Operation, load
from tests.processes import family, name
from tests.run.conftest import Background, canary, only_folder
from tests.waiting import until

pytestmark = pytest.mark.triton

PHASE_S = 3.0
TWO = """
kind: multi-model-server
name: two
target: {{server_pid: {pid}}}
models:
  small: {{model: tiny, url: "{http}", rate: 30/s}}
  large: {{model: batching, url: "{grpc}", in_flight: 2}}
phase: {seconds:g}s
warm_up: 500ms
limits: {{latency: 1000x, throughput: 99%, drift: 99%, errors: 3%}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    folder = tmp_path_factory.mktemp("two-models")
    build_repository(folder / "models", {"batching": {1: "fp16"}, "tiny": {1: "fp16"}})
    with EmbeddedServer(folder / "models", folder / "server.log") as running:
        yield running.start({"batching": [1], "tiny": [1]})


def run(folder: Path, text: str) -> Result:
    path = folder / "two.yaml"
    path.write_text(text)
    scenario = load(path)
    assert isinstance(scenario, Operation)
    return operate(scenario, folder / "out", lambda _line: None)


def written(server: EmbeddedServer) -> str:
    return TWO.format(pid=server.pid, http=server.http_url, grpc=server.grpc_url, seconds=PHASE_S)


def facts(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "observations.json").read_text())


def test_each_alone_then_together_then_alone_again(server: EmbeddedServer, tmp_path: Path) -> None:
    result = run(tmp_path, written(server))
    found = {finding.metric: finding.outcome for finding in result.verdict.findings}
    for metric in ("small.errors", "large.errors", "memory.peak"):
        assert found[metric] == "pass", result.verdict
    assert {found["small.load"], found["large.load"]} <= {"pass", "inconclusive"}, "the machine may be busy"
    assert {"small.response_time.p50", "large.response_time.p95", "large.request_throughput"} <= set(found)
    assert "no data" not in found.values(), result.verdict
    seen = facts(result.folder)
    assert [phase["models"] for phase in seen["phases"]] == [
        ["small"], ["large"], ["small", "large"], ["large"], ["small"],
    ]  # fmt: skip
    windows = {(one["load"], one["stage"]): one for one in seen["windows"]}
    assert set(windows) == {("small", 0), ("large", 1), ("small", 2), ("large", 2), ("large", 3), ("small", 4)}
    together = [windows["small", 2], windows["large", 2]]
    ends = [one["begin_s"] + one["seconds"] for one in together]
    assert min(ends) - max(one["begin_s"] for one in together) > PHASE_S / 2, "both at once"
    peaks = [peak for read in seen["memory"] for peak in read["peaks"]]
    assert [peak["name"] for peak in peaks] == ["the server's processes"] * 5
    assert all(peak["blocks"] and not peak["gap"] and peak["used"] < peak["capacity"] for peak in peaks)
    # What is counted is what was recorded: a load's own folder holds every request of all of its phases.
    for load_name in ("small", "large"):
        samples = read_table(result.folder / "loads" / load_name, "samples")
        assert samples is not None
        counted = sum(block["due"] for (of, _), one in windows.items() if of == load_name for block in one["blocks"])
        assert 0 < counted < samples.num_rows
        assert set(samples["model"].to_pylist()) == {{"small": "tiny", "large": "batching"}[load_name]}
    assert canary("judge", result.folder, "--json").verdict == json.loads((result.folder / "verdict.json").read_text())
    page = (result.folder / "report.html").read_text()
    assert "small and large" in page
    assert "3: " in page


def test_a_model_that_does_not_serve_leaves_nothing_behind(server: EmbeddedServer, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nobody: does not serve as asked"):
        run(tmp_path, written(server).replace("model: tiny", "model: nobody"))
    assert not list((tmp_path / "out").iterdir())


def test_prompts_are_for_a_model_with_a_text_input(server: EmbeddedServer, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "One?"}\n')
    with pytest.raises(UsageError, match="tiny: prompts are for a model with one text input; it has 0"):
        run(tmp_path, written(server).replace("rate: 30/s", "rate: 30/s, prompts: p.jsonl"))


@pytest.mark.slow
def test_interrupted_it_says_what_was_seen_and_leaves_no_process(
    server: EmbeddedServer, tmp_path: Path, background: Background
) -> None:
    (tmp_path / "two.yaml").write_text(written(server).replace("phase: 3s", "phase: 60s"))
    process = background("run", tmp_path / "two.yaml", "--out", tmp_path / "out")
    until(lambda: any((tmp_path / "out").rglob("samples*.arrow")), "the first samples")
    below = family(process.pid)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 3, stderr
    verdict = json.loads((only_folder(tmp_path / "out") / "verdict.json").read_text())
    assert verdict["verdict"] == "inconclusive"
    assert "SIGTERM" in verdict["reason"]
    _, left = psutil.wait_procs(below[1:], timeout=60)
    assert not [name(each) for each in left]


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.weights
def test_an_embedding_model_beside_a_language_model(tmp_path: Path) -> None:
    """The built-in one, with short phases: what it finds depends on the machine, that it finds something does not."""
    done = canary("run", "multi-model-server", "--out", tmp_path, "--set", "phase=6s", "--set", "warm_up=1s", "--json")
    assert done.code in (0, 1, 3), done.stderr
    found = {finding["metric"]: finding["outcome"] for finding in done.verdict["findings"]}
    assert {"embedding.response_time.p50", "llm.ttft.p50", "llm.tpot.p50", "llm.output_token_throughput"} <= set(found)
    assert found["embedding.errors"] == found["memory.peak"] == "pass", done.verdict
    assert found["llm.errors"] in ("pass", "inconclusive"), "short phases are few requests"
    seen = facts(only_folder(tmp_path))
    assert seen["models"]["embedding"]["url"].startswith("http://")
    assert seen["models"]["llm"]["url"].startswith("grpc://")
    tokens = sum(block["tokens"] for one in seen["windows"] if one["load"] == "llm" for block in one["blocks"])
    assert tokens > 0
