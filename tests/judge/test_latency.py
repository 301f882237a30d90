"""Latency at equal load: rates of error and power in worlds whose truth is known.

Tolerances are binomial: a rate that should be at most a may reach the 99.9 % bound of its repetitions.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from scipy import signal, stats

from harness.judge import Evidence, judge, judge_stage
from harness.judge.statistics.blocks import block_logs, by_pairs, by_time, log_of
from harness.judge.statistics.boundary import look_p
from harness.judge.statistics.intervals import Spread, p_above, spread, upper
from harness.judge.statistics.resample import generator, pooled_pair
from harness.types import Finding, Gate, StageRecord
from tests.judge.worlds import S, bulk, pairs_world, plan

BAR = math.log(1.10)
P50, P90, P99 = (Gate(f"response_time.{q}", 0.10) for q in ("p50", "p90", "p99"))


def allowed(rate: float, repetitions: int) -> int:
    return int(stats.binom.isf(0.001, repetitions, rate))


def finding(evidence: Evidence, metric: str, stage: int = 0) -> Finding:
    found = [f for f in judge_stage(evidence, stage).findings if f.metric == metric]
    assert len(found) == 1
    return found[0]


# -------------------------------------------------------------- paired, slow


def test_a_true_ratio_at_the_margin_rarely_passes() -> None:
    passed = sum(
        finding(pairs_world(seed, 150, 1.10, gates=(P50,)), P50.metric).outcome == "pass" for seed in range(200)
    )
    assert passed <= allowed(0.05, 200)


def test_identical_builds_pass_and_never_fail() -> None:
    outcomes = [finding(pairs_world(seed, 150, gates=(P50,)), P50.metric).outcome for seed in range(80)]
    assert outcomes.count("fail") == 0
    assert outcomes.count("pass") >= 75


def test_identical_builds_fail_a_margin_of_nothing_in_one_of_a_hundred() -> None:
    gate = (dataclasses.replace(P50, margin=0.0),)
    failed = sum(finding(pairs_world(seed, 150, gates=gate), P50.metric).outcome == "fail" for seed in range(200))
    assert failed <= allowed(0.01, 200)


def test_looking_all_the_time_keeps_the_error_rate() -> None:
    gate = (dataclasses.replace(P50, margin=0.0),)
    failed = 0
    for seed in range(60):
        evidence = pairs_world(seed, 150, gates=gate)
        looks = (judge_stage(evidence, 0, now_ns=t * S).verdict for t in (40, 50, 60, 70, 80, 90))
        failed += "rollback" in looks
    assert failed <= allowed(0.01, 60)


def test_thirty_per_cent_slower_fails() -> None:
    for seed in range(60):
        found = finding(pairs_world(seed, 150, 1.30, gates=(P50,)), P50.metric)
        assert found.outcome == "fail"
        assert found.interval is not None
        assert found.interval[0] is not None
        assert 1.10 < found.interval[0] < found.effect < (found.interval[1] or 0)
        assert found.effect == pytest.approx(1.30, abs=0.12)


def test_pairing_takes_the_prompts_variance_out() -> None:
    """Prompts differ by a factor; pairs see 3 % that arms with prompts of their own cannot."""

    def evidence(seed: int, paired: bool) -> Evidence:
        rng = np.random.default_rng(seed)
        n = 400
        due = np.arange(n) * 0.6
        prompts = rng.normal(0, 0.5, (2, n))
        if paired:
            prompts[1] = prompts[0]
        first, second = (0.4 * np.exp(prompts[arm] + rng.normal(0, 0.02, n)) for arm in (0, 1))
        whole = pa.concat_tables([bulk("baseline", due, first), bulk("candidate", due, second * 1.03)])
        record = StageRecord(plan(0, "paired" if paired else "interleaved", n * 0.6), 0, round(n * 0.6 * S) + S)
        return Evidence.from_tables(whole, stages=[record], gates=[Gate("response_time.mean", 0.0)], seed=seed)

    def power(paired: bool) -> int:
        return sum(finding(evidence(s, paired), "response_time.mean").outcome == "fail" for s in range(30))

    assert power(True) >= 29
    assert power(False) <= 8


# -------------------------------------------------------------- fast, autocorrelated, queueing


def ar1(rng: np.random.Generator, n: int, rho: float, sd: float) -> np.ndarray:
    noise = rng.standard_normal(n) * sd * math.sqrt(1 - rho * rho)
    noise[0] = rng.standard_normal() * sd
    return np.asarray(signal.lfilter([1], [1, -rho], noise))


def weather(rng: np.random.Generator, total_s: int) -> Callable[[np.ndarray], np.ndarray]:
    """A slow drift that both arms share: its value at any second."""
    grid = ar1(rng, total_s * 10, math.exp(-0.1 / 20), 0.1)
    return lambda t: grid[np.minimum((t * 10).astype(int), len(grid) - 1)]


def autocorrelated(rng: np.random.Generator, total_s: int, rate: int) -> list[np.ndarray]:
    drift, n, arms = weather(rng, total_s), total_s * rate, []
    for _ in range(2):
        due = np.sort(rng.uniform(0, total_s, n))
        arms += [due, np.exp(ar1(rng, n, 0.9, 0.3) + drift(due))]
    return arms


def queueing(rng: np.random.Generator, total_s: int, rate: int, *, together: bool = False) -> list[np.ndarray]:
    """Two servers at a load of 0.7; `together`: same arrivals, and half of the work is the prompt's."""
    drift, n, arms = weather(rng, total_s), total_s * rate, []
    due, prompt = np.cumsum(rng.exponential(1 / rate, n)), rng.standard_normal(n)
    for _ in range(2):
        own = rng.standard_normal(n)
        if not together:
            due = np.cumsum(rng.exponential(1 / rate, n))
        work = math.sqrt(0.5) * (prompt + own) if together else own
        service = np.exp(0.5 * work - 0.125) * 0.7 / rate * np.exp(drift(due))
        total = np.cumsum(service)
        arms += [due, total + np.maximum.accumulate(due - (total - service)) - due]
    return arms


