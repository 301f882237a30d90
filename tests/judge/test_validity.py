"""A measurement that is at fault makes a stage inconclusive, whatever its numbers say."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from harness.judge import Evidence, judge, judge_stage
from harness.types import Sample, StageRecord
from tests.judge.worlds import GATES, VERSIONS, Llm, S, table


def altered(run: Llm, change: Callable[[Sample], Sample | None]) -> Evidence:
    kept = [new for new in map(change, run.samples) if new is not None]
    evidence = run.evidence()
    return dataclasses.replace(
        Evidence.from_tables(table(kept), stages=run.stages, gates=GATES, versions=VERSIONS),
        outputs=evidence.outputs,
    )


def faults(evidence: Evidence, stage: int = 0) -> set[str]:
    return {f.metric for f in judge_stage(evidence, stage).findings if f.kind == "validity"}


@pytest.fixture(scope="module")
def run() -> Llm:
    return Llm(kl=0.01).paired()


def test_a_sound_measurement_has_no_fault(run: Llm) -> None:
    assert faults(run.evidence()) == set()
    assert judge(run.evidence()).verdict == "promote"


def test_answers_of_another_version_void_everything(run: Llm) -> None:
    def wrong(s: Sample) -> Sample:
        return s._replace(version="1") if s.arm == "candidate" and s.pair_id % 7 == 0 else s

    evidence = altered(run, wrong)
    assert faults(evidence) == {"validity.version"}
    verdict = judge(evidence)
    assert verdict.verdict == "inconclusive"
    assert "came from version 1" in verdict.reason
    broken = Llm(candidate_errors=0.4).paired()
    assert judge(altered(broken, wrong)).verdict == "inconclusive"


def test_an_unknown_version_is_no_fault(run: Llm) -> None:
    assert faults(altered(run, lambda s: s._replace(version=""))) == set()


@pytest.mark.parametrize("arm", ["baseline", "candidate"])
def test_lost_partners_are_a_fault(run: Llm, arm: str) -> None:
    evidence = altered(run, lambda s: None if s.arm == arm and s.pair_id % 5 == 0 else s)
    assert faults(evidence) == {"validity.pairs"}
    assert judge(evidence).verdict == "inconclusive"


def test_a_few_lost_partners_are_not(run: Llm) -> None:
    assert faults(altered(run, lambda s: None if s.arm == "baseline" and s.pair_id % 50 == 0 else s)) == set()


def test_cancelled_partners_are_lost_ones(run: Llm) -> None:
    def cancelled(s: Sample) -> Sample:
        return s._replace(status="cancelled") if s.arm == "candidate" and s.pair_id % 4 == 0 else s

    assert faults(altered(run, cancelled)) == {"validity.pairs"}


def test_failures_of_an_arm_are_no_lost_pairs() -> None:
    assert faults(Llm(candidate_errors=0.3).paired().evidence()) == set()


def test_repeated_pair_ids_are_a_fault(run: Llm) -> None:
    assert "validity.pairs" in faults(altered(run, lambda s: s._replace(pair_id=s.pair_id // 2)))


def test_a_clock_that_was_set_is_a_fault(run: Llm) -> None:
    def jumped(s: Sample) -> Sample:
        return s._replace(done_ns=s.due_ns - S) if s.pair_id % 20 == 0 else s

    assert "validity.clock" in faults(altered(run, jumped))


def test_a_split_that_was_not_the_planned_one_is_a_fault() -> None:
    run = Llm().paired(60).split(0.1, 100)
    plan = dataclasses.replace(run.stages[1].plan, candidate_share=0.5)
    stages = [run.stages[0], dataclasses.replace(run.stages[1], plan=plan)]
    evidence = run.evidence(stages=stages)
    assert "validity.share" in faults(evidence, 1)
    assert faults(run.evidence(), 1) == set()
    strays = run.evidence(
        stages=[
            run.stages[0],
            dataclasses.replace(run.stages[1], plan=dataclasses.replace(plan, candidate_share=1.0)),
        ]
    )
    assert "validity.share" in faults(strays, 1)


def test_a_silent_worker_is_a_fault(run: Llm) -> None:
    def lost(s: Sample) -> Sample | None:
        second = (s.pair_id & 0xFFFF) % 2 == 1
        return None if second and s.due_ns > 50 * S else s._replace(worker=int(second))

    # A slot for each of them.
    stage = dataclasses.replace(run.stages[0], plan=dataclasses.replace(run.stages[0].plan, in_flight=2))
    silent = dataclasses.replace(altered(run, lost), stages=(stage,))
    assert "validity.workers" in faults(silent)
    well = altered(run, lambda s: s._replace(worker=(s.pair_id & 0xFFFF) % 2))
    assert "validity.workers" not in faults(dataclasses.replace(well, stages=(stage,)))


def test_a_baseline_that_cannot_score_itself_is_a_fault(run: Llm) -> None:
    def failed(s: Sample) -> Sample:
        bad = s.arm == "baseline" and s.assignment == "score" and s.pair_id % 4 == 0
        return s._replace(status="error", error="E") if bad else s

    assert "validity.scores" in faults(altered(run, failed))


def test_an_erring_candidate_is_rolled_back_though_the_split_is_off() -> None:
    run = Llm(candidate_errors=0.5).paired()
    stage = run.stages[0]
    split = dataclasses.replace(stage.plan, mode="split", candidate_share=0.8)
    evidence = run.evidence(stages=[StageRecord(split, stage.begin_ns, stage.end_ns)])
    assert "validity.share" in faults(evidence)
    assert judge(evidence).verdict == "rollback"


def test_a_stage_without_requests_is_no_data(run: Llm) -> None:
    verdict = judge(altered(run, lambda s: None))
    assert verdict.verdict == "inconclusive"
    assert {f.outcome for f in verdict.findings} == {"no data"}
