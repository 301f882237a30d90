"""Stages of unequal share: objectives and never a comparison."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from harness.judge import Evidence, judge, judge_stage
from harness.judge.columns import Columns
from harness.judge.times.derived import company
from harness.types import Finding, Gate, StageRecord
from tests.judge.worlds import GATES, Llm, S, bulk, plan, sample, table


def finding(run: Llm, stage: int, metric: str) -> Finding:
    return next(f for f in judge_stage(run.evidence(), stage).findings if f.metric == metric)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.75, 1.0])
def test_unequal_shares_are_never_compared(share: float) -> None:
    run = Llm(tpot_ratio=1.02).paired().split(share, 40)
    for found in judge_stage(run.evidence(), 1).findings:
        assert found.kind in ("watch", "validity")
        if found.metric in ("ttft.p50", "tpot.p50"):
            assert found.unit == "s"
            assert found.interval is None


def test_a_split_without_an_objective_has_no_data() -> None:
    run = Llm().split(0.1, 60)
    found = finding(run, 0, "tpot.p50")
    assert found.outcome == "no data"
    assert "no earlier stage compares both arms at equal load" in found.reason
    assert judge(run.evidence()).verdict == "inconclusive"


def test_a_run_of_splits_alone_proves_nothing() -> None:
    run = Llm(gates=(Gate("errors", 0.03, "absolute"),)).split(0.1, 60).split(1.0, 60)
    verdict = judge(run.evidence())
    assert verdict.verdict == "inconclusive"
    assert "No stage compared" in verdict.reason


def test_half_and_half_compares_only_where_nothing_has_compared_yet() -> None:
    first = Llm().split(0.5, 300, rate=2)
    assert finding(first, 0, "tpot.p50").kind == "comparison"
    later = Llm().paired().split(0.5, 30)
    assert finding(later, 1, "tpot.p50").kind == "watch"
    assert judge(later.evidence()).verdict == "promote"


def test_a_candidate_that_breaks_the_objective_fails() -> None:
    run = Llm(seed=1).paired()
    run.tpot_ratio = 1.5
    run.split(1.0, 40)
    found = finding(run, 1, "tpot.p50")
    assert found.outcome == "fail"
    assert "at equal load plus 10 %" in found.reason
    assert judge(run.evidence()).verdict == "rollback"


def test_a_machine_that_slowed_is_not_blamed_on_the_candidate() -> None:
    run = Llm(seed=2).paired()
    run.tpot *= 1.5
    run.split(0.5, 80)
    found = finding(run, 1, "tpot.p50")
    assert found.outcome == "inconclusive"
    assert "breaks its own objective as well" in found.reason


def test_an_identical_candidate_breaks_no_objective() -> None:
    for seed in range(25):
        run = Llm(seed=seed).paired(60).split(0.1).split(0.5, 30).split(1.0)
        for stage in (1, 2, 3):
            assert judge_stage(run.evidence(), stage).verdict == "promote"


def test_waiting_in_a_queue_is_not_slowness() -> None:
    """All of the traffic on one instance: requests queue, and only those without company are held to it."""
    n, rng = 100, np.random.default_rng(3)
    paired_due = np.arange(n) * 0.6
    service = 0.4 * np.exp(rng.normal(0, 0.05, (3, 200)))
    parts = [bulk(arm, paired_due, service[i, :n]) for i, arm in enumerate(("baseline", "candidate"))]
    arrivals = 100 + np.cumsum(rng.exponential(1 / 1.8, 200))
    total = np.cumsum(service[2])
    done = total + np.maximum.accumulate(arrivals - (total - service[2]))
    parts.append(bulk("candidate", arrivals, done - arrivals, stage=1))
    stages = [
        StageRecord(plan(0, "paired", 60, in_flight=1), 0, 61 * S),
        StageRecord(plan(1, "split", 115, 1.0, rate=1.8), 100 * S, 220 * S),
    ]
    gates = [Gate("response_time.p50", 0.10)]
    evidence = Evidence.from_tables(pa.concat_tables(parts), stages=stages, gates=gates)
    assert np.median(done - arrivals) > 1.3 * 0.4
    found = judge_stage(evidence, 1).findings[0]
    assert found.outcome == "pass"
    assert "had the arm to themselves" in found.reason
    assert found.n_candidate < 150


def test_company() -> None:
    rows = [sample("candidate", i, due, 1.0) for i, due in enumerate((0.0, 0.5, 0.9, 2.5))]
    columns = Columns.of(table(rows))
    assert company(columns, columns).tolist() == [0, 1, 2, 0]
    # No connection was free for the last one until it was given up: it met more than any.
    columns = dataclasses.replace(columns, sent_ns=np.where(np.arange(4) < 3, columns.sent_ns, -1))
    found = company(columns, columns)
    assert found[:3].tolist() == [0, 1, 2]
    assert found[3] > 1000


def test_a_candidate_without_the_requests_it_was_due_is_no_data() -> None:
    run = Llm().paired().split(0.5, 40)
    kept = [s for s in run.samples if not (s.stage == 1 and s.arm == "candidate")]
    evidence = Evidence.from_tables(table(kept), stages=run.stages, gates=GATES)
    outcomes = {f.metric: f.outcome for f in judge_stage(evidence, 1).findings}
    assert outcomes["errors"] == outcomes["tpot.p50"] == "no data"
    assert judge(evidence).verdict == "inconclusive"


def test_a_limit_holds_in_every_stage() -> None:
    gates = (Gate("errors", 0.03, "absolute"), Gate("response_time.p90", limit=0.8))
    run = Llm(gates=gates).paired()
    run.tpot_ratio = 3.0
    run.split(1.0, 40)
    assert finding(run, 0, "response_time.p90").outcome == "pass"
    broken = finding(run, 1, "response_time.p90")
    assert (broken.kind, broken.outcome) == ("watch", "fail")
    assert "limit 800.0 ms" in broken.reason


def test_watch_stages_share_one_budget() -> None:
    run = Llm().paired(60).split(0.1).split(0.5, 30).split(1.0)
    from harness.judge.view import StageView

    evidence = run.evidence()
    levels = [StageView.of(evidence, i, None).alpha for i in range(4)]
    assert levels[0] == 0.01
    assert levels[1:] == pytest.approx([0.01 / 2, 0.01 / 6, 0.01 / 12])
    # What is yet to come must not change what was decided.
    early = dataclasses.replace(evidence, stages=evidence.stages[:2])
    assert judge_stage(early, 1) == judge_stage(evidence, 1)
