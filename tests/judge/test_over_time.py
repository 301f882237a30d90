"""The evidence over time: each look is what the judge would have said then, the last one is the verdict."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from harness.judge import Evidence, evidence_of, evidence_over_time, judge, judge_stage
from harness.types import Finding, Look, StageVerdict
from tests.judge.test_second_opinion import world
from tests.judge.worlds import Llm, S
from tests.report import factory

FEW = 6


def looks_of(evidence: Evidence, most: int = FEW) -> tuple[Look, ...]:
    return evidence_over_time(evidence, judge(evidence), most)


def test_each_look_is_what_a_live_judge_would_have_said() -> None:
    evidence = world(3, ratio=1.4)
    looks = looks_of(evidence)
    assert [look.after_s for look in looks] == [50.0, 100.0, 150.0, 200.0, 250.0, 300.0]
    for look in looks[:-1]:
        now_ns = round(look.after_s * S)
        assert look.verdict == judge_stage(evidence.upto(now_ns), 0, now_ns=now_ns)  # nothing that came later counts
    assert [look.end for look in looks] == [False] * 5 + [True]
    assert looks[-1].verdict.verdict == "rollback"
    assert any(finding.outcome == "fail" for look in looks[:-1] for finding in look.verdict.findings)


def test_the_last_look_of_every_stage_agrees_with_the_verdict() -> None:
    evidence = Llm(seed=1, tpot_ratio=1.2).paired(90).split(0.5, 20).split(1.0, 10).evidence()
    verdict = judge(evidence)
    looks = evidence_over_time(evidence, verdict, FEW)
    last: dict[int, StageVerdict] = {look.verdict.stage: look.verdict for look in looks}
    assert tuple(last.values()) == verdict.stages
    tpot = [finding for look in looks for finding in look.verdict.findings if _paired(finding, "tpot.p50")]
    assert tpot[-1] in verdict.findings
    width = [high - low for low, high in (f.interval for f in tpot if f.interval) if low is not None and high]
    assert len(width) >= 3
    assert width[-1] < width[0]  # more requests tell more


def _paired(finding: Finding, metric: str) -> bool:
    return finding.metric == metric and finding.stage == 0 and finding.kind == "comparison"


def test_the_verdict_is_not_changed_by_looking() -> None:
    evidence = world(2, seconds=60)
    before = judge(evidence)
    evidence_over_time(evidence, before, 8)
    assert judge(evidence) == before
    assert evidence_over_time(evidence, before, 8) == evidence_over_time(world(2, seconds=60), before, 8)


def test_a_stage_that_the_run_decided_ends_there() -> None:
    evidence = world(3, ratio=1.6)
    stage = replace(evidence.stages[0], end_ns=75 * S, decided_ns=70 * S)  # what was in flight then took its time
    looks = looks_of(replace(evidence, stages=(stage,)))
    assert [round(look.after_s, 6) for look in looks][-1] == 70.0
    assert max(look.after_s for look in looks) == 70.0
    assert (looks[-1].live, looks[-1].decides, looks[-1].end) == (True, True, False)


def test_a_stage_that_begins_late_says_when() -> None:
    looks = looks_of(Evidence.of(factory.recording(plans=factory.PLANS[:1])), 2)
    assert {look.begin_s for look in looks} == {8.0}
    assert looks[-1].begin_s + looks[-1].after_s == pytest.approx(98.0)


def test_warm_ups_and_deploys_have_no_looks() -> None:
    plans = (factory.PLANS[4], replace(factory.PLANS[0], index=1), replace(factory.PLANS[4], index=2, purpose="deploy"))
    looks = looks_of(Evidence.of(factory.recording(plans=plans)), 3)
    assert {look.verdict.stage for look in looks} == {1}


def test_no_look_knows_of_the_rollback_that_came_after_it() -> None:
    evidence = replace(world(3, seconds=60, errors=0.3), settled_ns=59 * S)
    looks = looks_of(evidence)
    told = [any(finding.metric == "traffic.rollback" for finding in look.verdict.findings) for look in looks]
    assert told == [False] * (len(looks) - 1) + [True]


def test_the_work_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = world(2, rate=5)
    verdict = judge(evidence)
    monkeypatch.setattr("harness.judge.over_time._MOST_ROWS", 7500)
    assert len(evidence_over_time(evidence, verdict, 24)) == 5  # of 1,500 samples on average
    monkeypatch.setattr("harness.judge.over_time._MOST_ROWS", 1000)
    assert len(evidence_over_time(evidence, verdict, 24)) == 1  # the verdict itself


def test_counts_tell_nothing_of_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    recording = factory.big(400)
    recording = replace(recording, meta={**recording.meta, "gates": [asdict(gate) for gate in factory.GATES[:1]]})
    assert len(looks_of(evidence_of(recording), 3)) == 6
    monkeypatch.setattr("harness.judge.sketched.evidence.MOST_SAMPLES", 100)
    assert looks_of(evidence_of(recording), 3) == ()
