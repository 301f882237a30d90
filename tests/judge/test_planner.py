"""The planner's promises, held against simulated stages; and what it says of them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from harness.judge import Evidence, judge, judge_stage, verdict_json
from harness.judge.planning.foresight import counted, prospect
from harness.judge.planning.planner import Noise, assumed, detectable_rate, noise_of, outlook, reach
from harness.judge.statistics.boundary import look_alpha
from harness.judge.statistics.counts import boundary
from harness.judge.statistics.intervals import ALPHA_FAIL, ALPHA_PASS
from harness.types import Finding, Gate, StagePlan, StageRecord
from tests.judge.worlds import S, bulk, pairs_world, plan

P50, P99 = Gate("response_time.p50", 0.10), Gate("response_time.p99", 0.10)
ERRORS = Gate("errors", 0.03, "absolute")
REPETITIONS = 4000


def bounds(rng: np.random.Generator, effect: float, sd: float, blocks: int) -> tuple[np.ndarray, np.ndarray]:
    """Block differences of many stages as their running means and standard errors; each (REPETITIONS, blocks)."""
    seen = rng.normal(effect, sd, (REPETITIONS, blocks))
    n = np.arange(1, blocks + 1)
    mean = seen.cumsum(axis=1) / n
    variance = ((seen**2).cumsum(axis=1) / n - mean**2) * n / np.maximum(n - 1, 1)
    return mean, np.sqrt(np.maximum(variance, 0) / n)


def passed(mean: np.ndarray, error: np.ndarray, bar: float) -> float:
    blocks = mean.shape[1]
    return float((mean[:, -1] + stats.t.isf(ALPHA_PASS, blocks - 1) * error[:, -1] < bar).mean())


def rolled_back(mean: np.ndarray, error: np.ndarray, bar: float, alpha: float) -> float:
    """A look after each block from the twelfth on."""
    blocks = mean.shape[1]
    called = np.zeros(len(mean), bool)
    for n in range(12, blocks + 1):
        z = stats.t.isf(look_alpha(alpha, n / blocks), n - 1)
        called |= mean[:, n - 1] - z * error[:, n - 1] > bar
    return float(called.mean())


@pytest.mark.parametrize("alpha", [0.01, 0.0025])
def test_what_is_said_to_be_rolled_back_or_promoted_in_80_per_cent_is(alpha: float) -> None:
    rng, sd, blocks = np.random.default_rng(1), 0.12, 90
    seen = outlook(P50, Noise(sd / math.sqrt(blocks), 450.0), 450.0, alpha=alpha)
    bar = math.log(1.10)
    assert rolled_back(*bounds(rng, math.log1p(seen.rolls_back), sd, blocks), bar, alpha) == pytest.approx(
        0.8, abs=0.03
    )
    assert passed(*bounds(rng, math.log1p(seen.promotes), sd, blocks), bar) == pytest.approx(0.8, abs=0.03)
    assert passed(*bounds(rng, 0.0, sd, blocks), math.log1p(seen.tells)) == pytest.approx(0.8, abs=0.03)
    assert -0.01 < seen.promotes < 0.10 < seen.rolls_back


def test_a_stage_as_long_as_it_is_said_to_need_passes_equal_builds_in_80_per_cent() -> None:
    rng, sd = np.random.default_rng(2), 0.15
    need = outlook(P50, Noise(sd / math.sqrt(20), 100.0), 100.0).needs_s
    blocks = math.ceil(need / 5)
    assert blocks > 12
    assert passed(*bounds(rng, 0.0, sd, blocks), math.log(1.10)) == pytest.approx(0.8, abs=0.05)
    halved = passed(*bounds(rng, 0.0, sd, max(blocks // 2, 6)), math.log(1.10))
    assert halved < 0.6, "half of the time is not enough"


def test_p99_is_given_twice_the_time() -> None:
    noise = Noise(0.03, 60.0)
    assert outlook(P99, noise, 60.0).needs_s == pytest.approx(2 * outlook(P50, noise, 60.0).needs_s)


def found(evidence: Evidence, metric: str = P50.metric) -> Finding:
    return next(one for one in judge_stage(evidence, 0).findings if one.metric == metric)


def test_the_judge_keeps_what_the_planner_promises_from_one_warm_up() -> None:
    """The noise of short stages, averaged; then stages as long as it asks for. 0.6 s a pair."""
    gate = (replace(P50, margin=0.03),)
    noises = [noise_of(found(pairs_world(seed, 120, gates=gate)), 72.0) for seed in range(30)]
    known = [noise for noise in noises if noise is not None]
    assert len(known) == 30
    noise = Noise(math.sqrt(sum(one.se**2 for one in known) / 30), 72.0, known[0].rate)
    needs_s = outlook(gate[0], noise, 72.0).needs_s
    assert 72 < needs_s < 600
    n = math.ceil(needs_s / 0.6)
    ok = [found(pairs_world(1000 + seed, n, gates=gate)).outcome == "pass" for seed in range(150)]
    assert 0.68 < np.mean(ok) < 0.97
    ok = [found(pairs_world(2000 + seed, n // 3, gates=gate)).outcome == "pass" for seed in range(100)]
    assert np.mean(ok) < 0.55


def test_the_noise_does_not_depend_on_the_effect() -> None:
    """Planning is blind: an equal and a slower build of the same noise plan the same."""
    equal, slower = (noise_of(found(pairs_world(5, 150, ratio, gates=(P50,))), 90.0) for ratio in (1.0, 1.07))
    assert equal is not None
    assert slower is not None
    assert equal.se == pytest.approx(slower.se, rel=1e-6)


def test_fewer_requests_a_second_are_noisier_and_more_are_not_quieter() -> None:
    noise = Noise(0.02, 100.0, rate=50.0)
    assert noise.after(400.0) == pytest.approx(0.01)
    assert noise.after(100.0, rate=12.5) == pytest.approx(0.04)
    assert noise.after(100.0, rate=500.0) == pytest.approx(0.02)
    assert outlook(P50, noise, 100.0, rate=25.0).needs_s == pytest.approx(2 * outlook(P50, noise, 100.0).needs_s)


def test_nothing_is_said_to_take_less_than_the_requests_that_the_judge_wants() -> None:
    quiet = Noise(1e-5, 100.0, rate=10.0)
    assert outlook(P50, quiet, 100.0).needs_s == pytest.approx(6.0)
    assert outlook(P99, quiet, 100.0).needs_s == pytest.approx(100.0)


def test_there_is_no_noise_where_there_is_no_interval() -> None:
    open_ = Finding("ttft.p50", "inconclusive", "too few", effect=1.0, margin=1.1)
    assert noise_of(open_, 10.0) is None
    counts = Finding("errors", "pass", "x", unit="pp", effect=0.0, interval=(-0.01, 0.01), margin=0.03)
    assert noise_of(counts, 10.0) is None
    endless = Finding("ttft.p50", "inconclusive", "x", effect=1.0, interval=(0.9, math.inf), margin=1.1)
    assert noise_of(endless, 10.0) is None
    assert noise_of(replace(open_, interval=(0.9, 1.1)), 0.0) is None


def test_of_a_throughput_the_lower_end_is_what_counts() -> None:
    slow = Finding(
        "request_throughput", "pass", "x", effect=1.0, interval=(0.9, 1.3), margin=0.95, n_baseline=100, n_candidate=90
    )
    noise = noise_of(slow, 10.0)
    assert noise is not None
    assert noise.se == pytest.approx(-math.log(0.9) / stats.norm.isf(0.05))
    assert noise.rate == pytest.approx(9.0)
    seen = outlook(Gate("request_throughput", 0.05), noise, 10.0)
    assert 0.05 < seen.rolls_back < 1, "no throughput falls by more than all of it"


def test_a_margin_of_nothing_is_never_passed() -> None:
    assert outlook(replace(P50, margin=0.0), Noise(0.01, 100.0), 100.0).needs_s == math.inf


def test_a_stage_without_a_length_needs_longer() -> None:
    noise = Noise(0.03, 60.0)
    planned, open_ended = (outlook(P50, noise, 60.0, open_ended=is_open).needs_s for is_open in (False, True))
    assert 1.3 * planned < open_ended < 4 * planned


def test_a_smaller_level_has_to_reach_further() -> None:
    reaches = [reach(alpha) for alpha in (0.05, 0.01, 0.0025)]
    assert reaches == sorted(reaches)
    assert reach(ALPHA_FAIL) > stats.norm.isf(0.01) + stats.norm.isf(0.2) - 1e-9, "looking is not free"


# -------------------------------------------------------------- errors


@pytest.mark.parametrize(("gate", "n"), [(ERRORS, 500), (ERRORS, 5000), (Gate("errors", limit=0.01), 2000)])
def test_the_detectable_rate_of_failure_is_detected_in_80_per_cent(gate: Gate, n: int) -> None:
    rate = detectable_rate(gate, n)
    assert rate is not None
    failures = np.random.default_rng(3).binomial(n, rate, 300)
    seconds = n / 50
    called = {}
    for k in np.unique(failures).tolist():
        due = np.arange(n) / 50
        v2 = bulk("candidate", due, np.full(n, 0.1))
        status = np.full(n, "ok", object)
        status[np.linspace(0, n - 1, k).astype(int)] = "error"
        v2 = v2.set_column(v2.schema.get_field_index("status"), "status", pa.array(status.tolist()))
        whole = pa.concat_tables([bulk("baseline", due, np.full(n, 0.1)), v2])
        record = StageRecord(plan(0, "paired", seconds, rate=50.0), 0, end_ns=round((seconds + 1) * S))
        evidence = Evidence.from_tables(whole, stages=[record], gates=[gate], planned=1)
        called[k] = found(evidence, "errors").outcome == "fail"
    assert np.mean([called[k] for k in failures.tolist()]) == pytest.approx(0.8, abs=0.08)


def test_a_handful_of_requests_finds_no_rate() -> None:
    assert boundary(0) == 9
    assert detectable_rate(Gate("errors", 0.01, "absolute"), 8) is None
    assert detectable_rate(Gate("errors", 0.01, "absolute"), 0) is None


def test_errors_in_words() -> None:
    assert counted(ERRORS, None, 0.01) == "99 requests without a failure pass"
    assert counted(Gate("errors", limit=0.0), None, 0.01) == "the first failure breaks it"
    assert "in 5 not even a build that always fails" in counted(ERRORS, 5, 0.01)
    assert "in 1000 a build that fails 4.8 % is rolled back" in counted(ERRORS, 1000, 0.01)


# -------------------------------------------------------------- before and during a run


def test_before_a_run_in_words() -> None:
    stage = plan(0, "paired", 300.0, rate=50.0)
    text, seen = prospect(P50, stage, 15000, 1, Noise(0.02, 60.0, 50.0))
    assert seen is not None
    assert text == (
        "a difference of 2.2 % can be told in 300 s; a margin of 10 % needs 17 s; "
        "promotes up to 7.6 % worse, rolls back from 13.2 % on"
    )
    text, seen = prospect(P50, stage, 15000, 1, None)
    assert seen is not None
    assert seen.needs_s == pytest.approx(outlook(P50, assumed(P50.metric) or Noise(1, 1), 300.0).needs_s)
    assert prospect(Gate("quality.kl", limit=0.06), stage, 15000, 1, None) == ("", None)


def in_stages(*stages: StagePlan, seed: int = 0) -> Evidence:
    """Pairs at 20/s through all stages, one after the other; the plans are known from the start."""
    rng, begin, tables, records = np.random.default_rng(seed), 0.0, [], []
    for one in stages:
        n = round(one.duration_s * 20)
        due = begin + np.arange(n) / 20
        common = rng.normal(0, 0.1, n)
        for arm in ("baseline", "candidate"):
            took = 0.05 * np.exp(common + rng.normal(0, 0.1, n))
            tables.append(bulk(arm, due, took, (one.index << 32) + np.arange(n), one.index))
        end = begin + one.duration_s + 0.5
        records.append(StageRecord(one, round(begin * S), end_ns=round(end * S)))
        begin = end
    whole = pa.concat_tables(tables)
    return Evidence.from_tables(whole, stages=records, gates=[ERRORS, P50], planned=1, plans=stages, seed=seed)


WARM_UP = plan(0, "paired", 30.0, rate=20.0, purpose="warm-up")
STAGE = plan(1, "paired", 240.0, rate=20.0)


def plans(evidence: Evidence, index: int, now_s: float | None = None) -> list[Finding]:
    verdict = judge_stage(evidence, index, now_ns=None if now_s is None else round(now_s * S))
    return [one for one in verdict.findings if one.metric.startswith("plan.")]


def test_a_warm_up_says_what_the_stage_after_it_needs() -> None:
    evidence = in_stages(WARM_UP, STAGE)
    (told,) = plans(evidence, 0)
    assert told.metric == "plan.response_time.p50"
    assert told.outcome == "pass"
    assert told.margin is None
    assert told.needs_s is not None
    assert 0 < told.needs_s < 60
    assert told.reason.startswith(
        "for information: with the noise of the warm-up (30 s), a margin of 10 % on response_t"
    )
    assert "; planned are 240 s, which tell a difference of " in told.reason
    verdict = judge_stage(evidence, 0)
    assert (verdict.verdict, verdict.reason) == ("promote", "A warm-up: nothing of it is judged")
    # The plan was known when the warm-up ended, so what was said then is what is said for ever.
    then = replace(evidence, stages=evidence.stages[:1], samples=evidence.upto(round(30.5 * S)).samples)
    assert plans(then, 0) == [told]


def test_without_the_plan_a_warm_up_names_no_length() -> None:
    (told,) = plans(replace(in_stages(WARM_UP, STAGE), plans=()), 0)
    assert "planned" not in told.reason


def test_a_stage_is_planned_anew_from_a_third_of_it_on() -> None:
    evidence = in_stages(replace(STAGE, index=0))
    assert plans(evidence, 0, 70.0) == []
    (early,) = plans(evidence, 0, 90.0)
    assert "with the noise of the first 90 s" in early.reason
    (late,) = plans(evidence, 0)
    assert "with the noise of this stage" in late.reason
    assert late.needs_s == 0.0


def test_what_has_failed_is_not_planned() -> None:
    evidence = in_stages(replace(STAGE, index=0))
    slow = evidence.samples.arm == 1
    later = evidence.samples.due_ns + 2 * (evidence.samples.done_ns - evidence.samples.due_ns)
    samples = replace(evidence.samples, done_ns=np.where(slow, later, evidence.samples.done_ns))
    evidence = replace(evidence, samples=samples)
    assert judge_stage(evidence, 0).verdict == "rollback"
    assert plans(evidence, 0) == []


def test_plans_decide_nothing_and_the_bytes_stay_the_same() -> None:
    evidence = in_stages(WARM_UP, STAGE)
    first, again = (verdict_json(judge(in_stages(WARM_UP, STAGE)), {}) for _ in range(2))
    assert first == again
    assert judge(evidence).verdict == "promote"
    assert "plan." not in judge(evidence).reason
