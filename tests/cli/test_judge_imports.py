"""`judge` on files of other tools, from argv to exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Call
from tests.recording.imports import BEGIN_NS, DATA, aiperf

LATER_NS = BEGIN_NS + 3600 * 10**9


@pytest.mark.parametrize(("slower", "code", "word"), [(1.0, 0, "promote"), (1.3, 1, "rollback")])
def test_two_runs_of_aiperf(call: Call, tmp_path: Path, slower: float, code: int, word: str) -> None:
    first = aiperf(tmp_path / "v1.jsonl", 1500)
    second = aiperf(tmp_path / "v2.jsonl", 1500, slower=slower, begin_ns=LATER_NS, seed=2)
    done = call("judge", "--baseline", first, "--candidate", second, "--json")
    assert done.code == code, done.stderr
    document = json.loads(done.stdout)
    assert document["verdict"] == word
    assert "low trust" in next(f["reason"] for f in document["findings"] if f["metric"] == "validity.imported")
    shown = call("judge", "--baseline", first, "--candidate", second)
    assert shown.code == code
    assert "baseline: v1.jsonl of AIPerf" in " ".join(shown.stdout.split())
    assert "low trust: recorded by AIPerf" in " ".join(shown.stdout.split())
    assert not list(tmp_path.glob("*.json")), "a question about somebody's files leaves nothing beside them"


def test_a_gate_on_what_the_tool_does_not_record_never_passes(call: Call, tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("gates:\n  - {metric: response_time.p50, margin: 10%}\n")
    first, second = aiperf(tmp_path / "v1.jsonl", 1500), aiperf(tmp_path / "v2.jsonl", 1500, begin_ns=LATER_NS)
    done = call("judge", "--baseline", first, "--candidate", second, "--rules", rules, "--json")
    assert done.code == 3, done.stderr
    (gate,) = (f for f in json.loads(done.stdout)["findings"] if f["metric"] == "response_time.p50")
    assert gate["outcome"] == "no data"


def test_one_file_of_k6_with_both_arms(call: Call) -> None:
    done = call("judge", DATA / "k6_both.csv", "--json")
    assert done.code == 3, "six requests an arm decide nothing"
    assert json.loads(done.stdout)["run"]["finished"]


def test_looks_on_an_import(call: Call, tmp_path: Path) -> None:
    first = aiperf(tmp_path / "v1.jsonl", 1500)
    second = aiperf(tmp_path / "v2.jsonl", 1500, slower=1.5, begin_ns=LATER_NS, seed=2)
    done = call("judge", "--baseline", first, "--candidate", second, "--looks", "10s")
    assert done.code == 1, done.stderr


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ((), "give a path, or both --baseline FILE and --candidate FILE"),
        (("--baseline", DATA / "aiperf.jsonl"), "give a path, or both"),
        ((DATA / "k6_both.csv", "--baseline", DATA / "aiperf.jsonl"), "give a path, or both"),
        ((DATA / "aiperf.jsonl",), "nothing in it tells two arms apart"),
        (("--baseline", DATA, "--candidate", DATA / "aiperf.jsonl"), "is a folder, expected a file"),
        (("--baseline", DATA / "locust_stats.csv", "--candidate", DATA / "aiperf.jsonl"), "_stats_history.csv"),
    ],
)
def test_wrong_usage_is_one_line(call: Call, args: tuple[object, ...], says: str) -> None:
    done = call("judge", *args)
    assert done.code == 2
    assert done.stdout == ""
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
