"""Recordings of other tools: what is judged, what has no data, and what must not pass."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.judge import Evidence, judge, normalise
from harness.recording import Recording
from harness.types import Finding, Gate, Verdict
from tests.recording.imports import BEGIN_NS, DATA, aiperf

HOUR_NS = 3600 * 10**9


def runs(tmp_path: Path, *, later_ns: int = HOUR_NS, n: int = 1500, **second: Any) -> Recording:
    first = aiperf(tmp_path / "v1.jsonl", n)
    return Recording.of_runs(
        first, aiperf(tmp_path / "v2.jsonl", begin_ns=BEGIN_NS + later_ns, seed=2, **{"n": n, **second})
    )


def verdict_of(recording: Recording, *gates: Gate) -> Verdict:
    evidence = Evidence.of(recording)
    return judge(dataclasses.replace(evidence, gates=normalise(gates)) if gates else evidence)


def finding(verdict: Verdict, metric: str) -> Finding:
    return next(found for found in verdict.findings if found.metric == metric)


def stopped(verdict: Verdict) -> set[str]:
    return {f.metric for f in verdict.findings if f.kind == "validity" and f.outcome != "pass"}


def test_identical_builds_pass_and_the_trust_is_said(tmp_path: Path) -> None:
    verdict = verdict_of(runs(tmp_path))
    assert verdict.verdict == "promote", verdict.reason
    assert [f.metric for f in verdict.findings if f.margin is not None] == ["errors", "ttft.p50", "tpot.p50"]
    told = finding(verdict, "validity.imported")
    assert (told.outcome, told.kind) == ("pass", "validity")
    for clause in ("low trust", "one run after the other", "no due times", "tokenizer that AIPerf was given"):
        assert clause in told.reason


def test_a_slower_build_is_rolled_back_though_it_sent_less(tmp_path: Path) -> None:
    verdict = verdict_of(runs(tmp_path, slower=1.3))
    assert verdict.verdict == "rollback", verdict.reason
    assert {"ttft.p50", "tpot.p50"} <= {f.metric for f in verdict.findings if f.outcome == "fail"}


def test_side_by_side_is_no_low_trust(tmp_path: Path) -> None:
    told = finding(verdict_of(runs(tmp_path, later_ns=0)), "validity.imported")
    assert "at the same time" in told.reason
    assert "low trust" not in told.reason


def test_a_request_latency_is_no_response_time(tmp_path: Path) -> None:
    recording = runs(tmp_path)
    verdict = verdict_of(recording, Gate("response_time.p50"), Gate("request_latency.p50"))
    assert finding(verdict, "response_time.p50").outcome == "no data"
    assert finding(verdict, "request_latency.p50").outcome == "pass"
    assert finding(verdict, "request_latency.p50").baseline == pytest.approx(0.050, rel=0.05)
    assert verdict.verdict == "inconclusive"
    limit = verdict_of(recording, Gate("response_time.p90", limit=10.0), Gate("errors"))
    assert finding(limit, "response_time.p90").outcome != "pass"
    assert limit.verdict == "inconclusive"


def test_the_default_gates_are_on_what_there_is(tmp_path: Path) -> None:
    def without(*names: str) -> list[str]:
        def change(_: int, entry: dict[str, Any]) -> None:
            for name in names:
                del entry["metrics"][name]

        first = aiperf(tmp_path / "a.jsonl", 1200, change=change)
        second = aiperf(tmp_path / "b.jsonl", 1200, begin_ns=BEGIN_NS + HOUR_NS, change=change)
        return [gate.metric for gate in Evidence.of(Recording.of_runs(first, second)).rules]

    whole = ["request_latency.p50", "request_latency.p90", "request_latency.p99"]
    assert without() == ["errors", "ttft.p50", "tpot.p50"]
    assert without("output_sequence_length") == ["errors", "ttft.p50", *whole]
    assert without("time_to_first_token") == ["errors", *whole]


def test_failures_count(tmp_path: Path) -> None:
    def fail(number: int, entry: dict[str, Any]) -> None:
        if number % 10 == 0:
            entry["error"] = {"code": 500, "type": "Internal Server Error", "message": ""}

    verdict = verdict_of(runs(tmp_path, change=fail))
    assert verdict.verdict == "rollback"
    assert finding(verdict, "errors").candidate == pytest.approx(0.1, abs=0.01)


def test_another_load_is_not_compared(tmp_path: Path) -> None:
    """A full server answers eight at a time as fast as two, each four times as slowly."""
    for loop, slower in ((8, 4.0), (8, 1.0), (1, 0.5)):
        verdict = verdict_of(runs(tmp_path, loop=loop, slower=slower))
        assert verdict.verdict == "inconclusive", (loop, slower, verdict.reason)
        assert "validity.load" in stopped(verdict)


def test_what_the_tool_was_asked_for_decides_where_it_is_known(tmp_path: Path) -> None:
    recording = runs(tmp_path)
    for arm, load in (("baseline", "concurrency 2"), ("candidate", "concurrency 4")):
        recording.meta["imported"]["arms"][arm]["loads"] = (load,)
    verdict = verdict_of(recording)
    assert stopped(verdict) == {"validity.load"}
    assert "concurrency 2 on the baseline and concurrency 4 on the candidate" in verdict.reason


def test_an_open_loop_is_of_equal_load_though_more_are_in_flight(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    paths = []
    for name, ms, begin in (("a", 50.0, BEGIN_NS), ("b", 100.0, BEGIN_NS + HOUR_NS)):
        path = tmp_path / f"{name}.csv"
        sent = begin // 10**6 + np.cumsum(rng.exponential(25, 2000)).astype(np.int64)
        elapsed = ms * rng.lognormal(0, 0.2, 2000)
        with path.open("w", newline="") as file:
            write = csv.writer(file)
            write.writerow(["timeStamp", "elapsed", "label", "responseCode", "success", "failureMessage"])
            write.writerows([at, took, "infer", 200, "True", ""] for at, took in zip(sent, elapsed, strict=True))
        paths.append(path)
    verdict = verdict_of(Recording.of_runs(*paths))
    assert not stopped(verdict)
    assert verdict.verdict == "rollback"


def test_failures_after_the_other_run_had_ended_stop_a_promote(tmp_path: Path) -> None:
    def fail(number: int, entry: dict[str, Any]) -> None:
        if number >= 2500:
            entry["error"] = {"code": 500, "type": "E", "message": ""}

    verdict = verdict_of(longer(tmp_path, fail))
    assert stopped(verdict) == {"validity.left-out"}
    assert verdict.verdict == "inconclusive"
    assert not stopped(verdict_of(longer(tmp_path, lambda *_: None)))


def longer(tmp_path: Path, change: Any) -> Recording:
    first = aiperf(tmp_path / "v1.jsonl", 1500)
    return Recording.of_runs(
        first, aiperf(tmp_path / "v2.jsonl", 3000, begin_ns=BEGIN_NS + HOUR_NS, seed=2, change=change)
    )


def test_two_ways_to_count_tokens_are_not_compared(tmp_path: Path) -> None:
    recording = runs(tmp_path)
    recording.meta["imported"]["arms"]["candidate"]["tokens"] = "the server's own count"
    assert stopped(verdict_of(recording)) == {"validity.tokens"}
    assert not stopped(verdict_of(recording, Gate("errors"), Gate("ttft.p50")))


def test_whole_milliseconds_are_too_coarse_for_a_fast_model(tmp_path: Path) -> None:
    def coarse(ms: float) -> Verdict:
        head = "timeStamp,elapsed,label,responseCode,success,failureMessage\n"
        rng = np.random.default_rng(1)
        for name in ("a", "b"):
            lines = [f"{BEGIN_NS // 10**6 + 40 * i},{ms + rng.integers(0, 3):.0f},x,200,true,\n" for i in range(1500)]
            (tmp_path / f"{name}.csv").write_text(head + "".join(lines))
        return verdict_of(Recording.of_runs(tmp_path / "a.csv", tmp_path / "b.csv"))

    assert stopped(coarse(6)) == {"validity.steps"}
    assert not stopped(coarse(60))


def test_a_file_that_loses_failures_proves_nothing_for_the_candidate(tmp_path: Path) -> None:
    recording = runs(tmp_path)
    recording.meta["imported"]["arms"]["candidate"]["loses"] = "it loses requests"
    verdict = verdict_of(recording)
    assert (verdict.verdict, stopped(verdict)) == ("inconclusive", {"validity.loses"})
    recording = runs(tmp_path)
    recording.meta["imported"]["arms"]["baseline"]["loses"] = "it loses requests"
    assert verdict_of(recording).verdict == "promote", "a baseline without its failures only looks better"


def test_a_history_judges_errors_and_has_no_data_of_times() -> None:
    recording = Recording.of_runs(DATA / "locust_stats_history.csv", DATA / "locust_failing_stats_history.csv")
    verdict = verdict_of(recording)
    assert verdict.verdict == "rollback"
    assert finding(verdict, "errors").candidate == pytest.approx(0.6)
    assert finding(verdict, "request_latency.p50").outcome == "no data"
    swapped = Recording.of_runs(DATA / "locust_stats_history.csv", DATA / "k6_both.csv")
    assert verdict_of(swapped).verdict != "promote"


def test_our_own_recordings_have_no_such_finding(tmp_path: Path) -> None:
    recording = runs(tmp_path)
    del recording.meta["imported"]
    assert "validity.imported" not in {f.metric for f in verdict_of(recording).findings}


def test_the_same_bytes_twice(tmp_path: Path) -> None:
    first, second = runs(tmp_path), runs(tmp_path)
    assert json.dumps(first.meta) == json.dumps(second.meta)
    assert first.samples.equals(second.samples)
