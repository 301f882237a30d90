"""long-context on a real Triton and a real language model, whose key-value cache really runs out of memory."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.embedded import EmbeddedServer, build_repository
from harness.errors import CanaryError
from harness.recording import read_table
from harness.run.execute import Result
from harness.run.operations.conclude import judge_again
from harness.run.operations.operate import operate
from harness.scenario import Operation, load
from harness.triton import Control
from tests.run.conftest import canary, only_folder

pytestmark = [pytest.mark.triton, pytest.mark.weights, pytest.mark.slow]

REST, LIMIT = 384, 406
"""MiB: what an instance with ten layers has allocated at rest, and what it may. All contexts are within one block of
the prefill (256 tokens): beyond it the memory that a computation needs for a moment grows no more.
"""
SCENARIO = f"""
kind: long-context
name: long
target: {{server: embedded}}
candidate: {{model: smollm2_batched, version: 2, build: {{layers: 10, memory: {LIMIT}MiB}}, kv_bits: 32}}
goal: {{context: 232, batch: 4}}
contexts: [64, 112, 160, 224]
batches: [1, 2, 3]
max_tokens: 4
repeats: 1
limits: {{memory: 99.5%, edge: 10%}}
on_oom: {{reduce: max_batch_size}}
"""


def run(folder: Path, text: str, *overrides: str) -> tuple[Result, dict[str, Any], list[str]]:
    path, said = folder / "long.yaml", list[str]()
    path.write_text(text)
    scenario = load(path, overrides)
    assert isinstance(scenario, Operation)
    result = operate(scenario, folder / "out", said.append)
    return result, json.loads((result.folder / "observations.json").read_text()), said


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, dict[str, Any], list[str]]:
    return run(tmp_path_factory.mktemp("long"), SCENARIO)


def test_the_goal_really_runs_out_of_memory_and_a_smaller_batch_is_verified(
    done: tuple[Result, dict[str, Any], list[str]],
) -> None:
    result, facts, _ = done
    by = {finding.metric: finding for finding in result.verdict.findings}
    assert result.error is None
    assert result.verdict.verdict == "promote", result.verdict
    assert by["memory.goal"].outcome == by["memory.ramp"].outcome == by["memory.fit"].outcome == "pass"
    action = facts["action"]
    assert action["before"] == 4
    assert action["to"] == action["reads"] == int(result.verdict.reason.split("max_batch_size is ")[1].split()[0])
    assert 1 <= action["to"] < 4
    assert action["refuses_more"]
    assert f"max_batch_size: {action['to']}" in (result.folder / "models/smollm2_batched/config.pbtxt").read_text()
    assert facts["after"] == {"smollm2_batched": [2]}


def test_what_failed_was_numpys_own_error_and_the_server_lived(
    done: tuple[Result, dict[str, Any], list[str]],
) -> None:
    result, facts, _ = done
    arm = facts["arms"]["candidate"]
    short = [point for point in arm["points"] if point["outcome"] != "ok"]
    assert short
    for point in short:
        assert point["outcome"] == "out of memory"
        assert "Unable to allocate" in point["error"]
        assert point["recovered_s"] is not None
    assert {f.metric: f for f in result.verdict.findings}["recovery"].outcome == "pass"
    assert arm["watched"]["what"] == "what the instance has allocated, within its hard limit"
    assert arm["watched"]["capacity"] == {"smollm2_batched/2": LIMIT * 2.0**20}


def test_the_edge_is_where_it_was_foretold(done: tuple[Result, dict[str, Any], list[str]]) -> None:
    result, _, _ = done
    edge = {finding.metric: finding for finding in result.verdict.findings}["memory.edge"]
    assert edge.outcome == "pass", edge.reason
    assert edge.interval is not None
    answered, not_answered = edge.interval
    assert answered
    assert not_answered
    assert not_answered / answered <= 1.25
    assert edge.effect == pytest.approx((answered + not_answered) / 2, rel=0.1)


def test_every_point_was_measured_alone_and_nothing_is_hidden_between_polls(
    done: tuple[Result, dict[str, Any], list[str]],
) -> None:
    result, facts, _ = done
    points = facts["arms"]["candidate"]["points"]
    assert [point["tokens"] for point in points if point["phase"] == "ladder"]
    assert all(abs(point["tokens"] - point["context"]) <= 2 for point in points)
    for point in points:
        (peak,) = point["peak"].values()
        assert point["high_water"]
        assert REST * 0.99 <= peak / 2**20 <= LIMIT * 1.01
    ladder = {
        (point["context"], point["batch"]): max(point["peak"].values())
        for point in points
        if point["phase"] == "ladder"
    }
    assert ladder[224, 2] > ladder[224, 1] > ladder[64, 1]
    readings = read_table(result.folder, "readings")
    assert readings is not None
    assert "memory.data" in readings["metric"].to_pylist()


def test_the_same_verdict_from_the_folder_and_a_page_that_shows_the_table(
    done: tuple[Result, dict[str, Any], list[str]],
) -> None:
    result, _, _ = done
    assert judge_again(result.folder)[0] == result.verdict
    page = (result.folder / "report.html").read_text()
    assert "Context by batch" in page
    assert "does not" in page
    assert "not measured: KV cache in 8 bits instead of 32" in page
    shown = canary("report", result.folder)
    assert shown.code == 0, shown.stderr


# ------------------------------------------------------------ a Triton of somebody else's


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[EmbeddedServer]:
    build_repository(tmp_path / "models", {"smollm2_batched": {1: {"layers": 1}, 2: {"layers": 1}}})
    with EmbeddedServer(tmp_path / "models", tmp_path / "server.log") as server:
        yield server.start({"smollm2_batched": [1]})


def test_versions_that_users_ask_are_not_taken_away(theirs: EmbeddedServer, tmp_path: Path) -> None:
    over = threading.Event()

    def users() -> None:
        with Control(theirs.grpc_url) as control:
            while not over.is_set():
                control.probe("smollm2_batched", 1)

    user = threading.Thread(target=users)
    user.start()
    try:
        text = SCENARIO.replace("server: embedded", f'url: "{theirs.grpc_url}", repository: models').replace(
            f"build: {{layers: 10, memory: {LIMIT}MiB}}, ", ""
        )
        with pytest.raises(CanaryError, match="on a server that nobody else asks"):
            run(tmp_path, text)
    finally:
        over.set()
        user.join()
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
    with Control(theirs.grpc_url) as control:
        assert control.loaded("smollm2_batched") == (1,)


def asked_and_counted(control: Control, times: int) -> None:
    """Triton counts a request after it has answered it: of `times`, at least all but one by now, of ours perhaps one.

    The version that is measured is the only one that is loaded.
    """
    before = total(control)
    for _ in range(times):
        control.probe("smollm2_batched", None)
    deadline = time.monotonic() + 60
    while total(control) < before + times:
        assert time.monotonic() < deadline, "Triton has not counted what it answered"
        time.sleep(0.05)


def total(control: Control) -> int:
    return sum(counts.success for counts in control.counts("smollm2_batched").values())


def test_who_begins_to_ask_in_the_middle_of_it_ends_it(theirs: EmbeddedServer, tmp_path: Path) -> None:
    """And finds again what served before."""
    path = tmp_path / "long.yaml"
    path.write_text(
        SCENARIO.replace("server: embedded", f'url: "{theirs.grpc_url}", repository: models').replace(
            f"build: {{layers: 10, memory: {LIMIT}MiB}}, ", ""
        )
    )
    scenario = load(path)
    assert isinstance(scenario, Operation)

    def says(line: str) -> None:
        if line.startswith("candidate: 64 tokens, batch 1"):
            with Control(theirs.grpc_url) as control:
                asked_and_counted(control, 3)

    result = operate(scenario, tmp_path / "out", says)
    assert "of somebody else reached smollm2_batched version 2" in str(result.error)
    assert result.verdict.verdict == "inconclusive"
    with Control(theirs.grpc_url) as control:
        assert control.loaded("smollm2_batched") == (1,)


def test_time_outs_are_no_oom_and_what_served_before_serves_again(theirs: EmbeddedServer, tmp_path: Path) -> None:
    """Version 2 is loaded alone, while 1 served; its server process is named, for the memory."""
    text = SCENARIO.replace(
        "server: embedded", f'url: "{theirs.grpc_url}", repository: models, server_pid: {theirs.pid}'
    ).replace(f"build: {{layers: 10, memory: {LIMIT}MiB}}, ", "")
    result, facts, _ = run(
        tmp_path, text, "timeout=1s", "contexts=[1500, 1600]", "batches=[1, 2, 3, 4]", "limits.edge=0%",
        "goal.context=3000", "goal.batch=4",
    )  # fmt: skip
    points = facts["arms"]["candidate"]["points"]
    assert {point["outcome"] for point in points} <= {"ok", "time-out"}
    assert [point for point in points if point["outcome"] == "time-out"]
    assert result.verdict.verdict == "inconclusive", result.verdict
    assert "no OOM" in " ".join(finding.reason for finding in result.verdict.findings)
    assert facts["after"] == {"smollm2_batched": [1]}
    assert "resident memory of the instance" in facts["arms"]["candidate"]["watched"]["what"]


def test_by_the_command_it_says_what_is_above_its_limit_and_leaves_nothing_behind(
    theirs: EmbeddedServer, tmp_path: Path
) -> None:
    """A limit in bytes that is below what it takes to be there at all: every point is measured, and it says so."""
    text = SCENARIO.replace(
        "server: embedded", f'url: "{theirs.grpc_url}", repository: models, server_pid: {theirs.pid}'
    ).replace(f"build: {{layers: 10, memory: {LIMIT}MiB}}, ", "")
    (tmp_path / "long.yaml").write_text(text)
    done = canary(
        "run", tmp_path / "long.yaml", "--out", tmp_path / "out", "--json", "--set", "contexts=[48, 64, 80, 96]",
        "--set", "goal={context: 96, batch: 1}", "--set", "limits={memory: 10MiB, edge: 0%}",
    )  # fmt: skip
    assert done.code == 1, done.stderr
    assert "more than" in done.verdict["reason"]
    assert json.loads((only_folder(tmp_path / "out") / "observations.json").read_text())["after"] == {
        "smollm2_batched": [1]
    }
    short = canary("run", tmp_path / "long.yaml", "--out", tmp_path / "short", "--set", "goal.context=60")
    assert short.code == 2, short.stderr
    assert "30 tokens have no room for a word" in short.stderr
    with Control(theirs.grpc_url) as control:
        assert control.loaded("smollm2_batched") == (1,)