def seen(arms: list[np.ndarray], ratio: float, quantile: float, seed: int, *, paired: bool = False) -> Spread:
    due = [(t * S).astype(np.int64) for t in arms[::2]]
    v1, v2 = arms[1], arms[3] * ratio
    blocks = by_pairs(due[0], v1, v2) if paired else by_time(due[0], v1, due[1], v2)
    assert blocks is not None
    logs = block_logs(blocks, quantile)
    draws = pooled_pair(blocks, quantile, generator(seed, "x"))
    effect = float(np.log(np.quantile(v2, quantile) / np.quantile(v1, quantile)))
    return spread(effect, logs[1] - logs[0], log_of(draws[1]) - log_of(draws[0]), ordered=True)


@pytest.mark.parametrize("world", [autocorrelated, queueing])
@pytest.mark.parametrize("quantile", [0.5, 0.99])
def test_error_rates_hold_where_requests_depend_on_each_other(
    world: Callable[..., list[np.ndarray]], quantile: float
) -> None:
    repetitions, passed, failed = 50, 0, 0
    rng = np.random.default_rng(11)
    for seed in range(repetitions):
        arms = world(rng, 150, 40)
        passed += upper(seen(arms, 1.10, quantile, seed), 0.05) < BAR
        failed += look_p(p_above(seen(arms, 1.0, quantile, seed), 0.0), 1.0) < 0.01
    assert passed <= allowed(0.05, repetitions)
    assert failed <= allowed(0.01, repetitions)


def test_same_arrivals_find_what_own_arrivals_hide() -> None:
    rng = np.random.default_rng(12)
    found = {True: 0, False: 0}
    for seed in range(25):
        for together in (True, False):
            arms = queueing(rng, 150, 40, together=together)
            found[together] += p_above(seen(arms, 1.15, 0.5, seed, paired=together), 0.0) < 0.005
    assert found[True] >= 2 * max(found[False], 4)


# -------------------------------------------------------------- what is not enough


def test_too_few_pairs_are_inconclusive_and_say_how_long_it_takes() -> None:
    found = finding(pairs_world(1, 40, 3.0, gates=(P50,)), P50.metric)
    assert found.outcome == "inconclusive"
    assert "needs at least 60 pairs, there are 40" in found.reason
    assert found.needs_s == pytest.approx(12, abs=2)


def test_p99_needs_a_thousand() -> None:
    found = finding(pairs_world(1, 400, gates=(P99,)), P99.metric)
    assert found.outcome == "inconclusive"
    assert "1000 pairs" in found.reason
    assert finding(pairs_world(1, 1000, gates=(P99,)), P99.metric).effect is not None


def test_a_wide_interval_says_how_long_it_takes() -> None:
    found = finding(pairs_world(1, 80, own=0.5, gates=(P50,)), P50.metric)
    assert found.outcome == "inconclusive"
    assert found.needs_s is not None
    assert found.needs_s > 10
    assert "would settle it" in found.reason


def test_an_estimate_beyond_the_margin_is_not_settled_by_time() -> None:
    evidence = next(
        e for e in (pairs_world(seed, 80, 1.13, own=0.3, gates=(P50,)) for seed in range(30))
        if finding(e, P50.metric).outcome == "inconclusive" and (finding(e, P50.metric).effect or 0) > 1.11
    )  # fmt: skip
    assert finding(evidence, P50.metric).needs_s is None


