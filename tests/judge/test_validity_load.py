"""Loads that servers did not keep up with, beginnings unlike the rest, differences that move, caches unequally warm."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import kendalltau

from harness.judge import Evidence, judge, judge_stage
from harness.judge.validity.trend import _tau_b, kendall, theil_sen, transient
from harness.types import Gate, StageRecord
from tests.judge.measured import Stage, faults
from tests.judge.worlds import S, bulk, plan

LIMIT = (Gate("response_time.p50", limit=0.5),)


def queue(stage: Stage, arm: int, served: float) -> None:
    """One server with `served` answers a second: what waits, waits behind all before it."""
    begin = np.empty(stage.n)
    free = 0.0
    for i, at in enumerate((stage.due + stage.lag).tolist()):
        begin[i] = max(at, free)
        free = begin[i] + 1 / served
    stage.times[arm] = begin + 1 / served - stage.due - stage.lag


# ------------------------------------------------------------------------------------------------ saturation


def test_a_busy_server_that_keeps_up_is_not_overloaded() -> None:
    for seed in range(5):
        stage = Stage(seed)
        for arm in (0, 1):
            queue(stage, arm, 60)
        verdict = judge_stage(stage.evidence(), 0)
        assert "saturation" not in faults(verdict)
        assert verdict.audit is not None
        assert verdict.audit.overloaded == ()
        assert verdict.audit.served_baseline == pytest.approx(50, rel=0.1)


def test_a_load_beyond_both_arms_is_no_comparison() -> None:
    stage = Stage()
    queue(stage, 0, 40)
    queue(stage, 1, 32)
    verdict = judge_stage(stage.evidence(), 0)
    assert verdict.verdict == "inconclusive"
    reason = faults(verdict)["saturation"].reason
    assert "v1 did not keep up with 49.2/s" in reason
    assert "it served 40/s" in reason
    assert "it served 32/s" in reason
    assert verdict.audit is not None
    assert verdict.audit.overloaded == ("baseline", "candidate")


def test_what_found_no_free_connection_was_not_served() -> None:
    stage = Stage()
    evidence = stage.evidence()
    evidence.samples.sent_ns[::2] = -1
    audit = judge_stage(evidence, 0).audit
    assert audit is not None
    assert audit.served_baseline == pytest.approx(25, rel=0.15)


def test_an_absolute_limit_that_breaks_under_overload_is_broken() -> None:
    stage = Stage(gates=LIMIT)
    queue(stage, 0, 40)
    queue(stage, 1, 40)
    verdict = judge_stage(stage.evidence(), 0)
    assert "saturation" in faults(verdict)
    assert verdict.verdict == "rollback"


def test_a_candidate_that_alone_cannot_keep_up_is_worse() -> None:
    stage = Stage()
    queue(stage, 1, 40)
    verdict = judge_stage(stage.evidence(), 0)
    assert verdict.verdict == "rollback"
    loose = Stage(gates=(Gate("errors"),))
    queue(loose, 1, 40)
    verdict = judge_stage(loose.evidence(), 0)
    assert verdict.verdict == "inconclusive"
    assert "v2 did not keep up" in verdict.reason


def test_a_baseline_that_alone_cannot_keep_up_does_not_stop_the_candidate() -> None:
    stage = Stage()
    queue(stage, 0, 40)
    verdict = judge_stage(stage.evidence(), 0)
    assert verdict.verdict == "promote"
    assert faults(verdict)["saturation"].outcome == "pass"


def test_failing_requests_count_under_overload() -> None:
    stage = Stage()
    for arm in (0, 1):
        queue(stage, arm, 40)
    stage.status[1][::3] = "error"
    assert judge_stage(stage.evidence(), 0).verdict == "rollback"


def test_a_generator_that_falls_behind_is_not_the_servers_overload() -> None:
    stage = Stage()
    stage.lag = stage.due * 0.2
    found = faults(judge_stage(stage.evidence(), 0))
    assert "lag" in found
    assert "saturation" not in found


# ------------------------------------------------------------------------------------------------ beginnings


def test_mser_5_finds_where_a_transient_ends() -> None:
    rng = np.random.default_rng(0)
    for begins in (0, 60, 200):
        values = rng.normal(1.0, 0.1, 1000)
        values[:begins] += np.linspace(2.0, 0.5, begins)
        cut = transient(values)
        assert cut is not None
        assert begins <= cut <= begins + 100
    assert transient(np.linspace(1.0, 2.0, 1000) + rng.normal(0, 0.01, 1000)) is None
    assert transient(rng.normal(1, 1, 20)) == 0


def test_trends() -> None:
    rng = np.random.default_rng(1)
    steps = np.arange(30)
    assert kendall(0.1 * steps + rng.normal(0, 0.3, 30))[1] < 1e-6
    assert kendall(rng.normal(0, 1, 30))[1] > 0.01
    assert kendall(np.ones(30)) == (0.0, 1.0)
    assert theil_sen(0.1 * steps) == pytest.approx(0.1)
    walks = [kendall(np.cumsum(rng.normal(0, 1, 40)))[1] < 0.001 for _ in range(100)]
    assert sum(walks) < 20  # a walk wanders far; few of them pass for a trend


@pytest.mark.parametrize("n", [4, 7, 20, 33, 34, 90])
@pytest.mark.parametrize("ties", [False, True])
def test_a_trend_as_scipy_has_it(n: int, ties: bool) -> None:
    """Where neighbours are alike beyond the trend p is larger, so it is held against it before."""
    rng = np.random.default_rng(n)
    for slope in (0.0, 0.05, -0.2, 3.0):
        values = slope * np.arange(n) + rng.normal(0, 1, n)
        values = np.round(values) if ties else values
        tau, p = _tau_b(values)
        known = kendalltau(np.arange(n), values)
        assert (tau, p) == pytest.approx((known.statistic, known.pvalue), rel=1e-9, abs=1e-15)
        assert kendall(values)[1] >= p * (1 - 1e-9)


def test_a_beginning_unlike_the_rest_is_told_and_decides_nothing_where_both_arms_share_it() -> None:
    stage = Stage()
    early = stage.due < 6
    for times in stage.times:
        times[early] *= 3
    verdict = judge_stage(stage.evidence(), 0)
    assert verdict.verdict == "promote"
    found = faults(verdict)
    assert set(found) == {"warm-up"}
    assert "are unlike the rest" in found["warm-up"].reason
    assert verdict.audit is not None
    assert verdict.audit.warm_up_s == pytest.approx(6, abs=1)
    assert faults(judge_stage(Stage().evidence(), 0)) == {}
    even = judge_stage(Stage().evidence(), 0).audit
    assert even is not None
    assert even.warm_up_s == 0


def test_a_ramp_is_meant_to_change() -> None:
    stage = Stage(rate=100, more={"rate": 50.0, "rate_to": 150.0})
    for times in stage.times:
        times *= 1 + stage.due / 60
    verdict = judge_stage(stage.evidence(), 0)
    assert "warm-up" not in faults(verdict)
    assert verdict.audit is not None
    assert verdict.audit.warm_up_s is None


def test_a_candidate_that_warms_up_through_the_stage_is_not_rolled_back_for_it() -> None:
    stage = Stage()
    stage.times[1] *= 1 + 0.6 * np.clip(1 - stage.due / 45, 0, 1)
    verdict = judge_stage(stage.evidence(), 0)
    assert verdict.verdict == "inconclusive"
    assert "it warms up" in verdict.reason
    steadily = Stage(ratio=1.3)
    assert judge_stage(steadily.evidence(), 0).verdict == "rollback"
    assert faults(judge_stage(steadily.evidence(), 0)) == {}


def test_a_candidate_that_gets_worse_through_the_stage_is_not_promoted_for_its_begin() -> None:
    stage = Stage(gates=(Gate("response_time.p50", margin=0.2),))
    stage.times[1] *= 1 + 0.3 * stage.due / 60
    assert judge_stage(stage.evidence(), 0).verdict == "inconclusive"
    assert "it grows" in judge_stage(stage.evidence(), 0).reason
    worse = Stage()
    worse.times[1] *= 1.6 + 0.4 * stage.due / 60
    assert "steady" in faults(judge_stage(worse.evidence(), 0))
    assert judge_stage(worse.evidence(), 0).verdict == "rollback"


def test_a_day_that_moves_both_arms_is_no_trend() -> None:
    for seed in range(5):
        stage = Stage(seed)
        weather = 1 + 0.8 * np.sin(stage.due / 20) + stage.due / 40
        for times in stage.times:
            times *= weather
        assert "steady" not in faults(judge_stage(stage.evidence(), 0))


# ------------------------------------------------------------------------------------------------ a warm-up stage


def test_nothing_of_a_warm_up_stage_is_judged() -> None:
    stage = Stage()
    first = dataclasses.replace(stage.plan, purpose="warm-up", duration_s=60.0)
    rng = np.random.default_rng(0)
    due = np.arange(60, 120, 0.02)
    pair = (1 << 32) | np.arange(len(due))
    second = [bulk(arm, due, 0.05 * np.exp(rng.normal(0, 0.1, len(due))), pair, 1) for arm in ("baseline", "candidate")]
    stage.times[1] *= 5
    stage.status[1][::2] = "error"
    records = [
        StageRecord(first, 0, 60 * S),
        StageRecord(plan(1, "paired", 60.0, rate=50.0), 60 * S, 121 * S),
    ]
    evidence = Evidence.from_tables(
        pa.concat_tables([stage.table(), *second]), stages=records, gates=stage.gates, planned=1
    )
    verdict = judge(evidence)
    assert verdict.verdict == "promote"
    assert verdict.stages[0].reason == "A warm-up: nothing of it is judged"
    # What its noise says of the stage that it is for is told, and decides nothing.
    assert all(f.metric.startswith("plan.") and f.outcome == "pass" for f in verdict.stages[0].findings)
    assert verdict.stages[0].audit is not None
    errors = next(f for f in verdict.findings if f.metric == "errors")
    assert (errors.stage, errors.n_candidate) == (1, len(due))
    compared = [StageRecord(stage.plan, 0, 60 * S), records[1]]
    assert judge(dataclasses.replace(evidence, stages=tuple(compared))).verdict == "rollback"


# ------------------------------------------------------------------------------------------------ counts of tokens


def counted(stage: Stage, *arms: str) -> Evidence:
    """An LLM of which `arms` were counted by the tokenizer, and the others by their engines."""
    for arm in arms:
        stage.read("generator", f"worker0/{arm}", "osl.by_tokenizer", np.arange(60) * 50.0)
    evidence = stage.evidence()
    samples = evidence.samples
    first = samples.sent_ns + (samples.done_ns - samples.sent_ns) // 4
    osl = np.where(samples.arm == 0, 17, 16).astype(np.int32)
    return dataclasses.replace(evidence, samples=dataclasses.replace(samples, first_ns=first, osl=osl))


def test_two_ways_to_count_are_no_comparison() -> None:
    gates = (Gate("errors"), Gate("tpot.p50", margin=0.05))
    verdict = judge_stage(counted(Stage(gates=gates), "candidate"), 0)
    assert next(f for f in verdict.findings if f.metric == "tpot.p50").effect == pytest.approx(16 / 15, rel=0.01)
    assert verdict.verdict == "inconclusive"
    assert "the engine of v1 counted its tokens, load.tokenizer those of v2" in faults(verdict)["tokens"].reason
    # Where no count is judged it is only said.
    assert judge_stage(counted(Stage(), "baseline"), 0).verdict == "promote"


@pytest.mark.parametrize("arms", [(), ("baseline", "candidate")])
def test_one_way_to_count_is(arms: tuple[str, ...]) -> None:
    verdict = judge_stage(counted(Stage(gates=(Gate("tpot.p50", margin=0.05),)), *arms), 0)
    assert "tokens" not in faults(verdict)
    assert verdict.verdict == "rollback"


# ------------------------------------------------------------------------------------------------ caches


def cached(stage: Stage, one: float, two: float, source: str = "triton") -> Stage:
    seconds = np.arange(1, 61)
    names = {
        "triton": (("m/1", "m/2"), "cache.hits", "cache.misses"),
        "vllm": (("m/1", "m/2"), "prefix_cache.hits", "prefix_cache.queries"),
        "trtllm": (("m/1", "m/2"), "kv_cache.reused_blocks", "kv_cache.missed_blocks"),
        "generator": (("worker0/baseline", "worker0/candidate"), "prompt.cached_tokens", "prompt.tokens"),
    }
    devices, hits, rest = names[source]
    for device, rate in zip(devices, (one, two), strict=True):
        looked = 50.0 * seconds * (1 if source == "triton" else 37)
        stage.read(source, device, hits, looked * rate)
        stage.read(source, device, rest, looked * (1 - rate) if rest.endswith(("misses", "missed_blocks")) else looked)
    return stage


@pytest.mark.parametrize("source", ["triton", "vllm", "trtllm", "generator"])
@pytest.mark.parametrize("ratio", [0.5, 1.5])
def test_caches_that_are_not_equally_warm_void_times(source: str, ratio: float) -> None:
    verdict = judge_stage(cached(Stage(ratio=ratio), 0.2, 0.6, source).evidence(), 0)
    assert verdict.verdict == "inconclusive"
    assert "60.0 % of look-ups on v2 and in 20.0 % on v1" in faults(verdict)["cache"].reason
    assert verdict.audit is not None
    assert [(c.baseline, c.candidate) for c in verdict.audit.caches] == [(pytest.approx(0.2), pytest.approx(0.6))]


def test_caches_that_are_equally_warm_are_only_shown() -> None:
    verdict = judge_stage(cached(Stage(), 0.60, 0.63).evidence(), 0)
    assert faults(verdict) == {}
    assert verdict.audit is not None
    assert verdict.audit.caches[0].cache == "response"


def test_blocks_that_were_reused_tell_nothing_without_those_that_were_missed() -> None:
    """As TensorRT-LLM's backend in Triton counts."""
    stage = Stage()
    for device, blocks in (("m/1", 10.0), ("m/2", 900.0)):
        stage.read("trtllm", device, "kv_cache.reused_blocks", blocks * np.arange(1, 61))
    verdict = judge_stage(stage.evidence(), 0)
    assert faults(verdict) == {}
    assert verdict.audit is not None
    assert verdict.audit.caches == ()


