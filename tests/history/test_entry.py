"""What of a run goes into the history, and which runs are one series."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.errors import RecordingError, UsageError
from harness.history.entry import unit_of, worse_of
from harness.history.series import in_words
from harness.run.history import entry, is_history, open_history
from harness.types import Finding
from tests.history.factory import LEVELS, meta, run_folder

SLOW = {**LEVELS, "ttft.p50": 0.088}


def test_the_figures_of_the_stage_that_compares(tmp_path: Path) -> None:
    found = entry(run_folder(tmp_path, 0, SLOW), {}, commit="abc", branch="main")
    told = dict(zip((one.name for one in found.measures), found.figures, strict=True))
    assert list(told) == list(LEVELS), "the watched split stage is no series, and one stage needs no name"
    assert told["ttft.p50"].value == pytest.approx(0.088)
    assert told["ttft.p50"].baseline == pytest.approx(0.080)
    assert told["ttft.p50"].effect == pytest.approx(1.1)
    assert (told["ttft.p50"].low, told["ttft.p50"].high) == pytest.approx((1.1 * 0.98, 1.1 * 1.02))
    assert found.unfit == ""
    assert (found.verdict, found.started_utc, found.commit, found.branch) == (
        "promote", "2026-01-01T02:00:00+00:00", "abc", "main",
    )  # fmt: skip
    units = {one.metric: (one.unit, one.effect_unit, one.worse, one.gated) for one in found.measures}
    assert units["errors"] == ("share", "pp", "higher", True)
    assert units["ttft.p50"] == ("s", "ratio", "higher", True)
    assert units["request_throughput"] == ("1/s", "ratio", "lower", False)


@pytest.mark.parametrize(
    ("changed", "extra", "why"),
    [
        ({"finished": False}, (), "did not finish"),
        ({}, (Finding("validity.load", "inconclusive", "sent too late", "validity"),), "not sound: sent too late"),
        ({}, (Finding("validity.load", "inconclusive", "sent too late", "validity", stage=1),), ""),
        ({}, (Finding("validity.load", "no data", "unknown", "validity"),), ""),
    ],
)
def test_a_run_that_says_nothing_is_kept_and_does_not_count(
    tmp_path: Path, changed: dict[str, Any], extra: tuple[Finding, ...], why: str
) -> None:
    found = entry(run_folder(tmp_path, 0, LEVELS, extra=extra, **changed), {})
    assert (why in found.unfit) if why else found.unfit == ""


SCENARIO = meta(0)["scenario"]


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"seed": 99}, True),
        ({"git": {"head": "f00", "dirty": True}, "started_utc": "2026-03-01T02:00:00+00:00"}, True),
        ({"gates": []}, True),
        ({"scenario": {**SCENARIO, "candidate": {**SCENARIO["candidate"], "version": 9, "build": "fp8"}}}, True),
        ({"scenario": {**SCENARIO, "load": {**SCENARIO["load"], "prompts": "renamed.jsonl", "speed": "1x"}}}, True),
        ({"scenario": {**SCENARIO, "description": "of a later release", "deploy": None}}, True),
        ({"scenario": {**SCENARIO, "name": "other"}}, False),
        ({"scenario": {**SCENARIO, "candidate": {**SCENARIO["candidate"], "model": "other"}}}, False),
        ({"scenario": {**SCENARIO, "load": {**SCENARIO["load"], "max_tokens": 128}}}, False),
        ({"prompts": {"count": 200, "sha256": "cd" * 32}}, False),
        ({"plans": [{**meta(0)["plans"][0], "rate": 8.0}]}, False),
        ({"plans": [{**meta(0)["plans"][0], "mode": "interleaved"}]}, False),
    ],
)
def test_runs_that_measure_something_else_are_another_series(
    tmp_path: Path, changed: dict[str, Any], same: bool
) -> None:
    one, other = (entry(run_folder(tmp_path / name, 0, LEVELS, **how), {}) for name, how in
                  (("a", {}), ("b", changed)))  # fmt: skip
    assert (one.series == other.series) is same
    assert "paired, 4/s, 60 s" in in_words(one.definition)
    assert "max_tokens 64" in in_words(one.definition)


def test_the_same_recording_is_the_same_run_however_its_folder_is_called(tmp_path: Path) -> None:
    one, copy, other = (entry(run_folder(tmp_path, number, LEVELS, name=name), {}) for number, name in
                        ((0, "a"), (0, "b"), (1, "c")))  # fmt: skip
    assert one.run == copy.run != other.run
    assert one.digest == copy.digest


def test_what_is_made_up_from_another_seed_is_the_same_series(tmp_path: Path) -> None:
    load = {**SCENARIO["load"], "prompts": None, "synthetic": {"count": 200, "tokens": 32}}
    of_seeds = {
        entry(run_folder(tmp_path / str(seed), 0, LEVELS, scenario={**SCENARIO, "load": load},
                         prompts={"count": 200, "sha256": f"{seed:064x}"}), {}).series
        for seed in (1, 2)
    }  # fmt: skip
    assert len(of_seeds) == 1


def test_a_recording_that_does_not_say_its_plan_has_a_figure_a_metric(tmp_path: Path) -> None:
    """Older ones: what ran is the plan. Neither is the watched split stage mixed with the one that compares."""
    found = entry(run_folder(tmp_path, 0, SLOW, plans=[]), {})
    assert [one.name for one in found.measures] == list(LEVELS)
    bare = entry(run_folder(tmp_path / "bare", 0, SLOW, plans=[], stages=[]), {})
    told = dict(zip((one.name for one in bare.measures), bare.figures, strict=True))
    assert (told["ttft.p50 (stage 1)"].value, told["ttft.p50 (stage 2)"].value) == (0.088, 0.3)


@pytest.mark.parametrize(
    "written", ["2026-01-01T02:00:00Z", "2026-01-01T04:00:00+02:00", "2026-01-01T02:00:00.25+00:00", "2026-01-01 02:00"]
)
def test_runs_are_in_the_order_of_one_zone(tmp_path: Path, written: str) -> None:
    found = entry(run_folder(tmp_path, 0, LEVELS, started_utc=written), {})
    assert found.started_utc == "2026-01-01T02:00:00+00:00"


def test_where_no_branch_is_checked_out_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.test"]
    for what in (["init", "-qb", "topic"], ["commit", "-qm", "x", "--allow-empty"]):
        subprocess.run([*git, *what], check=True)
    run = run_folder(tmp_path, 0, LEVELS)
    assert entry(run, {}).branch == "topic"
    subprocess.run([*git, "checkout", "-q", "--detach"], check=True)
    assert (entry(run, {}).branch, len(entry(run, {}).commit)) == ("", 40)


def test_another_verdict_has_another_digest(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, 0, LEVELS)
    before = entry(folder, {})
    document = json.loads((folder / "verdict.json").read_text())
    (folder / "verdict.json").write_text(json.dumps({**document, "verdict": "rollback"}))
    after = entry(folder, {})
    assert (before.run, before.digest != after.digest) == (after.run, True)


def test_of_which_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bare, own = run_folder(tmp_path, 0, LEVELS), run_folder(tmp_path, 1, LEVELS, git={"head": "f00", "dirty": True})
    github = {"GITHUB_SHA": "abc", "GITHUB_REF_NAME": "main", "CI_COMMIT_SHA": "other"}
    assert entry(bare, {}).commit == ""
    assert (entry(bare, github).commit, entry(bare, github).branch) == ("abc", "main")
    assert entry(bare, {**github, "GITHUB_HEAD_REF": "topic"}).branch == "topic"
    assert entry(bare, {"CI_COMMIT_SHA": "def", "CI_COMMIT_REF_NAME": "dev"}).commit == "def"
    assert entry(own, github).commit == "f00-dirty", "what the run itself recorded is nearer to what was measured"
    assert entry(own, github, commit="said").commit == "said"


@pytest.mark.parametrize(
    ("text", "says"),
    [("{", "verdict.json: cannot be read"), ("[]", "expected an object"), ("{}", "expected a verdict of format 1")],
)
def test_a_damaged_verdict_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    folder = run_folder(tmp_path, 0, LEVELS)
    (folder / "verdict.json").write_text(text)
    with pytest.raises((RecordingError, UsageError), match=says):
        entry(folder, {})


@pytest.mark.parametrize(
    ("metric", "unit", "of", "worse"),
    [
        ("ttft.p99", "ratio", "s", "higher"),
        ("night.batch.request_throughput", "ratio", "1/s", "lower"),
        ("llm.response_time.p95", "ratio", "s", "higher"),
        ("memory.peak", "bytes", "bytes", "higher"),
        ("memory.edge", "tokens", "tokens", "lower"),
        ("max_load", "1/s", "1/s", "lower"),
        ("quality.kl", "nats", "nats", "higher"),
        ("quality.score.exact", "pp", "share", "lower"),
        ("osl", "ratio", "tokens", "either"),
    ],
)
def test_units_and_what_is_worse(metric: str, unit: str, of: str, worse: str) -> None:
    assert (unit_of(metric, unit), worse_of(metric)) == (of, worse)


def test_a_metric_that_is_told_twice_in_a_stage_has_the_first_figure(tmp_path: Path) -> None:
    again = Finding("ttft.p50", "pass", "in passing", "watch", unit="s", effect=0.5, candidate=0.5)
    found = entry(run_folder(tmp_path, 0, SLOW, extra=(again,)), {})
    assert [
        figure.value for one, figure in zip(found.measures, found.figures, strict=True) if one.metric == "ttft.p50"
    ] == [SLOW["ttft.p50"]]


def test_what_is_no_number_is_unknown(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, 0, LEVELS, extra=(Finding("energy", "pass", "x", "comparison", candidate=3.0),))
    found = entry(folder, {})
    figure = dict(zip((one.metric for one in found.measures), found.figures, strict=True))["energy"]
    assert figure.value == 3.0
    assert math.isnan(figure.effect)
    assert math.isnan(figure.low)


def test_where_a_history_may_lie(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="artifactory\\+https:// holds no history"):
        open_history("artifactory+https://host/x")
    assert not is_history(tmp_path)
    run_folder(tmp_path, 0, LEVELS, name="run")
    (tmp_path / "run" / "samples.parquet").write_bytes(b"")
    assert not is_history(tmp_path / "run")


def test_an_operation_at_another_load_is_another_series(tmp_path: Path) -> None:
    def of(rate: str) -> str:
        scenario = {"kind": "ab-test", "name": "ab", "a": {"model": "m", "version": 1}, "load": {"rate": rate}}
        return entry(run_folder(tmp_path / rate[:2], 0, LEVELS, scenario=scenario, plans=[], stages=[]), {}).series

    assert of("50/s") != of("80/s")
