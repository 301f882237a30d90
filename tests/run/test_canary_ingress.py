"""A canary through a real ingress that is somebody else's: paired, 10 %, 50 %, 100 %, then v1 is unloaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.recording import Recording
from tests.run.conftest import Background, Done, canary, journal
from tests.run.front import Kind, one_triton, two_tritons
from tests.run.measured import OF_DRAWS, OURS, last_folder, measured
from tests.run.test_crash import in_stage

pytestmark = pytest.mark.triton

ON_ONE = """
name: through
target: {{url: "{triton}", repository: {repository}}}
ingress: {{url: "{entry}", control: "{control}"}}
baseline: {{model: tiny, version: 1}}
candidate: {{model: tiny, version: 2}}
load: {{timeout: 20s}}
gates: [{{metric: errors, margin: 3pp}}]
stages:
  - {{mode: paired, in_flight: 1, for: 6s}}
  - {{mode: split, candidate: 10%, rate: 50/s, for: 6s}}
  - {{mode: split, candidate: 50%, rate: 50/s, for: 4s}}
  - {{mode: split, candidate: 100%, rate: 50/s, for: 4s}}
on_fail: {{route: baseline, drain: 10s, unload: candidate}}
on_promote: {{keep_baseline: 2s, then: unload}}
"""
ON_TWO = """
name: through
ingress: {{url: "{entry}", control: "{control}"}}
baseline: {{model: tiny, version: 1, url: "{blue}"}}
candidate: {{model: tiny, version: 2, url: "{green}"}}
load: {{timeout: 20s}}
gates: [{{metric: errors, margin: 3pp}}]
stages:
  - {{mode: paired, in_flight: 1, for: 6s}}
  - {{mode: split, candidate: 10%, rate: 50/s, for: 6s}}
  - {{mode: split, candidate: 50%, rate: 50/s, for: 4s}}
  - {{mode: split, candidate: 100%, rate: 50/s, for: 4s}}
on_fail: {{route: baseline, drain: 10s}}
on_promote: {{keep_baseline: 2s}}
"""


def through(file: Path, kind: Kind, out: Path) -> Done:
    """Envoy draws lots, HAProxy gives in turns."""
    ours = OF_DRAWS if kind == "envoy" else OURS
    return measured(lambda folder: canary("run", file, "--out", folder, "--json"), out, ours)


def shares(folder: Path) -> dict[int, float]:
    """The candidate's part of each stage that the ingress split, by the versions that the answers name."""
    samples = Recording.open(folder).samples.to_pandas()
    routed = samples[samples.assignment == "observed"]
    return (routed.version == "2").groupby(routed.stage).mean().to_dict()


@pytest.mark.parametrize("kind", ["haproxy", "envoy"])
def test_two_versions_on_one_triton_over_http(kind: Kind, tmp_path: Path) -> None:
    with one_triton(tmp_path, kind) as place:
        file = tmp_path / "through.yaml"
        file.write_text(
            ON_ONE.format(
                triton=place.blue.grpc_url, repository=place.blue.repository, entry=place.router.http_url,
                control=place.router.control,
            )
        )  # fmt: skip
        done = through(file, kind, tmp_path)
        assert done.code == 0, (done.stderr, done.stdout)
        assert place.split().candidate_share == 1.0
        assert place.ready() == [2]
    folder = last_folder(tmp_path)
    found = shares(folder)
    assert found[3] == found[4] == 1.0
    assert 0.0 < found[1] < found[2] < 1.0
    samples = Recording.open(folder).samples.to_pandas()
    assert set(samples.status) == {"ok"}
    assert set(samples.arm) == {"baseline", "candidate"}
    moves = [line["wanted"] for line in journal(folder) if (line["action"], line["state"]) == ("route.set", "done")]
    assert moves == [0.1, 0.5, 1.0]
    verdict = json.loads((folder / "verdict.json").read_text())
    assert not [one for one in verdict["findings"] if one["metric"] in ("validity.share", "validity.attribution")]
    assert canary("judge", folder, "--json").verdict == verdict, "the same once more, from the recording alone"


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "wire"), [("haproxy", "grpc"), ("envoy", "grpc"), ("haproxy", "http")])
def test_two_tritons(kind: Kind, wire: str, tmp_path: Path) -> None:
    with two_tritons(tmp_path, kind) as place:
        file = tmp_path / "through.yaml"
        entry = place.router.grpc_url if wire == "grpc" else place.router.http_url
        file.write_text(
            ON_TWO.format(
                entry=entry, control=place.router.control, blue=place.blue.grpc_url, green=place.green.grpc_url
            )
        )
        done = through(file, kind, tmp_path)
        assert done.code == 0, (done.stderr, done.stdout)
        assert place.split().candidate_share == 1.0
    found = shares(last_folder(tmp_path))
    assert found[3] == 1.0
    assert 0.0 < found[1] < found[2] < 1.0


def test_an_ingress_that_dies_never_promotes(tmp_path: Path, background: Background) -> None:
    """Traffic stops: nobody had the requests, the run says so, and what cannot be put back is named."""
    with one_triton(tmp_path, "haproxy") as place:
        file = tmp_path / "through.yaml"
        text = ON_ONE.format(
            triton=place.blue.grpc_url, repository=place.blue.repository, entry=place.router.http_url,
            control=place.router.control,
        )  # fmt: skip
        file.write_text(text)
        words = ("run", file, "--json", "--set", "stages.1.for=20s")
        run, _ = in_stage(1, lambda out: background(*words, "--out", out), tmp_path / "out")
        place.router.stop()
        stdout, stderr = run.communicate(timeout=300)
        assert run.returncode in (3, 4), stderr
        assert json.loads(stdout)["verdict"] == "inconclusive"
        assert "NOT PUT BACK" in stderr
        assert "route rollback" in stderr
