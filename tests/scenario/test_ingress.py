"""The section `ingress`, arms with a server of their own, and what follows a verdict there."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ScenarioError
from harness.scenario import describe, load, plan

ONE_TRITON = """\
name: mine
target: {url: "grpc://triton:8001", repository: models}
ingress:
  url: "http://haproxy:8080"
  control: "haproxy+unix:///run/haproxy/admin.sock?backend=llm&baseline=v1&candidate=v2"
baseline: {model: llm, version: 1}
candidate: {model: llm, version: 2}
stages:
  - {mode: paired, in_flight: 1, for: 60s, alone: 10s}
  - {mode: split, candidate: 10%, rate: 10/s, for: 60s, warm_up: 5s}
  - {mode: split, candidate: 100%, rate: 10/s, for: 60s}
on_fail: {drain: 10s, cut: true, unload: candidate, scale: {up: [kubectl, scale, v1], down: [kubectl, scale, v2]}}
on_promote: {keep_baseline: 10s, then: unload}
"""
GREEN = """\
name: mine
store: {url: "s3://models/prod"}
ingress: {url: "grpc://envoy:8443", control: ["envoy+http://a:9901", "envoy+http://b:9901"]}
baseline: {model: llm, version: 1, url: "grpc://blue:8001", stop: [stop, blue]}
candidate: {model: llm, version: 2, url: "grpc://green:8001", repository: green, start: [start, it], stop: [stop, it]}
deploy: {rate: 10/s}
stages:
  - {mode: paired, in_flight: 1, for: 60s}
  - {mode: split, candidate: 100%, rate: 10/s, for: 60s}
on_fail: {drain: 10s, stop: candidate}
on_promote: {keep_baseline: 10s, then: stop}
"""


@pytest.fixture
def one(tmp_path: Path) -> Path:
    path = tmp_path / "one.yaml"
    path.write_text(ONE_TRITON)
    return path


@pytest.fixture
def green(tmp_path: Path) -> Path:
    path = tmp_path / "green.yaml"
    path.write_text(GREEN)
    return path


def test_split_stages_go_through_it_and_no_others(one: Path, green: Path) -> None:
    stages = plan(load(one)).stages
    assert [(stage.purpose, stage.mode, stage.routed) for stage in stages] == [
        ("alone", "split", False),
        ("compare", "paired", False),
        ("warm-up", "split", True),
        ("compare", "split", True),
        ("compare", "split", True),
        ("soak", "split", True),
    ]
    assert [stage.routed for stage in plan(load(green)).stages] == [True, False, True, True], "the deploy, too"
    assert not any(stage.routed for stage in plan(load(one, ["ingress="])).stages)


def test_what_will_be_done_is_said(one: Path, green: Path) -> None:
    steps = describe(load(one)).steps
    assert any(
        step.startswith("split stages send to http://haproxy:8080; its split is changed at haproxy+") for step in steps
    )
    assert steps[-1] == (
        "on rollback, at any stage: all traffic to llm version 1, run kubectl to scale it up meanwhile, wait until the "
        "candidate has answered, 10s at most, then cut what is left, run kubectl to scale the candidate down, "
        "unload llm version 2"
    )
    steps = describe(load(green)).steps
    assert "run start, which starts the server of llm version 2 on grpc://green:8001" in steps
    assert "on promote: stop the server of llm version 1 on grpc://blue:8001" in steps
    assert steps[-1].endswith("stop the server of llm version 2 on grpc://green:8001")


def test_one_address_or_several(one: Path, green: Path) -> None:
    assert len(load(one).ingress.control) == 1
    assert load(green).ingress.control == ("envoy+http://a:9901", "envoy+http://b:9901")
    assert load(green).candidate.repository == str(green.parent / "green")


@pytest.mark.parametrize("name", ["emergency-rollback", "blue-green"])
@pytest.mark.parametrize("server", ["haproxy", "envoy"])
def test_the_built_in_ones_run_behind_either(name: str, server: str) -> None:
    assert load(name, [f"ingress.server={server}"]).ingress.server == server


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["ingress.control="],
            "ingress: give server: haproxy or envoy, or the control and url of a running one; no control",
        ),
        (["ingress.url="], "ingress: give server: haproxy or envoy, or the control and url of a running one; no url"),
        (["ingress.control=haproxy://x"], "ingress.control: expected haproxy+unix:///path/admin.sock?backend=NAME"),
        (["ingress.control=[]"], "ingress.control: expected haproxy+unix:///path/admin.sock?backend=NAME"),
        (["ingress.server=haproxy"], "the one that is started has its own control"),
        (["ingress={server: haproxy}"], "ingress: the embedded Triton and an ingress that is started go together"),
        (["ingress.over=grpc"], "ingress.over: the scheme of url says it"),
        (["ingress.served_by=x y"], "ingress.served_by"),
        (["ingress.url=grpc://haproxy:1"], "ingress.url: gRPC names the version inside the message"),
        (["ingress.url=grpc://haproxy:1", "candidate.model=b"], "ingress.url: gRPC names the model inside the message"),
        (["stages.1.baseline=10%"], "ingress: an ingress splits between two arms"),
        (["on_fail.cut=true", "on_fail.drain="], "on_fail.cut: what is left after the drain is cut"),
        (["on_fail.scale={}"], "on_fail.scale: give up, down or both"),
        (["on_fail.scale.up=kubectl scale"], "on_fail.scale.up: expected a list"),
        (["on_fail.stop=candidate"], "on_fail.unload: a server that is stopped serves nothing"),
        (["on_fail.unload=", "on_fail.stop=candidate"], "on_fail.stop: needs to know how"),
        (["on_promote.then=stop"], "on_promote: needs to know how"),
        (["candidate.start=[a]"], "candidate.start: start is of the arm's own server"),
        (["candidate.repository=x"], "candidate.repository: repository is of the arm's own server"),
        (["candidate.server=embedded"], "candidate.server: only the candidate, beside target: {server: embedded}"),
    ],
)
def test_what_does_not_fit(one: Path, arguments: list[str], expected: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load(one, arguments)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["candidate.stop=", "on_fail="], "candidate.start: what is started for the run is stopped again if it fails"),
        (["candidate.repository="], "candidate.url: a deploy onto the candidate's own server needs its repository"),
        (["candidate.server=embedded"], "candidate.url: the one that is started has its own url"),
        (["baseline.stop="], "on_promote: needs to know how"),
        (
            ["candidate.repository=", "deploy=", "store=", "on_fail={unload: candidate}"],
            "on_fail.unload: a candidate with a url of its own and no repository is compared, not operated",
        ),
    ],
)
def test_what_does_not_fit_a_server_of_its_own(green: Path, arguments: list[str], expected: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load(green, arguments)
    assert expected in str(caught.value)