def test_a_failing_candidate_is_rolled_back_however_warm_its_cache() -> None:
    stage = cached(Stage(), 0.2, 0.6)
    stage.status[1][::3] = "error"
    assert judge_stage(stage.evidence(), 0).verdict == "rollback"


def test_what_a_few_requests_say_of_a_cache_may_be_chance() -> None:
    few = Stage(rate=0.5, took=1.0)
    assert "cache" not in faults(judge_stage(cached(few, 0.5, 0.6).evidence(), 0))
    many = Stage(rate=50)
    assert "cache" in faults(judge_stage(cached(many, 0.5, 0.6).evidence(), 0))


def test_arms_of_one_name_on_two_servers_are_not_told_apart() -> None:
    stage = cached(Stage(), 0.2, 0.6)
    verdict = judge_stage(stage.evidence(devices={"baseline": "m/1", "candidate": "m/1"}), 0)
    assert faults(verdict) == {}
    assert verdict.audit is not None
    assert verdict.audit.caches == ()


def test_a_counter_that_began_anew_counts_from_nothing() -> None:
    stage = Stage()
    stage.readings = [
        (-5 * S, "triton", device, metric, 1000.0, "1") for device in ("m/1", "m/2") for metric in ("cache.hits",)
    ]
    cached(stage, 0.3, 0.3)
    verdict = judge_stage(stage.evidence(), 0)
    assert verdict.audit is not None
    assert verdict.audit.caches[0].baseline == pytest.approx(0.3, abs=0.02)


def test_a_split_goes_on_with_a_colder_cache_but_is_not_rolled_back_for_it() -> None:
    whole = cached(Stage(mode="interleaved"), 0.6, 0.2).evidence()
    later = dataclasses.replace(whole.stages[0].plan, index=1, mode="split")
    records = (StageRecord(dataclasses.replace(whole.stages[0].plan, index=0), -61 * S, -S), whole.stages[0])
    records = (records[0], dataclasses.replace(records[1], plan=later))
    samples = dataclasses.replace(whole.samples, stage=np.ones_like(whole.samples.stage))
    verdict = judge_stage(dataclasses.replace(whole, samples=samples, stages=records), 1)
    assert faults(verdict)["cache"].outcome == "pass"
