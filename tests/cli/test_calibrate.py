"""calibrate, and check's look ahead: what they print, what they keep, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.embedded import EmbeddedServer
from harness.errors import UsageError, WorldError
from harness.run import calibrate as doing
from harness.run.calibrations import keep, last_calibration, name_of
from harness.run.setting import describe
from harness.scenario import Scenario, against_itself, load
from tests.cli.conftest import Call
from tests.judge.worlds import bulk
from tests.run.conftest import SCENARIO


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path / "state" / "triton-canary" / "calibrations"


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """Somebody's baseline: 20/s for 60 s."""
    rng, path = np.random.default_rng(1), tmp_path / "mine.parquet"
    pq.write_table(bulk("baseline", np.arange(1200) / 20, 0.05 * np.exp(rng.normal(0, 0.1, 1200))), path)
    return path


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text("gates:\n  - {metric: response_time.p50, margin: 20%}\n  - {metric: errors, margin: 3pp}\n")
    return path


def test_a_recorded_baseline_is_calibrated_and_kept(
    call: Call, samples: Path, rules: Path, state: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    arguments = ("--from", samples, "--runs", 3, "--looks", "15s", "--rules", rules, "--out", out)
    done = call("calibrate", *arguments)
    assert done.code == 0, done.stderr
    assert done.stdout.startswith("mine: 0 of 3 A/A pairs made of a recorded baseline were rolled back (0 – 71 %)")
    assert "response_time.p50" in done.stdout
    assert "at the margin at most 1 % should be rolled back, and 5 % promoted" in done.stdout
    assert "not seen by this: drift of one arm by itself" in done.stdout
    assert f"kept in {state / 'mine.json'}" in done.stderr
    kept = json.loads((state / "mine.json").read_text())
    assert json.loads(out.read_text()) == kept
    assert kept["how"] == "resampled"
    assert kept["repetitions"] == 3
    assert [gate["metric"] for gate in kept["gates"]] == ["response_time.p50", "errors"]
    again = call("calibrate", *arguments, "--json")
    found = json.loads(again.stdout)
    assert found["gates"] == kept["gates"], "the same seed makes the same pairs"
    assert found["host"]["cpu"]


def test_many_are_judged_on_several_cores_and_come_out_the_same(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    two = doing.calibrate_recorded(samples, 16, 60.0, 1, said.append)
    monkeypatch.setattr(doing.os, "cpu_count", lambda: 1)
    one = doing.calibrate_recorded(samples, 16, 60.0, 1, said.append)
    assert two["gates"] == one["gates"]
    assert said == ["10 of 16 judged", "16 of 16 judged"] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give a scenario, or --url and --model, or a recording (--from)"),
        (("--url", "grpc://127.0.0.1:1"), "give a scenario, or --url and --model"),
        (("--url", "grpc://127.0.0.1:1", "--model", "llm"), "--model llm: expected NAME:VERSION such as llm:1"),
        (("fp8-canary", "--model", "llm:1"), "--model takes the place of a scenario"),
        (("fp8-canary", "--rules", "x.yaml"), "--rules is for --from"),
        (("fp8-canary", "--from", "x"), "--from takes a recording in place of a scenario"),
        (("fp8-canary", "--runs", "0"), "--runs 0: expected at least 1"),
        (("fp8-canary", "--looks", "0s"), "--looks 0s: expected a duration above 0"),
        (("fp8-canary", "--looks", "often"), "--looks often: expected a duration such as"),
        (("max-rate",), "is no canary, and only a canary is calibrated"),
        (("--url", "grpc://h:1", "--model", "m:1", "--set", "a=b"), "--set is for a scenario"),
        (("--from", "nowhere"), "nowhere: no such file or folder"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(call: Call, arguments: tuple[str, ...], message: str) -> None:
    done = call("calibrate", *arguments)
    assert done.code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_help_has_an_example(call: Call) -> None:
    done = call("calibrate", "--help")
    assert done.code == 0
    assert "triton-canary calibrate fp8-canary --runs 20" in done.stdout


# -------------------------------------------------------------- an A/A is the scenario, twice the same


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(SCENARIO.replace("build: fp16", "build: {delay_ms: 3}").replace("build: same", "build: slow"))
    return path


def test_on_an_embedded_server_the_baselines_build_is_served_twice(scenario: Path) -> None:
    wanted = against_itself(load(str(scenario)))
    assert wanted.candidate.version == 2
    assert wanted.candidate.build == wanted.baseline.build == {"delay_ms": 3}
    assert wanted.on_fail is None
    assert wanted.on_promote is None
    assert wanted.name == "tiny-canary-calibration"


def test_on_a_running_server_both_arms_are_one_version(scenario: Path) -> None:
    wanted = against_itself(load(str(scenario), url="grpc://127.0.0.1:8001"))
    assert wanted.candidate == wanted.baseline
    describe(wanted)  # it can be written down


# -------------------------------------------------------------- what is kept


def test_a_calibration_is_filed_under_target_and_model(scenario: Path) -> None:
    embedded, running = (describe(load(str(scenario), url=url)) for url in (None, "grpc://h:8001"))  # type: ignore[arg-type]
    assert name_of(embedded) == "embedded-tiny"
    assert name_of(running) == "grpc-h-8001-tiny"
    assert last_calibration(embedded) is None
    made: dict[str, Any] = {"of": "embedded-tiny", "how": "runs", "gates": [], "verdicts": {"rollback": {"of": 5}}}
    path = keep(made, None)
    assert last_calibration(embedded) == made
    assert last_calibration(running) is None
    for damaged in ("{", "[]", "{}"):
        path.write_text(damaged)
        assert last_calibration(embedded) is None


def test_a_folder_of_other_runs_is_not_added_to(scenario: Path, tmp_path: Path) -> None:
    wanted = against_itself(load(str(scenario)))
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    about = {"format": 1, "finished": True, "outcome": {"error": ""}, **describe(wanted)} | {"finished": True}
    (folder / "run.json").write_text(json.dumps(about))
    assert doing._done(folder.parent, wanted) == {1: folder}
    (folder / "run.json").write_text(json.dumps(about | {"seed": 9}))
    assert doing._done(folder.parent, wanted) == {9: folder}, "the seed is what differs between runs"
    (folder / "run.json").write_text(json.dumps(about | {"finished": False}))
    assert doing._done(folder.parent, wanted) == {}, "it did not come to its end, and is made again"
    other = load(str(scenario), ["stages.0.for=9s"])
    with pytest.raises(UsageError, match="is of another scenario or machine"):
        doing._done(folder.parent, against_itself(other))


def test_what_cuts_a_run_short_is_raised_and_the_next_call_goes_on(
    scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runs themselves are put aside: what counts is which are made, and with which seed."""
    made: list[int] = []

    def execute(wanted: Scenario, out: Path, *_: object) -> Any:
        made.append(wanted.seed)
        error = WorldError("the server died") if wanted.seed == 3 and made.count(3) == 1 else None
        folder = out / f"run-{len(made)}"
        folder.mkdir(parents=True)
        about = {"format": 1, **describe(wanted), "finished": True, "outcome": {"error": str(error or "")}}
        (folder / "run.json").write_text(json.dumps(about))
        return type("Result", (), {"error": error, "folder": folder})

    monkeypatch.setattr(doing, "execute", execute)
    monkeypatch.setattr(doing, "repeat", lambda *_: None)
    monkeypatch.setattr(doing, "document", lambda found, *_: {"repetitions": len(found)})
    wanted, said = load(str(scenario)), list[str]()
    assert isinstance(wanted, Scenario)
    arguments = (wanted, tmp_path / "runs", 4, 5.0, lambda _: None, said.append)
    with pytest.raises(WorldError, match="the server died"):
        doing.calibrate(*arguments)
    assert "2 of 4 runs are in" in said[-1]
    assert doing.calibrate(*arguments)["repetitions"] == 4
    assert made == [1, 2, 3, 3, 4]


# -------------------------------------------------------------- check looks ahead


def test_check_says_what_it_assumes(call: Call, scenario: Path) -> None:
    done = call("check", scenario, "--set", "stages.0.for=90s")
    assert done.code == 0
    text = " ".join(done.stdout.split())
    assert "errors 99 requests without a failure pass" in text
    assert "response_time.p50 a difference of 7.9 % can be told in 90 s; a margin of 20 % needs 16 s" in text
    assert "assumed, not measured: equal builds that differ from one 5 s to the next by 13 %" in text


def test_check_takes_the_noise_of_an_earlier_recording(call: Call, scenario: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    due, common = np.arange(1200) / 20, rng.normal(0, 0.1, 1200)
    arms = [bulk(arm, due, 0.05 * np.exp(common + rng.normal(0, 0.1, 1200))) for arm in ("baseline", "candidate")]
    path = tmp_path / "pairs.parquet"
    pq.write_table(pa.concat_tables(arms), path)
    done = call("check", scenario, "--from", path)
    assert done.code == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert f"by the noise of {path}" in text
    assert "assumed" not in text
    noisier = call("check", scenario)
    assert noisier.stdout != done.stdout


def test_check_needs_a_recording_that_compared(call: Call, scenario: Path, samples: Path) -> None:
    done = call("check", scenario, "--from", samples)
    assert done.code == 2
    assert "so its noise is not known" in done.stderr


def test_check_takes_the_noise_of_the_last_calibration(call: Call, scenario: Path) -> None:
    noise = {"se": 0.01, "seconds": 60.0, "rate": None}
    made = {
        "of": "embedded-tiny", "how": "runs", "verdicts": {"rollback": {"of": 5}},
        "gates": [{"metric": "response_time.p50", "noise": noise}, {"metric": "errors", "noise": None}],
    }  # fmt: skip
    keep(made, None)
    text = " ".join(call("check", scenario, "--set", "stages.0.for=60s").stdout.split())
    assert "a difference of 2.5 % can be told in 60 s" in text
    assert "by the noise of the calibration of embedded-tiny" in text
    assert "assumed" not in text


# -------------------------------------------------------------- for real


@pytest.mark.triton
@pytest.mark.slow
def test_a_running_server_is_calibrated_and_the_next_run_says_so(
    call: Call, tiny_server: EmbeddedServer, state: Path, tmp_path: Path
) -> None:
    served = tiny_server.grpc_url
    runs = tmp_path / "runs"
    arguments = (
        "--url", served, "--model", "tiny:1", "--dir", runs, "--for", "6s",
        "--margin", "errors=3pp", "--margin", "response_time.p50=20%",
    )  # fmt: skip
    done = call("calibrate", *arguments, "--runs", 2, "--json")
    assert done.code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["verdicts"]["rollback"]["count"] == 0
    assert found["verdicts"]["rollback"]["of"] == 2
    assert {gate["metric"] for gate in found["gates"]} == {"errors", "response_time.p50"}
    for gate in found["gates"]:
        assert gate["false_rollback"]["of"] == gate["false_promote"]["of"] == 2
    assert found["gates"][1]["noise"]["rate"] > 1
    for folder in runs.iterdir():
        verdict = json.loads((folder / "verdict.json").read_text())
        metrics = {finding["metric"] for finding in verdict["findings"]}
        assert "validity.version" not in metrics
        assert "traffic.strays" not in metrics, "nobody loaded anything"
        assert {arm["version"] for arm in json.loads((folder / "run.json").read_text())["arms"].values()} == {1}
    more = call("calibrate", *arguments, "--runs", 3, "--json")
    assert "A/A run 3 of 3" in more.stderr
    assert "A/A run 1 of 3" not in more.stderr
    assert len(list(runs.iterdir())) == 3
    gate = call(
        "gate", "--baseline", f"{served}/tiny:1", "--candidate", f"{served}/tiny:2", "--for", "6s", "--json",
        "--out", tmp_path / "reports", "--margin", "errors=3pp", "--margin", "response_time.p50=20%",
    )  # fmt: skip
    told = [one["reason"] for one in json.loads(gate.stdout)["findings"] if one["metric"] == "validity.calibration"]
    assert len(told) == 1
    assert "on this rig: 0 of 3 A/A runs were rolled back (95 %: at most 63.2 %)" in told[0]
    (folder,) = (tmp_path / "reports").iterdir()
    for report in ("report.html", "report.md"):
        assert "0 of 3 A/A runs were rolled back" in (folder / report).read_text()
    assert call("judge", folder, "--json").stdout == gate.stdout, "the calibration was copied into the run"


def test_nothing_of_anybodys_is_started_stopped_or_moved(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        'name: mine\ningress: {url: "http://i:1", control: "envoy+http://i:2"}\n'
        'baseline: {model: m, version: 1, url: "grpc://b:1", start: [up], stop: [down]}\n'
        'candidate: {model: m, version: 2, url: "grpc://g:1", start: [up], stop: [down]}\n'
        "stages: [{mode: split, candidate: 50%, rate: 1/s, for: 60s}]\n"
    )
    wanted = against_itself(load(str(path)))
    assert wanted.ingress is None
    assert [(arm.start, arm.stop) for arm in wanted.arms.values()] == [(None, None)] * 2
