"""Arms in turns, A-B-B-A: what a drifting machine does, and what periods that differ by themselves do."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from harness.judge import Evidence, judge, judge_stage
from harness.judge.times.sequential import turns
from harness.judge.view import StageView
from harness.types import Finding, Gate, StageRecord
from tests.judge.worlds import VERSIONS, S, bulk, plan

P50 = Gate("response_time.p50", 0.10)
NOTHING = dataclasses.replace(P50, margin=0.0)
PERIOD_S, RATE = 25, 8


def world(
    seed: int,
    *,
    slower: float = 1.0,
    drift: float = 0.0,
    between: float = 0.0,
    cycles: int = 3,
    gates: tuple[Gate, ...] = (P50,),
    period_s: int = PERIOD_S,
    warm_up: bool = False,
    run: int | None = None,
) -> Evidence:
    """`drift`: by how much the machine becomes slower over the whole stage; `between`: what periods differ by (sd)."""
    rng = np.random.default_rng(seed)
    periods, n = 4 * cycles, period_s * RATE
    tables, records, now, index = [], [], 0.0, 0
    offset = prompts = np.zeros(n)
    for period in range(1, periods + 1 if run is None else run + 1):
        arm = "candidate" if "ABBA"[(period - 1) % 4] == "B" else "baseline"
        if period % 2:  # the next one gets the same
            offset, prompts = np.sort(rng.uniform(0, period_s, n)), rng.normal(0, 0.2, n)
        here = plan(index, "sequential", period_s, float(arm == "candidate"), rate=float(RATE), periods=periods)
        if warm_up:
            warm = dataclasses.replace(here, purpose="warm-up", duration_s=5.0, periods=0)
            tables.append(bulk(arm, now + np.arange(20) / 4, np.full(20, 4.0), (index << 32) | np.arange(20), index))
            records.append(_record(warm, now, 5.0))
            now, index = now + 10, index + 1
            here = dataclasses.replace(here, index=index)
        machine = 1 + drift * (period - 1 + offset / period_s) / periods
        factor = (slower if arm == "candidate" else 1.0) * np.exp(rng.normal(0, between) if between else 0.0)
        latency = 0.1 * factor * machine * np.exp(prompts + rng.normal(0, 0.1, n))
        tables.append(bulk(arm, now + offset, latency, (index << 32) | np.arange(n), index))
        records.append(_record(dataclasses.replace(here, period=period), now, period_s))
        now, index = now + period_s + 3, index + 1
    return Evidence.from_tables(
        pa.concat_tables(tables), stages=records, gates=gates, seed=seed, planned=periods, versions=VERSIONS
    )


def _record(stage: object, begin_s: float, seconds: float) -> StageRecord:
    end = round((begin_s + seconds + 1) * S)
    return StageRecord(stage, round(begin_s * S), end_ns=end, decided_ns=end)  # type: ignore[arg-type]


def found(evidence: Evidence, metric: str = P50.metric) -> Finding:
    last = max(record.plan.index for record in evidence.stages)
    (one,) = (f for f in judge_stage(evidence, last).findings if f.metric == metric)
    return one


def allowed(rate: float, repetitions: int) -> int:
    return int(stats.binom.isf(0.001, repetitions, rate))


def test_identical_builds_are_promoted_and_the_sentence_says_what_it_rests_on() -> None:
    verdict = judge(world(1))
    assert verdict.verdict == "promote"
    assert [stage.verdict for stage in verdict.stages] == ["promote"] * 12
    assert verdict.stages[3].reason == "Period 4 of 12: judged when the last one is over"
    (gate,) = (f for f in verdict.findings if f.kind != "validity")
    assert gate.stage == 11
    assert gate.reason.endswith("(rests on v1 and v2 in turns, 3 times A-B-B-A)")
    assert (gate.n_baseline, gate.n_candidate) == (6 * PERIOD_S * RATE,) * 2


def test_a_linear_drift_of_the_machine_cancels() -> None:
    """A machine that becomes 60 % slower: the first halves alone would call v2 5 % slower."""
    for seed in range(20):
        gate = found(world(seed, drift=0.6))
        assert gate.effect == pytest.approx(1.0, abs=0.02)
        assert gate.outcome == "pass"


def test_a_slower_build_is_rolled_back() -> None:
    verdict = judge(world(2, slower=1.2))
    assert verdict.verdict == "rollback"
    (gate,) = (f for f in verdict.findings if f.outcome == "fail")
    assert gate.effect == pytest.approx(1.2, abs=0.02)


def test_periods_that_differ_by_themselves_are_no_evidence() -> None:
    """5 % from period to period: blocks alone would call almost every pair of identical builds different."""
    failed = sum(found(world(seed, between=0.05, gates=(NOTHING,))).outcome == "fail" for seed in range(150))
    assert failed <= allowed(0.01, 150)
    passed = sum(found(world(seed, between=0.05, slower=1.10)).outcome == "pass" for seed in range(150))
    assert passed <= allowed(0.05, 150)


def test_one_cycle_is_little_to_go_by_and_says_so() -> None:
    gate = found(world(3, cycles=1, period_s=60))
    assert gate.outcome == "pass"
    assert "once A-B-B-A; low trust: how much the machine changes from period to period is not known" in gate.reason


def test_a_warm_up_before_each_period_counts_nowhere() -> None:
    gate = found(world(4, warm_up=True))
    assert gate.outcome == "pass"
    assert (gate.baseline or 0) < 0.2
    assert gate.n_baseline == 6 * PERIOD_S * RATE


def test_too_few_requests_in_a_period_decide_nothing() -> None:
    gate = found(world(5, period_s=1))
    assert gate.outcome == "inconclusive"
    assert "and some in each period; there are 48, and 8 in the emptiest period" in gate.reason


def test_an_erring_build_ends_the_run_in_its_first_period() -> None:
    evidence = world(6, gates=(Gate("errors", 0.03, "absolute"), P50))
    samples = evidence.samples
    status = np.where(samples.arm == 1, 1, samples.status).astype(np.int8)
    broken = dataclasses.replace(evidence, samples=dataclasses.replace(samples, status=status))
    assert judge_stage(broken, 0).verdict == "promote"
    assert judge_stage(broken, 1, now_ns=evidence.stages[1].begin_ns + 20 * S).verdict == "rollback"
    assert judge(evidence).verdict == "promote"


def test_a_sequence_that_was_cut_short_promotes_nothing() -> None:
    assert judge(world(7, run=8)).verdict == "inconclusive"
    evidence = world(7)
    last = evidence.stages[-1]
    cut = dataclasses.replace(last, end_ns=last.begin_ns + 10 * S, decided_ns=None)
    assert judge(dataclasses.replace(evidence, stages=(*evidence.stages[:-1], cut))).verdict == "inconclusive"


def test_quality_and_throughput_are_not_compared_in_turns() -> None:
    gates = (P50, Gate("quality.kl", limit=0.06), Gate("request_throughput", 0.05))
    verdict = judge(world(8, gates=gates))
    assert verdict.verdict == "inconclusive"
    by_name = {f.metric: f for f in verdict.findings}
    assert by_name[P50.metric].outcome == "pass"
    assert by_name["request_throughput"].outcome == "no data"
    assert "quality.kl" not in by_name


def test_an_absolute_limit_is_held_against_all_periods_of_the_candidate() -> None:
    gate = found(world(9, gates=(Gate("response_time.p50", limit=0.05),)))
    assert gate.outcome == "fail"
    assert gate.n_candidate == 6 * PERIOD_S * RATE


def test_two_sequential_stages_are_kept_apart() -> None:
    one, two = world(10), world(11)
    shift = one.stages[-1].end_ns or 0
    later = tuple(
        dataclasses.replace(
            record, plan=dataclasses.replace(record.plan, index=record.plan.index + 12),
            begin_ns=record.begin_ns + shift, end_ns=(record.end_ns or 0) + shift, decided_ns=None,
        )
        for record in two.stages
    )  # fmt: skip
    both = dataclasses.replace(one, stages=(*one.stages, *later))
    whole = turns(StageView.of(both, 17, None))
    assert [record.plan.index for record in whole.records] == list(range(12, 18))
