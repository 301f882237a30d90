"""Green is brought and judged, the ingress switches, and one command leads back."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from harness.recording import Recording
from tests.ingress.traffic import Traffic
from tests.run.conftest import Background, canary, journal, only_folder
from tests.run.front import Kind, two_tritons
from tests.run.measured import last_folder, measured

pytestmark = [pytest.mark.triton, pytest.mark.slow]

SCENARIO = """
name: switch
ingress: {{url: "{ingress}", control: "{control}"}}
baseline: {{model: tiny, version: 1, url: "{blue}", stop: {stop}}}
candidate: {{model: tiny, version: 2, url: "{green}", repository: {repository}}}
deploy: {{rate: 20/s, within: 300s}}
gates: [{{metric: errors, margin: 3pp}}]
stages:
  - {{mode: paired, in_flight: 1, for: 8s}}
  - {{mode: split, candidate: 100%, rate: 20/s, for: 6s}}
on_fail: {{drain: 10s, unload: candidate}}
on_promote: {{keep_baseline: {keep}, then: stop}}
"""


def write(folder: Path, place: object, entry: str, keep: str) -> Path:
    stopped = folder / "stopped"
    code = f"import pathlib; pathlib.Path({str(stopped)!r}).write_text('x')"
    file = folder / "switch.yaml"
    file.write_text(
        SCENARIO.format(
            ingress=entry, control=place.router.control, blue=place.blue.grpc_url, green=place.green.grpc_url,
            repository=place.green.repository, stop=json.dumps([sys.executable, "-c", code]), keep=keep,
        )
    )  # fmt: skip
    return file


@pytest.mark.parametrize(("kind", "wire"), [("haproxy", "http"), ("envoy", "grpc")])
def test_the_switch_and_the_way_back_lose_no_request(
    kind: Kind, wire: str, tmp_path: Path, background: Background
) -> None:
    """At 200 requests/s of others, of which none fails: over the switch, and over the one command that leads back."""
    with two_tritons(tmp_path, kind, green=()) as place:
        entry = place.router.http_url if wire == "http" else place.router.grpc_url
        file = write(tmp_path, place, entry, "300s")
        with Traffic(entry, rate=200) as others:
            others.wait_for(100)
            run = background("run", file, "--out", tmp_path / "out")
            deadline = time.monotonic() + 300
            while place.split().candidate_share < 1.0:
                assert run.poll() is None, run.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            since = others.wait_for(400)
            assert others.count("version", since) == {"2": len(others.answers(since))}
            back = canary("route", "rollback", place.router.control)
            assert back.code == 0, back.stderr
            since = others.wait_for(400)
            assert others.count("version", since) == {"1": len(others.answers(since))}
            # The run sees that its split is not the planned one, and puts an end to it.
            _, stderr = run.communicate(timeout=500)
            others.wait_for(200)
        assert others.failed() == []
        assert run.returncode in (3, 4), stderr
        assert place.split().candidate_share == 0.0
        assert not (tmp_path / "stopped").exists(), "blue was not stopped"


def test_blue_is_stopped_once_green_has_proved_itself(tmp_path: Path) -> None:
    with two_tritons(tmp_path, "haproxy", green=()) as place:
        file = write(tmp_path, place, place.router.grpc_url, "3s")
        done = measured(lambda out: canary("run", file, "--out", out), tmp_path)
        assert done.code == 0, done.stderr
        assert place.split().candidate_share == 1.0
        assert place.ready(place.green) == [2]
        assert (tmp_path / "stopped").exists()
    folder = last_folder(tmp_path)
    order = [line["action"] for line in journal(folder) if line["state"] == "done"]
    assert order[-4:] == ["route.drain", "config.write", "hook.run", "run.end"]
    samples = Recording.open(folder).samples.to_pandas()
    assert set(samples.status) == {"ok"}
    assert set(samples[samples.stage == 2].version) == {"2"}


def test_the_built_in_one_starts_both(tmp_path: Path) -> None:
    quick = ["--set", "stages.0.for=8s", "--set", "stages.1.for=5s", "--set", "on_promote.keep_baseline=2s"]
    done = canary("run", "blue-green", "--out", tmp_path / "out", "--json", *quick)
    assert done.code in (0, 3), done.stderr
    samples = Recording.open(only_folder(tmp_path / "out")).samples.to_pandas()
    assert set(samples.status) == {"ok"}
    assert set(samples[samples.stage == 0].arm) == {"baseline"}


def test_a_green_that_fails_goes_as_it_came(tmp_path: Path) -> None:
    """It never had a user: nothing is switched, and its server is stopped."""
    done = canary("run", "blue-green", "--out", tmp_path / "out", "--json", "--set", "candidate.build={fail: 0.5}")
    assert done.code == 1, done.stderr
    folder = only_folder(tmp_path / "out")
    assert all(line["wanted"] == 0.0 for line in journal(folder) if line["action"] == "route.set")
    assert [line["target"] for line in journal(folder) if line["action"] == "server.stop"] == ["candidate"] * 2
