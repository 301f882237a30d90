"""Stages that are planned in other ways than one load for both: splits of three, ramps, sweeps."""

import dataclasses
import itertools

import numpy as np
import pytest

from harness.judge import Evidence, judge
from harness.judge.statistics.intervals import ALPHA_FAIL
from harness.judge.view import StageView, equal_load
from harness.scenario.plan import requests
from harness.types import Gate, Sample, StagePlan, StageRecord, StageVerdict
from tests.judge.worlds import S, plan, sample, table

THREE = StagePlan(0, "split", "poisson", 200.0, 0.1, rate=20.0, baseline_share=0.1)
GATES = (Gate("errors", margin=0.03, margin_kind="absolute"), Gate("response_time.p50", margin=0.10))


def samples(stage: StagePlan, begin_s: float = 0.0, ratio: float = 1.0, seed: int = 3) -> list[Sample]:
    """A stage carried out to the letter by a server that takes some 20 ms, its candidate `ratio` times as long."""
    rng = np.random.default_rng(seed)
    rows = []
    for request in itertools.islice(requests(stage, seed, 5), 20_000):
        for arm in request.arms:
            took = 0.02 * float(np.exp(rng.normal(0, 0.1))) * (ratio if arm == "candidate" else 1.0)
            rows.append(sample(arm, request.pair_id, begin_s + request.due_ns / S, took, stage=stage.index))
    return rows


def evidence(*runs: tuple[StagePlan, list[Sample]]) -> Evidence:
    records, rows, now = [], [], 0.0
    for stage, seen in runs:
        end = round((now + stage.duration_s + 1) * S)
        records.append(StageRecord(stage, round(now * S), end_ns=end, decided_ns=end))
        rows += [s._replace(due_ns=s.due_ns + round(now * S), sent_ns=s.sent_ns + round(now * S),
                            done_ns=s.done_ns + round(now * S)) for s in seen]  # fmt: skip
        now += stage.duration_s + 1
    return Evidence.from_tables(table(rows), stages=records, gates=GATES, finished=True, planned=len(records))


def validity(verdict: StageVerdict) -> set[str]:
    return {f.metric for f in verdict.findings if f.kind == "validity" and f.outcome != "pass"}


def test_equal_parts_beside_a_third_are_equal_load() -> None:
    assert equal_load(THREE)
    assert not equal_load(dataclasses.replace(THREE, baseline_share=0.2))
    assert not equal_load(dataclasses.replace(THREE, baseline_share=None))


def test_ten_against_ten_is_compared_and_judged() -> None:
    (same,) = judge(evidence((THREE, samples(THREE)))).stages
    assert same.verdict == "promote", same.reason
    assert validity(same) == set()
    assert {f.kind for f in same.findings if f.metric == "response_time.p50"} == {"comparison"}
    (slow,) = judge(evidence((THREE, samples(THREE, ratio=1.5)))).stages
    assert slow.verdict == "rollback", slow.reason


@pytest.mark.parametrize("missing", ["baseline", "candidate", "stable"])
def test_a_split_of_three_of_which_one_part_is_off_is_a_fault(missing: str) -> None:
    rows = [s for i, s in enumerate(samples(THREE)) if s.arm != missing or i % 3 != 0]
    (verdict,) = judge(evidence((THREE, rows))).stages
    if missing == "stable":
        assert "validity.share" in {f.metric for f in verdict.findings}
    else:
        (fault,) = [f for f in verdict.findings if f.metric == "validity.share"]
        assert "the split is not the one of the plan" in fault.reason


def test_a_split_of_two_in_which_a_third_answers_is_a_fault() -> None:
    two = dataclasses.replace(THREE, baseline_share=None, candidate_share=0.1)
    assert validity(judge(evidence((two, samples(two)))).stages[0]) == set()
    # As three in truth: the baseline lacks what stable got.
    assert "validity.share" in validity(judge(evidence((two, samples(THREE)))).stages[0])


def test_the_stages_of_a_sweep_share_their_budget_of_false_rollbacks() -> None:
    sweep = [plan(i, "paired", 60.0, rate=10.0 * (i + 1), series=4) for i in range(4)]
    seen = evidence(*[(stage, samples(stage)) for stage in sweep])
    assert sum(StageView.of(seen, i, None).alpha for i in range(4)) == pytest.approx(ALPHA_FAIL)
    alone = plan(0, "paired", 60.0, rate=10.0)
    assert StageView.of(evidence((alone, samples(alone))), 0, None).alpha == ALPHA_FAIL


def test_a_ramp_compares_but_sets_no_objective() -> None:
    ramp = plan(0, "paired", 90.0, rate=2.0, rate_to=20.0)
    later = plan(1, "split", 60.0, 0.1, rate=20.0)
    seen = evidence((ramp, samples(ramp)), (later, samples(later)))
    assert StageView.of(seen, 0, None).role == "comparison"
    assert judge(seen).stages[0].verdict == "promote"
    assert StageView.of(seen, 1, None).reference is None
    (found,) = [f for f in judge(seen).stages[1].findings if f.metric == "response_time.p50"]
    assert "a ramp sets none" in found.reason
    slow = evidence((ramp, samples(ramp, ratio=1.5)))
    assert judge(slow).stages[0].verdict == "rollback"


def test_how_many_requests_a_ramp_owes_the_candidate_so_far() -> None:
    ramp = plan(0, "split", 100.0, 0.5, rate=10.0, rate_to=30.0)
    seen = evidence((ramp, samples(ramp)))
    assert StageView.of(seen, 0, None).candidate_due == pytest.approx(1000.0)
    half = StageView.of(seen, 0, 50 * S)
    assert half.candidate_due == pytest.approx(0.5 * (10 * 50 + 20 * 50**2 / 200), rel=0.02)
