"""A/A made of a recording, and what a run says of its last calibration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from harness.errors import UsageError
from harness.judge import Evidence, judge_stage
from harness.judge.planning.calibrated import differences, sentence
from harness.judge.planning.calibration import (
    RESAMPLED,
    RUNS,
    Repetition,
    document,
    in_stretches,
    noise_in,
    rate,
    recorded,
    repeat,
    resampled,
)
from harness.judge.planning.planner import Noise
from harness.types import Gate, StageRecord
from tests.judge.test_latency import ar1
from tests.judge.worlds import S, bulk, pairs_world, plan

P50 = Gate("response_time.p50", 0.10)
ERRORS = Gate("errors", 0.03, "absolute")


def baseline(
    seconds: float = 240.0, rate_: float = 30.0, *, slow: float = 0.0, gates: tuple[Gate, ...] = ()
) -> Evidence:
    """One arm; its times are alike for seconds (AR(1), 0.95 from request to request). `slow`: sd of that."""
    rng = np.random.default_rng(4)
    due = np.sort(rng.uniform(0, seconds, round(seconds * rate_)))
    took = 0.05 * np.exp(rng.normal(0, 0.2, len(due)) + ar1(rng, len(due), 0.95, slow or 1e-9))
    record = StageRecord(plan(0, "paired", seconds, rate=rate_), 0, end_ns=round((seconds + 1) * S))
    return Evidence.from_tables(bulk("baseline", due, took), stages=[record], gates=gates or (ERRORS, P50), planned=1)


def test_two_arms_are_made_of_one_and_no_request_is_lost_changed_or_used_twice() -> None:
    evidence = recorded(baseline())
    made = in_stretches(evidence, np.random.default_rng(1)).samples
    assert 0.9 * len(evidence.samples) <= len(made) <= len(evidence.samples)
    took, before = (one.done_ns - one.due_ns for one in (made, evidence.samples))
    assert np.isin(took, before).all()
    assert len(np.unique(made.pair_id)) == len(made)
    arms = [made.take(made.arm == arm) for arm in (0, 1)]
    assert abs(len(arms[0]) - len(arms[1])) < 0.1 * len(made)
    spans = [np.ptp(arm.due_ns) / 1e9 for arm in arms]
    assert spans == pytest.approx([120, 120], abs=12), "each has half of the time, at the full rate"
    assert np.corrcoef(*(np.histogram(arm.due_ns, 12)[0] for arm in arms))[0, 1] < 0.999


def test_a_coin_says_which_arm_gets_which_stretch() -> None:
    evidence = recorded(baseline())
    first, again, other = (in_stretches(evidence, np.random.default_rng(seed)).samples for seed in (1, 1, 2))
    assert np.array_equal(first.arm, again.arm)
    assert len(first) != len(other) or not np.array_equal(first.arm, other.arm)
    shares = [(in_stretches(evidence, np.random.default_rng(seed)).samples.arm[:100] == 1).mean() for seed in range(60)]
    assert 15 <= sum(share > 0.5 for share in shares) <= 45


def test_what_requests_of_a_moment_have_in_common_stays_noise() -> None:
    """Dealt out one by one, it would cancel, and any judge would look calibrated."""
    evidence = recorded(baseline(slow=0.3))
    verdict = judge_stage(in_stretches(evidence, np.random.default_rng(3)), 0)
    (found,) = [one for one in verdict.findings if one.metric == P50.metric]
    assert found.interval is not None
    low, high = found.interval
    assert low is not None
    assert high is not None
    single = judge_stage(_one_by_one(evidence), 0)
    (narrow,) = [one for one in single.findings if one.metric == P50.metric]
    assert narrow.interval is not None
    assert high - low > 1.5 * ((narrow.interval[1] or 0) - (narrow.interval[0] or 0))


def _one_by_one(evidence: Evidence) -> Evidence:
    samples = evidence.samples
    arm = (np.arange(len(samples)) % 2).astype(samples.arm.dtype)
    (record,) = evidence.stages
    record = replace(record, plan=replace(record.plan, mode="interleaved"))
    pairs = np.arange(len(samples), dtype=np.int64)
    return replace(evidence, samples=replace(samples, arm=arm, pair_id=pairs), stages=(record,))


def test_a_recording_that_is_too_small_says_so() -> None:
    with pytest.raises(UsageError, match="expected at least 600 requests of a baseline in one stage, found 300"):
        recorded(baseline(10.0))


def test_the_longest_stage_of_the_baseline_is_taken() -> None:
    evidence = baseline()
    stage = np.where(evidence.samples.due_ns < 30 * S, 0, 1).astype(np.int32)
    first = evidence.stages[0]
    second = replace(first, plan=replace(first.plan, index=1))
    taken = recorded(replace(evidence, samples=replace(evidence.samples, stage=stage), stages=(first, second)))
    assert taken.stages == (second,)
    assert (taken.samples.due_ns >= 30 * S).all()
    warm = replace(second, plan=replace(second.plan, purpose="warm-up"))
    small = replace(evidence, samples=replace(evidence.samples, stage=stage), stages=(first, warm))
    assert (recorded(small).samples.due_ns < 30 * S).all()


@pytest.mark.parametrize(
    ("repetitions", "looks_s"), [(12, 150.0), pytest.param(60, 30.0, marks=pytest.mark.slow, id="many")]
)
def test_the_judge_keeps_its_promises_on_a_recording(repetitions: int, looks_s: float) -> None:
    evidence = recorded(baseline(300.0, gates=(ERRORS, replace(P50, margin=0.05))))
    made = [resampled(evidence, number, looks_s, 7) for number in range(repetitions)]
    assert resampled(evidence, 3, looks_s, 7) == made[3]
    published = document(made, evidence.rules, RESAMPLED, looks_s)
    assert published["verdicts"]["rollback"]["count"] == 0
    assert published["verdicts"]["promote"]["rate"] > 0.5
    for gate in published["gates"]:
        assert gate["false_rollback"]["of"] == gate["false_promote"]["of"] == repetitions
        assert gate["false_promote"]["count"] <= stats.binom.isf(0.001, repetitions, 0.05)
        assert gate["rollback_at_margin"]["count"] <= stats.binom.isf(0.001, repetitions, 0.01)
        assert gate["noise"] is None, "its arms are those of no run"


def test_the_candidate_is_put_exactly_at_the_margin() -> None:
    """Far from noise: a gate of 10 % neither passes nor fails at 1.10, and an A/A passes it."""
    evidence = pairs_world(3, 400, own=0.02, gates=(ERRORS, P50))
    one = repeat(evidence, 30.0, np.random.default_rng(1))
    assert one.verdict == "promote"
    assert one.same == {"errors": "pass", P50.metric: "pass"}
    assert one.worse == {"errors": "inconclusive", P50.metric: "inconclusive"}
    slower = replace(P50, margin=0.001)
    assert repeat(replace(evidence, gates=(slower,)), 30.0, np.random.default_rng(1)).worse.keys() == {P50.metric}


def test_what_no_candidate_can_be_made_for_is_not_made_up() -> None:
    limit = Gate("response_time.p50", limit=2.0)
    one = repeat(pairs_world(3, 200, gates=(limit,)), 60.0, np.random.default_rng(1))
    assert one.worse == {}
    (gate,) = document([one], (limit,), RUNS, 60.0)["gates"]
    assert gate["false_promote"] is None
    assert gate["false_rollback"]["of"] == 1


def test_rates_are_published_with_their_intervals() -> None:
    ok = Repetition("promote", {"a": "pass"}, {"a": "inconclusive"}, {"a": Noise(0.01, 60.0, 20.0)})
    bad = Repetition("rollback", {"a": "fail"}, {"a": "pass"}, {"a": Noise(0.03, 60.0, 40.0)})
    found = document([ok] * 19 + [bad], (Gate("a", 0.1),), RUNS, 5.0)
    assert found["verdicts"]["rollback"] == rate(1, 20)
    exact = stats.binomtest(1, 20).proportion_ci(0.95, "exact")
    assert (rate(1, 20)["low"], rate(1, 20)["high"]) == pytest.approx((exact.low, exact.high))
    (gate,) = found["gates"]
    assert gate["false_rollback"]["count"] == gate["false_promote"]["count"] == 1
    assert noise_in(found)["a"].se == pytest.approx(np.sqrt((19 * 0.01**2 + 0.03**2) / 20))
    with pytest.raises(UsageError, match="no A/A was judged"):
        document([], (), RUNS, 5.0)


# -------------------------------------------------------------- what a run says of it

HOST: dict[str, Any] = {"cpu": "A", "threads": 8, "memory_bytes": 16 << 30, "gpus": [{"name": "G", "driver": "1"}]}
KNOWN = {
    "how": RUNS, "made_utc": "2026-01-01T10:00:00+00:00", "host": HOST, "verdicts": {"rollback": rate(0, 200)},
}  # fmt: skip
META: dict[str, Any] = {"calibration": KNOWN, "started_utc": "2026-01-04T12:00:00+00:00", "host": HOST}


def test_a_calibration_is_said_with_its_age() -> None:
    assert sentence(META) == (
        "calibrated 3 days before, on this rig: 0 of 200 A/A runs were rolled back (95 %: at most 1.5 %)"
    )
    for started, age in (("2026-01-01T15:30:00+00:00", "5 hours"), ("2026-01-01T10:01:00+00:00", "1 minute")):
        assert (sentence(META | {"started_utc": started}) or "").startswith(f"calibrated {age} before, on this rig: ")
    assert (sentence(META | {"started_utc": None}) or "").startswith("calibrated on this rig: 0 of 200")


def test_some_that_were_rolled_back_have_an_interval() -> None:
    some = KNOWN | {"verdicts": {"rollback": rate(1, 50)}, "how": RESAMPLED}
    assert (sentence(META | {"calibration": some}) or "").endswith(
        "1 of 50 A/A pairs made of a recorded baseline was rolled back (95 %: 0.1 to 10.6 %)"
    )


def test_another_machine_is_named() -> None:
    other = HOST | {"cpu": "B", "gpus": [{"name": "G", "driver": "2"}]}
    assert differences(HOST, HOST) == []
    assert differences(HOST, other) == ["processor A, now B", "GPUs G (driver 1), now G (driver 2)"]
    assert differences(None, other) == []
    assert "on another rig (processor A, now B; GPUs" in (sentence(META | {"host": other}) or "")


def test_a_run_without_one_says_how_to_make_one_and_a_file_of_others_says_nothing() -> None:
    assert "`triton-canary calibrate`" in (sentence({"calibration": None}) or "")
    assert sentence({}) is None


def test_it_informs_once_and_decides_nothing() -> None:
    plain = pairs_world(1, 150, gates=(ERRORS, P50))
    evidence = replace(plain, calibrated="calibrated 3 days before, on this rig: x")
    with_it, without = judge_stage(evidence, 0), judge_stage(plain, 0)
    (told,) = [one for one in with_it.findings if one.metric == "validity.calibration"]
    assert (told.outcome, told.kind) == ("pass", "validity")
    assert told.reason == "for information: calibrated 3 days before, on this rig: x"
    assert (with_it.verdict, with_it.reason) == (without.verdict, without.reason)
    second = replace(plain.stages[0], plan=replace(plain.stages[0].plan, index=1))
    more = replace(evidence, stages=(*evidence.stages, second))
    assert not [one for one in judge_stage(more, 1).findings if one.metric == "validity.calibration"]


def test_an_unsorted_recording_is_put_in_order() -> None:
    evidence = baseline()
    mixed = np.random.default_rng(1).permutation(len(evidence.samples))
    record, gates = evidence.stages[0], evidence.gates
    due = evidence.samples.due_ns[mixed]
    table = bulk("baseline", due / S, (evidence.samples.done_ns - evidence.samples.due_ns)[mixed] / S)
    shuffled = Evidence.from_tables(pa.concat_tables([table]), stages=[record], gates=gates)
    assert (np.diff(recorded(shuffled).samples.due_ns) >= 0).all()
