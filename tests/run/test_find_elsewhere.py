"""find-max-load on a front end that speaks no KServe, with workers; and what a kill of it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import WorldError
from harness.recording import read_table, write_observations
from harness.run.folder import RunFolder
from harness.run.operations.loads import Drive
from harness.run.operations.operate import operate
from harness.run.recover import recover
from harness.run.setting import describe_operation
from harness.scenario import Operation, load
from tests.load.openai_front_end import OpenAiFrontEnd

FIND = """
kind: find-max-load
name: find
target: {{url: "{url}"}}
model: echo
api: openai
prompts: p.jsonl
max_tokens: 2
headers: {{X-Tenant: secret-tenant}}
parameters: {{endpoint: completions}}
workers: 2
connections: 4
between: [2, 4]
under: [{{metric: response_time.p50, max: 50ms}}, {{metric: errors, max: 50%}}]
trial: 2s
warm_up: 500ms
precision: 50%
repeats: 0
"""


def scenario(folder: Path, url: str) -> Operation:
    (folder / "p.jsonl").write_text('{"prompt": "one two three"}\n')
    path = folder / "find.yaml"
    path.write_text(FIND.format(url=url))
    found = load(path)
    assert isinstance(found, Operation)
    return found


def test_an_openai_front_end_is_asked_as_a_canary_asks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody there answers KServe's questions. Two workers share the load, and no prompt comes twice."""
    monkeypatch.setenv("TRITON_CANARY_HEADERS", "x-tenant: another\nX-Team: ours")
    with OpenAiFrontEnd() as front_end:
        result = operate(scenario(tmp_path, front_end.url), tmp_path / "out", lambda _line: None)
    assert result.error is None
    facts = json.loads((result.folder / "observations.json").read_text())
    trials = facts["trials"]
    assert sum(block["done"] for one in trials for block in one["blocks"]) > 20
    assert not any(block["failed"] for one in trials for block in one["blocks"])
    prompts = [body["prompt"] for _, body in front_end.seen]
    assert len(set(prompts)) == len(prompts)
    assert all(prompt.endswith(" one two three") for prompt in prompts)
    headers = {name.lower(): value for name, value in front_end.seen[0][0].items()}
    assert (headers["x-tenant"], headers["x-team"]) == ("secret-tenant", "ours")
    samples = read_table(result.folder / "loads" / "load", "samples")
    assert samples is not None
    assert set(samples["worker"].to_pylist()) == {0, 1}
    told = trials[-1]["window"]["generator"]
    assert set(told["workers"]) == {"worker0", "worker1"}
    assert all(figures["cpu"] and figures["stall_max"] for figures in told["workers"].values())
    assert told["host_cpu"]
    assert "secret-tenant" not in (result.folder / "run.json").read_text()


def test_a_load_worker_that_is_lost_ends_the_operation(tmp_path: Path) -> None:
    """Nobody would send its share: every figure after that is of another load."""
    generator: Any = SimpleNamespace(
        events=lambda _wait_s: [], roster=SimpleNamespace(lost=["load worker 1 on here was killed (SIGKILL)"])
    )
    asked: Any = None
    with pytest.raises(WorldError, match=r"load worker 1 on here was killed .SIGKILL.: nobody sends its share"):
        Drive(asked, tmp_path, generator, asked).poll()


def test_a_find_that_was_killed_is_concluded(tmp_path: Path) -> None:
    """It has an address and no repository: there is nothing to put back."""
    wanted = scenario(tmp_path, "http://127.0.0.1:1")
    folder = RunFolder.create(tmp_path / "out", wanted.name, describe_operation(wanted))
    write_observations(folder.path, {"format": 1, "kind": wanted.kind, "finished": False})
    verdict, failures = recover(folder.path, lambda _line: None)
    assert (verdict.verdict, failures) == ("inconclusive", [])
    assert (folder.path / "report.md").is_file()
