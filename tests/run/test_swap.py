"""Versions that do not fit together, on a real Triton: one leaves before the other comes, and all is put back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.embedded import EmbeddedServer, add_version, build_repository
from harness.recording import Recording, stage_records
from tests.run.conftest import Background, canary, journal, only_folder
from tests.run.measured import last_folder, measured
from tests.run.places import Client, Place
from tests.waiting import until

pytestmark = pytest.mark.triton

SCENARIO = """
name: tiny-swap
target: {{url: "{url}", repository: {repository}, swap: true}}
baseline: {{model: tiny, version: 1}}
candidate: {{model: tiny, version: 2}}
load: {{timeout: 20s}}
gates:
  - {{metric: errors, margin: 20pp}}
stages:
  - {{mode: sequential, in_flight: 1, for: {seconds}s, cycles: 1}}
"""


@contextmanager
def place(folder: Path, seconds: float = 6) -> Iterator[Place]:
    """Version 1 serves; version 2 takes a moment to load."""
    repository = folder / "models"
    build_repository(repository, {"tiny": {1: "fp16"}})
    add_version(repository, "tiny", 2, {"load_s": 1})
    with EmbeddedServer(repository, folder / "server.log") as server:
        server.start({"tiny": [1]})
        scenario = folder / "tiny-swap.yaml"
        scenario.write_text(SCENARIO.format(url=server.grpc_url, repository=repository, seconds=seconds))
        yield Place(server, repository, folder, scenario)


def test_one_version_leaves_before_the_other_comes_and_is_back_in_the_end(tmp_path: Path) -> None:
    with place(tmp_path) as there:
        done = measured(lambda out: canary("run", there.scenario, "--out", out), tmp_path / "out")
        assert done.code == 0, done.stderr
        assert there.ready() == [1]
    folder = last_folder(tmp_path / "out")
    swaps = [
        (e["before"], e["wanted"]) for e in journal(folder) if (e["action"], e["state"]) == ("models.swap", "done")
    ]
    assert swaps == [([1], []), ([], [2]), ([2], []), ([], [1])]
    recording = Recording.open(folder)
    samples = recording.samples.to_pandas()
    assert set(samples.status) == {"ok"}, "nothing is asked while nobody serves"
    by_stage = [set(samples[samples.stage == r.plan.index].version) for r in stage_records(recording.meta)]
    assert by_stage == [{"1"}, {"2"}, {"2"}, {"1"}]


def test_sigkill_in_the_candidates_turn_then_recover(tmp_path: Path, background: Background) -> None:
    out = tmp_path / "out"
    with place(tmp_path, seconds=400) as there:
        run = background("run", there.scenario, "--out", out, "--set", "stages.0.cycles=25")
        until(lambda: there.ready() == [2], "version 2 serves alone")
        run.kill()
        run.wait()
        recovered = canary("recover", only_folder(out))
        assert recovered.code == 0, recovered.stderr
        assert there.ready() == [1]
    put_back = [e for e in journal(only_folder(out)) if e.get("undoes") is not None and e["state"] == "done"]
    assert [(e["action"], e["wanted"]) for e in put_back] == [("models.swap", [1])]
    assert json.loads((only_folder(out) / "verdict.json").read_text())["verdict"] == "inconclusive"


def test_what_others_ask_is_not_taken_away(tmp_path: Path) -> None:
    with place(tmp_path) as there, Client(there.server.http_url) as client:
        until(lambda: bool(client.answers), "a client is answered")
        done = canary("run", there.scenario, "--out", tmp_path / "out")
        assert there.ready() == [1]
    assert done.code != 0
    assert "target.swap needs a server that nobody else uses" in done.stderr
    assert {status for _, status, _ in client.answers} == {200}
