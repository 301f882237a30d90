"""A candidate that fails under traffic: at the ingress all of it goes back, then the candidate leaves."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from harness.recording import Recording
from tests.ingress.traffic import Traffic
from tests.run.conftest import canary, journal, only_folder
from tests.run.front import Kind, one_triton, two_tritons

pytestmark = pytest.mark.triton

SCENARIO = """
name: emergency
target: {{url: "{url}", repository: {repository}}}
ingress: {{url: "{ingress}", control: "{control}"}}
baseline: {{model: tiny, version: 1}}
candidate: {{model: tiny, version: 2}}
gates: [{{metric: errors.objective, max: 5%}}]
stages: [{{mode: split, candidate: 50%, rate: 50/s, for: 120s}}]
on_fail: {{route: baseline, drain: 10s, cut: true, unload: candidate}}
"""
APART = """
name: scaled
ingress: {{url: "{ingress}", control: "{control}"}}
baseline: {{model: tiny, version: 1, url: "{blue}"}}
candidate: {{model: tiny, version: 2, url: "{green}"}}
gates: [{{metric: errors.objective, max: 5%}}]
stages: [{{mode: split, candidate: 50%, rate: 50/s, for: 120s}}]
on_fail: {{drain: 10s, scale: {{up: {up}, down: {down}}}}}
"""


def findings(folder: Path) -> dict[str, dict]:
    return {one["metric"]: one for one in json.loads((folder / "verdict.json").read_text())["findings"]}


@pytest.mark.parametrize("kind", ["haproxy", "envoy"])
def test_users_lose_nothing_of_the_baseline(kind: Kind, tmp_path: Path) -> None:
    """Others use the ingress all the while; the Triton and the ingress are not ours."""
    with one_triton(tmp_path, kind, {"fail": 0.5}) as place:
        file = tmp_path / "emergency.yaml"
        file.write_text(
            SCENARIO.format(
                url=place.blue.grpc_url, repository=place.blue.repository, ingress=place.router.http_url,
                control=place.router.control,
            )
        )  # fmt: skip
        with Traffic(place.router.http_url, rate=20) as others:
            others.wait_for(20)
            done = canary("run", file, "--out", tmp_path / "out", "--json")
            since = others.wait_for(40)
        assert done.code == 1, done.stderr
        assert place.split().candidate_share == 0.0
        assert place.ready() == [1]
        assert others.failed(since) == []
        assert {answer.served_by for answer in others.failed()} <= {"candidate"}, "requests lost at v1: none"
    folder = only_folder(tmp_path / "out")
    found = findings(folder)
    assert found["errors.objective"]["outcome"] == "fail"
    assert found["traffic.strays"]["outcome"] == "pass", "who comes through the ingress is no stray"
    back = found["traffic.rollback"]
    assert back["effect"] > 0
    assert "none of" in back["reason"]
    samples = Recording.open(folder).samples.to_pandas()
    assert set(samples.assignment) == {"observed"}
    assert set(samples[samples.arm == "baseline"].status) == {"ok"}
    assert (samples.arm == "unknown").sum() == 0
    order = [line["action"] for line in journal(folder) if line["state"] == "done"]
    assert order[-4:] == ["route.set", "route.drain", "models.set", "run.end"]


def test_servers_are_scaled_by_commands(tmp_path: Path) -> None:
    """Up while the traffic moves, down once the candidate has answered what it had."""
    with two_tritons(tmp_path, "haproxy", {"fail": 0.5}) as place:
        up, down = tmp_path / "up", tmp_path / "down"

        def note(path: Path) -> str:
            code = f"import pathlib; pathlib.Path({str(path)!r}).write_text('x')"
            return json.dumps([sys.executable, "-c", code])

        file = tmp_path / "scaled.yaml"
        file.write_text(
            APART.format(
                ingress=place.router.http_url, control=place.router.control, blue=place.blue.grpc_url,
                green=place.green.grpc_url, up=note(up), down=note(down),
            )
        )  # fmt: skip
        done = canary("run", file, "--out", tmp_path / "out", "--json")
        assert done.code == 1, done.stderr
        assert place.split().candidate_share == 0.0
        assert up.exists()
        assert down.exists()
    done_lines = [line for line in journal(only_folder(tmp_path / "out")) if line["state"] == "done"]
    assert [line["target"] for line in done_lines if line["action"] == "hook.run"] == [
        "scale the baseline up",
        "scale the candidate down",
    ]


def test_a_candidate_that_had_traffic_before_it_serves_is_refused(tmp_path: Path) -> None:
    with one_triton(tmp_path, "haproxy") as place:
        from harness.ingress import open_ingress

        open_ingress(place.router.control).set(0.25)
        file = tmp_path / "emergency.yaml"
        file.write_text(
            SCENARIO.format(
                url=place.blue.grpc_url, repository=place.blue.repository, ingress=place.router.http_url,
                control=place.router.control,
            )
        )  # fmt: skip
        done = canary("run", file, "--out", tmp_path / "out")
        assert done.code == 2, done.stderr
        assert "the ingress gives the candidate 25.0% of the traffic, and it does not serve" in done.stderr
        assert "triton-canary route rollback" in done.stderr
        assert place.split().candidate_share == 0.25, "nothing was changed"
        assert place.ready() == [1]
