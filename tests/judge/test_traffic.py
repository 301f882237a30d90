"""A deploy, strays, and the observed split: what the traffic itself shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from harness.judge import STRAYS, Evidence, judge, judge_stage
from harness.recording.schema import READINGS
from harness.types import Finding, Gate, Reading, Sample, StageRecord
from tests.judge.worlds import VERSIONS, S, bulk, plan, sample, table

ERRORS = Gate("errors", 0.03, "absolute")
DEPLOY = plan(0, "split", 300.0, 0.0, rate=50.0, purpose="deploy")
END_S = 20.0


def readings(*seen: tuple[float, int], device: str = "tiny/2") -> pa.Table:
    """`seen`: when (in seconds) and how many strays so far."""
    return table([Reading(round(t * S), "triton", device, STRAYS, float(n), "1") for t, n in seen], READINGS)


def deployed(*more: Sample, end_s: float | None = END_S, decided_s: float | None = None, **known: object) -> Evidence:
    """A deploy of 20 s in which v1 answers 1000 requests, and `more`."""
    due = np.arange(0, END_S, 0.02)
    samples = pa.concat_tables([bulk("baseline", due, np.full(len(due), 0.005)), table(more)])
    end_ns, decided_ns = (None if t is None else round(t * S) for t in (end_s, decided_s))
    record = StageRecord(DEPLOY, 0, end_ns=end_ns, decided_ns=decided_ns)
    return Evidence.from_tables(samples, stages=[record], gates=[ERRORS], versions=VERSIONS, **known)  # type: ignore[arg-type]


def of(evidence: Evidence, metric: str, stage: int = 0, now_ns: int | None = None) -> Finding:
    return next(f for f in judge_stage(evidence, stage, now_ns=now_ns).findings if f.metric == metric)


def failed_at(t_s: float) -> Sample:
    return sample("baseline", 99_999, t_s, 0.01, status="error", error="unavailable")


def test_a_deploy_passes_when_v1_answered_everything_however_short_it_was() -> None:
    verdict = judge_stage(deployed(), 0)
    assert (verdict.verdict, verdict.reason) == ("promote", "None of 1000 requests at v1 failed while v2 was brought")
    assert {f.metric for f in verdict.findings} == {"deploy.errors", "request_throughput"}, "v2 is not judged yet"


def test_one_failed_request_of_v1_is_a_rollback() -> None:
    found = of(deployed(failed_at(3.0)), "deploy.errors")
    assert found.outcome == "fail"
    assert found.reason == "1 of 1001 requests at v1 failed while v2 was brought; most often unavailable (once)"
    assert judge(deployed(failed_at(3.0))).verdict == "rollback"


def test_a_look_at_a_deploy_can_only_fail() -> None:
    evidence = deployed(failed_at(9.0), end_s=None)
    assert judge_stage(evidence, 0, now_ns=8 * S).verdict == "inconclusive"
    assert judge_stage(evidence, 0, now_ns=10 * S).verdict == "rollback"
    assert judge_stage(deployed(end_s=None), 0).verdict == "inconclusive", "it was cut short"


def test_a_deploy_without_a_request_proves_nothing() -> None:
    record = StageRecord(DEPLOY, 0, end_ns=5 * S)
    evidence = Evidence.from_tables(table([]), stages=[record], versions=VERSIONS)
    assert of(evidence, "deploy.errors").outcome == "no data"
    assert judge_stage(evidence, 0).verdict == "inconclusive"


def test_v2_must_get_no_request_while_it_is_brought() -> None:
    assert judge_stage(deployed(sample("candidate", 5, 3.0, 0.01)), 0).verdict == "inconclusive"


def test_the_first_stray_is_a_rollback_and_says_why() -> None:
    evidence = deployed(readings=readings((0.5, 0), (9.0, 0), (9.2, 37)), guarded="tiny/2")
    verdict = judge(evidence)
    assert verdict.verdict == "rollback"
    assert verdict.reason.startswith(
        "At least 37 requests reached v2 that this run did not send: Triton gives a request"
    )
    assert judge_stage(evidence, 0, now_ns=9 * S).verdict == "inconclusive", "not yet seen"
    assert judge_stage(evidence, 0, now_ns=round(9.2 * S)).verdict == "rollback"


def test_a_look_that_found_strays_is_repeated_from_the_recording() -> None:
    known = {"readings": readings((9.0, 0), (9.2, 3), (11.0, 40)), "guarded": "tiny/2"}
    live = judge_stage(deployed(end_s=None, **known), 0, now_ns=round(9.2 * S))
    later = judge_stage(deployed(end_s=9.2, decided_s=9.2, **known), 0)
    assert live == later


def test_strays_that_came_later_are_not_this_stages() -> None:
    evidence = deployed(readings=readings((19.0, 0), (21.0, 5)), guarded="tiny/2")
    assert of(evidence, "traffic.strays").outcome == "pass"


def test_nothing_is_asked_where_nobody_watched() -> None:
    evidence = deployed(readings=readings((9.2, 37)))
    assert judge_stage(evidence, 0).verdict == "promote"
    assert all(f.metric != "traffic.strays" for f in judge_stage(evidence, 0).findings)


@pytest.mark.parametrize("seen", [None, readings(), readings((1.0, 0), device="tiny/3"), readings((1.0, 0), (9.0, 0))])
def test_missing_readings_never_promote(seen: pa.Table | None) -> None:
    evidence = deployed(readings=seen, guarded="tiny/2")
    assert of(evidence, "traffic.strays").outcome == "no data"
    assert judge_stage(evidence, 0).verdict == "inconclusive"


def test_no_fault_of_the_measurement_voids_strays() -> None:
    wrong = sample("baseline", 5, 3.0, 0.01, version="2")
    evidence = deployed(wrong, failed_at(3.0), readings=readings((9.0, 4)), guarded="tiny/2")
    verdict = judge_stage(evidence, 0)
    assert any(f.metric == "validity.version" for f in verdict.findings)
    assert verdict.verdict == "rollback"
    assert verdict.reason.startswith("At least 4 requests reached v2")


def test_the_observed_split_is_told_with_its_interval() -> None:
    due = np.arange(0, 30, 0.02)
    second = np.arange(len(due)) % 20 == 7
    samples = pa.concat_tables(
        [
            bulk(arm, due[mine], np.full(mine.sum(), 0.005))
            for arm, mine in (("baseline", ~second), ("candidate", second))
        ]
    )
    record = StageRecord(plan(0, "split", 30.0, 0.05, rate=50.0), 0, end_ns=30 * S)
    found = of(Evidence.from_tables(samples, stages=[record], gates=[ERRORS], versions=VERSIONS), "traffic.share")
    assert found.reason == "for information: v2 got 5.0 % of requests (75 of 1500), planned were 5.0 %"
    assert found.effect == 0.05
    assert found.interval is not None
    assert found.interval == pytest.approx((0.041, 0.0604), abs=0.001)


def test_a_deploy_takes_nothing_of_the_budget_of_the_watches_that_follow() -> None:
    """A candidate that fails some of its requests is rolled back after the same number of them."""

    def run(*before: StageRecord) -> Evidence:
        index = len(before)
        due = np.arange(0, 20, 0.1) + 30 * index
        samples = [bulk("baseline", due, np.full(len(due), 0.005), stage=index)]
        fails = [sample("candidate", i, 30 * index + i, 0.01, stage=index, status="error", error="x") for i in range(8)]
        record = StageRecord(plan(index, "split", 20.0, 0.04, rate=10.0), 30 * index * S, end_ns=(30 * index + 20) * S)
        whole = pa.concat_tables([*samples, table(fails)])
        return Evidence.from_tables(whole, stages=[*before, record], gates=[ERRORS], versions=VERSIONS)

    alone = of(run(), "errors")
    after = of(run(StageRecord(DEPLOY, 0, end_ns=20 * S)), "errors", stage=1)
    assert replace(after, stage=0) == alone


def test_the_planners_own_stages_do_not_stand_for_the_scenarios() -> None:
    assert "Only 0 of 1 planned stages were run" in judge(replace(deployed(), planned=1)).reason
