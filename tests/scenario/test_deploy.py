"""The sections `store` and `deploy`: what fits together, and what is said of it before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ScenarioError
from harness.scenario import describe, load

FOREIGN = """\
name: mine
target: {url: "grpc://triton:8001", repository: models}
store: {url: "s3://models/prod", endpoint: "https://s3.example"}
baseline: {model: llm, version: 1}
candidate: {model: llm, version: 2}
deploy: {in_flight: 4}
stages:
  - {mode: interleaved, in_flight: 4, for: 60s}
on_fail: {unload: candidate}
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(FOREIGN)
    return path


def test_a_store_and_a_server_of_ones_own(mine: Path) -> None:
    scenario = load(mine)
    assert scenario.target.repository == str(mine.parent / "models")
    assert not scenario.target.versioned_clients, "who names no version would be taken over: the load is refused"
    assert scenario.deploy.within_s == 300.0
    assert load(mine, ["target.versioned_clients=true"]).target.versioned_clients
    steps = describe(scenario).steps
    assert (
        "find llm version 2 in s3://models/prod; the deploy brings it into the repository, verified by SHA-256" in steps
    )
    assert (
        "deploy: all to the baseline, 4 requests in flight, until the candidate is loaded beside it, 300s at most"
        in steps
    )
    assert not any(step.startswith("load ") for step in steps)


def test_a_version_that_is_in_the_repository_needs_no_store(mine: Path) -> None:
    scenario = load(mine, ["store=", "target.repository="])
    assert (scenario.store, scenario.deploy.in_flight) == (None, 4)


def test_what_ships_is_explained() -> None:
    facts = describe(load("deploy-without-restart"))
    assert "start an S3 server and publish tiny version 2 to it, as CI would after the build" in facts.steps
    assert facts.duration_s == 45.0, "a deploy takes as long as it takes"
    assert [gate.enough for gate in facts.gates] == [None, None], "none is answered by the deploy"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["deploy="], "store: only a deploy reads a store"),
        (["target.repository="], "target.repository: a store is synced into the server's model repository"),
        (["store={server: embedded}"], "store: the embedded server and the embedded store go together"),
        (["candidate.model=other"], "candidate.model: a deploy brings another version of the baseline's model, llm"),
        (["candidate.url=grpc://b:1"], "candidate.url: a deploy onto the candidate's own server needs its repository"),
        (["deploy.rate=1/s"], "deploy.in_flight: give rate or in_flight, not both"),
        (["deploy={within: 10s}"], "deploy: give rate (such as rate: 1/s) or in_flight"),
        (["deploy.within=1s"], "deploy.within: expected 5s to 1d, found 1s"),
        (["deploy.for=10s"], "deploy.for: unknown key; known here: in_flight, rate, within"),
        (["candidate.version="], "candidate: expected the number of the version"),
    ],
)
def test_what_does_not_fit(mine: Path, arguments: list[str], expected: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load(mine, arguments)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["candidate.url=grpc://b:1"], "on_fail.unload: a candidate with a url of its own and no repository is"),
        (
            [
                "baseline.url=grpc://b:1", "on_promote={then: unload}",
                "stages=[{mode: split, candidate: 100%, rate: 1/s, for: 9s}]",
            ],
            "on_promote.then: a baseline with a url of its own and no repository is compared",
        ),
    ],
)  # fmt: skip
def test_nothing_is_unloaded_on_a_server_that_is_not_operated(mine: Path, arguments: list[str], expected: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load(mine, ["deploy=", "store=", *arguments])
    assert expected in str(caught.value)