def test_a_failed_request_takes_its_partner_out_and_is_not_a_time_that_is_unknown() -> None:
    """What fails the errors gate judges; of the pairs that both arms answered the times are all there."""
    whole = pairs_world(4, 300, gates=(P50,))
    failed = (whole.samples.arm == 1) & (whole.samples.pair_id % 4 == 0)
    errors = dataclasses.replace(whole.samples, status=np.where(failed, 1, whole.samples.status).astype(np.int8))
    found = finding(dataclasses.replace(whole, samples=errors), P50.metric)
    assert (found.outcome, found.n_baseline, found.n_candidate) == ("pass", 225, 225)


def test_constant_times_are_no_measurement() -> None:
    n = 200
    whole = pa.concat_tables([bulk(arm, np.arange(n) * 0.5, np.full(n, 0.25)) for arm in ("baseline", "candidate")])
    record = StageRecord(plan(0, "paired", 100), 0, 101 * S)
    evidence = Evidence.from_tables(whole, stages=[record], gates=[P50])
    assert finding(evidence, P50.metric).outcome == "inconclusive"
    assert judge(evidence).verdict == "inconclusive"


def test_swapped_arms_swap_the_answer() -> None:
    def swapped(ratio: float) -> Finding:
        return finding(pairs_world(3, 150, ratio, own=0.05, gates=(P50,)), P50.metric)

    slower, faster = swapped(1.4), swapped(1 / 1.4)
    assert (slower.outcome, faster.outcome) == ("fail", "pass")
    assert math.log(slower.effect or 0) == pytest.approx(-math.log(faster.effect or 1), abs=0.08)


def test_output_length_is_judged_in_both_directions() -> None:
    n, rng = 200, np.random.default_rng(5)
    due = np.arange(n) * 0.5
    for ratio, outcome in ((1.0, "pass"), (1.5, "fail"), (0.6, "fail")):
        tables = []
        for arm, length in (("baseline", 20.0), ("candidate", 20.0 * ratio)):
            plain = bulk(arm, due, np.full(n, 0.3))
            osl = pa.array(rng.poisson(length, n) + 1, pa.int32())
            tables.append(plain.set_column(plain.schema.get_field_index("osl"), plain.schema.field("osl"), osl))
        record = StageRecord(plan(0, "paired", 100), 0, 101 * S)
        gates = [Gate("osl", 0.2)]
        evidence = Evidence.from_tables(pa.concat_tables(tables), stages=[record], gates=gates)
        assert finding(evidence, "osl").outcome == outcome


@pytest.mark.parametrize("metric", ["tpot.p50", "osl"])
def test_where_nobody_counts_tokens_the_cure_is_said(metric: str) -> None:
    whole = pairs_world(2, 100, gates=(Gate(metric, 0.1),))
    missing = finding(whole, metric)
    name = metric.partition(".")[0]
    assert missing.outcome == "no data"
    cure = f"so there is no {name}; load.tokenizer would count them"
    assert missing.reason == f"nobody counted the tokens of the baseline and the candidate, {cure}"
    samples = dataclasses.replace(whole.samples, osl=np.where(whole.samples.arm == 0, 1, -1))
    missing = finding(dataclasses.replace(whole, samples=samples), metric)
    assert missing.reason.startswith("nobody counted the tokens of the candidate, so")
    # One token each is a count, of which there is no tpot.
    ones = dataclasses.replace(whole.samples, osl=np.ones_like(whole.samples.osl))
    assert "load.tokenizer" not in finding(dataclasses.replace(whole, samples=ones), metric).reason


def test_of_a_limit_too() -> None:
    missing = finding(pairs_world(2, 100, gates=(Gate("tpot.p50", limit=0.1),)), "tpot.p50")
    assert missing.outcome == "no data"
    assert missing.reason == (
        "none of 100 requests to the candidate has a tpot: nobody counted its tokens, load.tokenizer would"
    )


def test_absolute_limits_are_judged() -> None:
    fine = finding(pairs_world(2, 300, gates=(Gate("response_time.p50", limit=0.6),)), "response_time.p50")
    assert fine.outcome == "pass"
    broken = finding(pairs_world(2, 300, gates=(Gate("response_time.p90", limit=0.3),)), "response_time.p90")
    assert broken.outcome == "fail"
    assert "limit 300.0 ms" in broken.reason
    close = finding(pairs_world(2, 100, gates=(Gate("response_time.p90", limit=0.55),)), "response_time.p90")
    assert close.outcome == "inconclusive"
