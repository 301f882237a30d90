"""Errors: stopped early, never by a burst or by the surroundings, passed only when bounded."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.judge import Evidence, judge, judge_stage
from harness.types import Finding, Gate, Sample, StageRecord
from tests.judge.worlds import Llm, S, paired_plan, plan, sample, table

ERRORS = Gate("errors", 0.03, "absolute")


def world(
    n: int,
    bad: dict[str, list[int]],
    *,
    rate: float = 1.5,
    gate: Gate = ERRORS,
    status: str = "error",
    name: str = "E",
) -> Evidence:
    """`bad`: numbers of the failing requests of either arm, in one finished paired stage."""
    rows = [
        sample(arm, i, i / rate, 0.3, status=status, error=name)
        if i in bad.get(arm, [])
        else sample(arm, i, i / rate, 0.3)
        for i in range(n)
        for arm in ("baseline", "candidate")
    ]
    record = StageRecord(plan(0, "paired", n / rate, rate=rate), 0, round((n / rate + 1) * S))
    return Evidence.from_tables(table(rows), stages=[record], gates=[gate])


def errors(evidence: Evidence, stage: int = 0) -> Finding:
    return next(f for f in judge_stage(evidence, stage).findings if f.metric == "errors")


def test_a_third_of_errors_is_stopped_within_half_a_minute() -> None:
    for seed in range(12):
        evidence = Llm(seed=seed, candidate_errors=0.3).paired(60).evidence()
        assert judge_stage(evidence, 0, now_ns=30 * S).verdict == "rollback"


def test_the_sentence_names_the_numbers_and_the_class() -> None:
    evidence = Llm(candidate_errors=0.3).paired().evidence()
    found = errors(evidence)
    assert found.outcome == "fail"
    assert "of requests fail on v2" in found.reason
    assert "most often StatusCode.INTERNAL" in found.reason
    assert found.effect == pytest.approx(0.3, abs=0.1)
    assert judge(evidence).reason.lower() == found.reason.lower()


def test_no_error_in_99_requests_passes_3_points_and_98_do_not() -> None:
    assert errors(world(99, {})).outcome == "pass"
    short = errors(world(90, {}))
    assert short.outcome == "inconclusive"
    assert "99 requests without a failure" in short.reason
    assert short.needs_s == pytest.approx(6, abs=1)
    assert errors(world(200, {}, gate=Gate("errors"))).outcome == "inconclusive"
    assert errors(world(299, {}, gate=Gate("errors"))).outcome == "pass"


@pytest.mark.parametrize("status", ["error", "timeout", "oom", "refused"])
def test_every_failure_counts(status: str) -> None:
    bad = list(range(0, 150, 4))
    assert errors(world(150, {"candidate": bad}, status=status)).outcome == "fail"


def test_a_cancelled_request_failed_nobody() -> None:
    found = errors(world(150, {"candidate": list(range(0, 150, 4))}, status="cancelled"))
    assert found.candidate == 0.0
    assert found.n_candidate == 112


def test_one_burst_is_one_event() -> None:
    burst = {"candidate": list(range(2010, 2190))}  # 4.5 % of all, within one twentieth of the stage
    found = errors(world(4000, burst, rate=100))
    assert found.outcome == "inconclusive"
    spread = {"candidate": list(range(0, 4000, 10))}
    assert errors(world(4000, spread, rate=100)).outcome == "fail"


def test_a_short_stage_of_a_fast_model_can_be_failed() -> None:
    assert errors(world(600, {"candidate": list(range(0, 600, 3))}, rate=100)).outcome == "fail"


def test_all_requests_failing_is_a_rollback_and_not_missing_data() -> None:
    evidence = world(60, {"candidate": list(range(60))})
    assert judge(evidence).verdict == "rollback"
    both = world(60, {"candidate": list(range(60)), "baseline": list(range(60))})
    assert judge(both).verdict == "inconclusive"
    assert any(f.metric == "validity.baseline" for f in judge(both).findings)


def test_a_baseline_that_fails_is_named() -> None:
    evidence = world(200, {"baseline": list(range(0, 200, 4))})
    verdict = judge(evidence)
    assert verdict.verdict == "inconclusive"
    assert "v" not in verdict.reason[:1]
    assert "itself fails 25.0 % of requests" in verdict.reason


def test_failed_scores_count_as_requests() -> None:
    rows: list[Sample] = []
    for i in range(120):
        rows += [sample(arm, i, i * 0.6, 0.3) for arm in ("baseline", "candidate")]
        rows.append(sample("baseline", i, i * 0.6 + 0.3, 0.1, assignment="score"))
        failed = {"status": "error", "error": "Score"} if i % 3 == 0 else {}
        rows.append(sample("candidate", i, i * 0.6 + 0.3, 0.1, assignment="score", **failed))
    record = StageRecord(paired_plan(0, 72), 0, 73 * S)
    found = errors(Evidence.from_tables(table(rows), stages=[record], gates=[ERRORS]))
    assert found.outcome == "fail"
    assert found.n_candidate == 240


def test_equal_error_rates_are_rarely_blamed_while_looking_all_the_time() -> None:
    failed = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        bad = {arm: np.flatnonzero(rng.random(300) < 0.05).tolist() for arm in ("baseline", "candidate")}
        evidence = world(300, bad)
        failed += any(judge_stage(evidence, 0, now_ns=t * S).verdict == "rollback" for t in range(10, 200, 20))
    assert failed <= stats.binom.isf(0.001, 40, 0.01)


@pytest.mark.parametrize(("every", "outcome"), [(3, "fail"), (200, "pass"), (28, "inconclusive")])
def test_an_absolute_limit(every: int, outcome: str) -> None:
    evidence = world(400, {"candidate": list(range(5, 400, every))}, gate=Gate("errors", limit=0.03))
    assert errors(evidence).outcome == outcome


def test_nothing_to_one_arm_is_no_data() -> None:
    rows = [sample("baseline", i, i * 0.6, 0.3) for i in range(120)]
    record = StageRecord(paired_plan(0, 72), 0, 73 * S)
    evidence = Evidence.from_tables(table(rows), stages=[record], gates=[ERRORS])
    found = errors(evidence)
    assert found.outcome == "no data"
    assert "got no request" in found.reason
    assert judge(evidence).verdict == "inconclusive"


# -------------------------------------------------------------- watch stages


def test_an_erring_candidate_is_stopped_in_a_split() -> None:
    run = Llm(seed=3).paired()
    run.candidate_errors = 0.6
    run.split(0.5, 60)
    evidence = run.evidence()
    assert judge_stage(evidence, 0).verdict == "promote"
    found = errors(evidence, 1)
    assert (found.outcome, found.kind) == ("fail", "watch")
    assert judge(evidence).verdict == "rollback"


def test_when_both_arms_fail_in_a_split_the_surroundings_are_to_blame() -> None:
    run = Llm(seed=4).paired()
    run.candidate_errors = run.baseline_errors = 0.5
    run.split(0.5, 120)
    found = errors(run.evidence(), 1)
    assert found.outcome == "inconclusive"
    assert "fails in this stage as well" in found.reason


def test_a_candidate_that_failed_all_of_its_few_requests_is_not_passed() -> None:
    run = Llm(seed=5).paired()
    run.candidate_errors = 1.0
    run.split(0.1, 20)
    assert errors(run.evidence(), 1).outcome in ("inconclusive", "fail")
    assert judge(run.evidence()).verdict != "promote"
