"""Scenario 1 on a real Triton: version 2 comes from a store, is loaded beside version 1, and gets 5 %."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest

from harness.embedded import s3_available
from harness.recording import Recording
from harness.store import MANIFEST, Manifest
from harness.triton import Control
from tests.run.conftest import Background, canary, journal, only_folder
from tests.run.measured import last_folder, measured
from tests.run.places import place
from tests.run.test_crash import wait_for_samples
from tests.waiting import until

pytestmark = pytest.mark.triton


def actions(folder: Path) -> list[tuple[str, object, object]]:
    return [(line["action"], line["before"], line["wanted"]) for line in journal(folder) if line["state"] == "done"]


@pytest.mark.skipif(bool(s3_available()), reason=s3_available())
def test_v1_answers_every_request_while_v2_comes_from_s3_and_then_gets_its_five_percent(tmp_path: Path) -> None:
    words = (
        "run", "deploy-without-restart", "--json", "--set", "stages.0.for=4s", "--set", "stages.1.for=4s",
        "--set", "candidate.build={load_s: 1}", "--set", "gates=[{metric: errors, margin: 3pp}]",
    )  # fmt: skip
    done = measured(lambda out: canary(*words, "--out", out), tmp_path)
    assert done.code == 0, done.stderr
    assert done.verdict["verdict"] == "promote"
    assert "failed while v2 was brought" in done.verdict["reason"]
    folder = last_folder(tmp_path)

    first, last = done.verdict["findings"][0], done.verdict["findings"][-1]
    assert (first["metric"], first["outcome"], first["candidate"]) == ("deploy.errors", "pass", None)
    share = next(finding for finding in done.verdict["findings"] if finding["metric"] == "traffic.share")
    assert (share["stage"], last["stage"]) == (2, 2)
    assert share["effect"] == pytest.approx(0.05, abs=0.01)
    assert share["interval"][0] < 0.05 < share["interval"][1]
    strays = [finding["outcome"] for finding in done.verdict["findings"] if finding["metric"] == "traffic.strays"]
    assert strays == ["pass"] * 3

    _, _, *made = actions(folder)
    assert [action for action, _, _ in made] == [
        "repository.sync", "models.set", "models.cost", "route.set", "run.end"
    ]  # fmt: skip
    assert made[0][1:] == ([1], {"store": "s3://models", "versions": [1, 2]})
    assert made[1][1:] == ([1], [1, 2])
    version = folder / "models" / "tiny" / "2"
    assert Manifest.from_bytes((version / MANIFEST).read_bytes(), "x").differences(version) == []

    meta = json.loads((folder / "run.json").read_text())
    assert (meta["stages"][0]["plan"]["purpose"], meta["guarded"]) == ("deploy", "tiny/2")
    samples = Recording.open(folder).samples.to_pandas()
    brought = samples[samples.stage == 0]
    assert set(zip(brought.arm, brought.status, brought.version, strict=True)) == {("baseline", "ok", "1")}
    assert len(brought) == first["n_baseline"] > 100
    live = (folder / "verdict.json").read_bytes()
    assert canary("judge", folder).code == 0
    assert (folder / "verdict.json").read_bytes() == live


@pytest.mark.slow
def test_a_v1_that_fails_while_v2_is_brought_ends_the_run(tmp_path: Path) -> None:
    with place(tmp_path, {"load_s": 6}) as there:
        (there.repository / "tiny" / "1" / "settings.json").write_text('{"fail": 0.2}')
        done = canary("run", there.scenario, "--out", tmp_path / "out", "--json")
        assert done.code == 1, done.stderr
        assert there.ready() == [1]
    (failed,) = [finding for finding in done.verdict["findings"] if finding["outcome"] == "fail"]
    assert failed["metric"] == "deploy.errors"
    assert "requests at v1 failed while v2 was brought; most often" in failed["reason"]


def test_a_version_that_the_store_has_lost_bytes_of_never_arrives(tmp_path: Path) -> None:
    with place(tmp_path) as there:
        model = there.store / "tiny" / "2" / "model.py"
        model.write_bytes(b"?" * model.stat().st_size)
        done = canary("run", there.scenario, "--out", tmp_path / "out")
        assert done.code == 4
        assert "tiny/2/model.py" in done.stderr
        assert "Traceback (most" not in done.stderr
        assert there.ready() == [1]
        assert sorted(path.name for path in there.repository.joinpath("tiny").iterdir()) == ["1", "config.pbtxt"]
    folder = only_folder(tmp_path / "out")
    assert json.loads((folder / "verdict.json").read_text())["verdict"] == "inconclusive"
    assert [line["action"] for line in journal(folder)] == ["repository.sync", "repository.sync"]


@pytest.mark.slow
def test_what_is_not_loaded_in_time_ends_the_run(tmp_path: Path) -> None:
    with place(tmp_path, {"load_s": 5}) as there:
        done = canary("run", there.scenario, "--out", tmp_path / "out", "--set", "deploy.within=5s")
        assert done.code == 4
        assert "tiny version 2 was not synced and loaded within 5 s" in done.stderr
        assert there.ready() == [1]


@pytest.mark.slow
def test_what_is_served_already_is_not_deployed(tmp_path: Path) -> None:
    with place(tmp_path) as there, Control(there.server.grpc_url) as control:
        shutil.copytree(there.store / "tiny" / "2", there.repository / "tiny" / "2")
        control.set_versions("tiny", [1, 2])
        done = canary("run", there.scenario, "--out", tmp_path / "out")
        assert done.code == 2
        assert "tiny version 2 is served" in done.stderr
        assert there.ready() == [1, 2]
        assert list((tmp_path / "out").iterdir()) == []


def test_sigkill_while_v2_is_loaded_then_recover(tmp_path: Path, background: Background) -> None:
    out = tmp_path / "out"
    with place(tmp_path, {"load_s": 3}) as there:
        run = background("run", there.scenario, "--out", out)
        folder = wait_for_samples(run, out, 0)
        until(lambda: there.state(2) == "LOADING", "version 2 is being loaded")
        run.kill()
        run.wait()
        recovered = canary("recover", folder)
        assert recovered.code == 0, recovered.stderr
        assert there.ready() == [1]
        assert "what was synced stays" in recovered.stderr
        version = there.repository / "tiny" / "2"
        assert Manifest.from_bytes((version / MANIFEST).read_bytes(), "x").differences(version) == []
    assert json.loads((folder / "verdict.json").read_text())["verdict"] == "inconclusive"


@pytest.mark.slow
def test_ctrl_c_while_v2_is_loaded_puts_everything_back(tmp_path: Path, background: Background) -> None:
    out = tmp_path / "out"
    with place(tmp_path, {"load_s": 3}) as there:
        run = background("run", there.scenario, "--out", out)
        folder = wait_for_samples(run, out, 0)
        until(lambda: there.state(2) == "LOADING", "version 2 is being loaded")
        run.send_signal(signal.SIGINT)
        _, stderr = run.communicate(timeout=120)
        assert run.returncode == 3, stderr
        assert there.ready() == [1]
    assert (Recording.open(folder).samples.to_pandas().status.isin(["ok", "cancelled"])).all()


@pytest.mark.slow
def test_what_a_run_that_was_killed_has_synced_is_used_by_the_next(tmp_path: Path) -> None:
    with place(tmp_path) as there:
        shutil.copytree(there.store / "tiny" / "2", there.repository / "tiny" / "2")
        done = measured(lambda out: canary("run", there.scenario, "--out", out), tmp_path / "out")
        assert done.code == 0, done.stderr
        assert "tiny/2 is in the repository already, as its manifest says" in done.stderr
        assert there.ready() == [1, 2]
