"""Throughput as a gate: what the load sets, what a closed loop shows, and what proves nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.judge import judge_stage
from harness.judge.amounts.rates import elapsed
from harness.judge.amounts.relative import Relative
from harness.judge.columns import CANDIDATE
from harness.judge.statistics.intervals import Spread
from harness.judge.view import StageView
from harness.types import Finding, Gate
from tests.judge.measured import Stage

REQUESTS = Gate("request_throughput", 0.05)


def found(stage: Stage, metric: str = "request_throughput", now_ns: int | None = None, **known: object) -> Finding:
    stages = judge_stage(stage.evidence(**known), 0, now_ns=now_ns).findings  # type: ignore[arg-type]
    (one,) = (finding for finding in stages if finding.metric == metric)
    return one


def closed(ratio: float = 1.0, seed: int = 0, **more: object) -> Stage:
    return Stage(seed=seed, ratio=ratio, in_flight=4, gates=(REQUESTS,), **more)  # type: ignore[arg-type]


def test_in_an_open_loop_the_load_sets_it_and_the_sentence_says_so() -> None:
    one = found(Stage(ratio=1.5, gates=(REQUESTS,)))
    assert one.outcome == "pass"
    assert one.effect == pytest.approx(1, abs=0.01)
    assert (
        "(50 against 50 answers a second): both answered what was sent, so the load set it, not the model" in one.reason
    )
    assert one.margin == 0.95


def test_an_arm_that_does_not_keep_up_answers_less() -> None:
    """A queue that grows by 40 ms a request: within the stage v2 answers a third of what is sent."""
    stage = Stage(gates=(REQUESTS,))
    stage.times[1] = np.arange(stage.n) * 0.04 + 0.05
    one = found(stage)
    assert one.outcome == "fail"
    assert one.effect == pytest.approx(1 / 3, abs=0.05)
    assert "the load set it" not in one.reason
    assert "% sure it is at least" in one.reason
    assert one.interval is not None
    assert one.interval[0] is not None
    assert one.interval[1] is not None
    assert one.interval[0] < (one.effect or 0) < one.interval[1] < 0.95


@pytest.mark.parametrize(("ratio", "outcome"), [(1.0, "pass"), (1.02, "pass"), (1.2, "fail"), (0.8, "pass")])
def test_a_closed_loop_shows_what_the_model_can_do(ratio: float, outcome: str) -> None:
    """Both arms answer equally often by design, so the plain rates are the same, whatever one of them takes."""
    one = found(closed(ratio))
    assert one.outcome == outcome
    assert one.effect == pytest.approx(1 / ratio, rel=0.02)
    assert one.baseline == pytest.approx(1 / 0.05, rel=0.05), "answers a second for each request in flight"
    assert "they answer equally often, so what counts is how fast" in one.reason


def test_sentences() -> None:
    assert found(closed(1.2)).reason.startswith(
        "request throughput is 16.8 % lower on v2 than on v1 (16.5 against 19.8 answers a second, for each request in "
        "flight): in a closed loop that both arms share they answer equally often, so what counts is how fast; "
        "99 % sure it is at least 16."
    )
    assert found(closed(0.8)).reason.endswith("higher, margin 5 %")


def test_what_is_near_the_margin_is_open_and_says_how_long_it_takes() -> None:
    stage = closed(1.03, rate=8.0)
    for number, times in enumerate(stage.times):
        times *= np.exp(np.random.default_rng(number).normal(0, 0.4, stage.n))
    one = found(stage)
    assert one.outcome == "inconclusive"
    assert "; it may be anything from" in one.reason
    assert one.reason.endswith("more of this load would settle it")
    assert one.needs_s is not None
    assert one.needs_s > 60


def test_tokens_count_and_not_answers() -> None:
    gate = Gate("output_token_throughput", 0.05)
    stage = Stage(in_flight=4, gates=(gate,))
    assert found(stage, gate.metric).reason == (
        "nobody counted the tokens of v1 and v2; load.tokenizer would count them"
    )
    assert found(stage, gate.metric).outcome == "no data"
    evidence = stage.evidence()
    candidate = evidence.samples.arm == CANDIDATE
    counted = replace(evidence.samples, osl=np.where(candidate, 16, 20).astype(np.int32))
    shorter = replace(evidence, samples=counted)
    one = next(f for f in judge_stage(shorter, 0).findings if f.metric == gate.metric)
    assert one.outcome == "fail"
    assert one.effect == pytest.approx(0.8, abs=0.01)
    assert "output tokens a second, for each request in flight" in one.reason


def test_a_look_fails_but_does_not_pass() -> None:
    assert found(closed(1.0), now_ns=40 * 10**9).outcome == "inconclusive"
    assert "so far, but the stage is not over" in found(closed(1.0), now_ns=40 * 10**9).reason
    assert found(closed(1.5), now_ns=40 * 10**9).outcome == "fail"


def test_too_little_never_passes() -> None:
    short = closed(seconds=8.0)
    assert found(short).outcome == "inconclusive"
    assert found(short).reason.startswith(
        "request throughput needs 12 blocks of time: 12 s and 96 answers, there are 8 s"
    )
    few = closed(rate=1.0)
    assert found(few).outcome == "inconclusive"
    assert "there are 60 s and 60" in found(few).reason
    assert found(few).needs_s == pytest.approx(60 * 0.6, rel=0.1)


def test_a_silent_arm() -> None:
    silent = closed()
    silent.status[0][:] = "error"
    assert found(silent).outcome == "no data"
    assert found(silent).reason == "v1 answered none of 3000 requests: nothing to compare v2 with"
    broken = closed()
    broken.status[1][:] = "error"
    assert found(broken).outcome == "fail", "v2 was asked as often, and got nothing through"
    both = closed()
    for status in both.status:
        status[:] = "error"
    assert found(both).outcome == "no data"


def test_an_outage_of_one_arm_is_counted() -> None:
    """Blocks without any answer are not left out: v2 takes 15 s for one request in a minute."""
    stage = Stage(gates=(REQUESTS,))
    stopped = (stage.due > 20) & (stage.due < 35)
    stage.status[1][stopped] = "error"
    one = found(stage)
    assert one.effect == pytest.approx(0.75, abs=0.03)
    assert one.outcome != "pass"


def test_a_split_has_no_such_gate() -> None:
    stage = Stage(mode="split", gates=(REQUESTS, Gate("errors")), more={})
    evidence = stage.evidence()
    record = evidence.stages[0]
    shares = replace(record.plan, candidate_share=0.1)
    split = replace(evidence, stages=(replace(record, plan=shares),))
    one = next(f for f in judge_stage(split, 0).findings if f.metric == "request_throughput")
    assert one.reason.startswith("for information")
    assert one.margin is None


def test_time_in_flight_is_counted_in_the_block_in_which_it_was_spent() -> None:
    stage = closed(rate=10.0)
    view = StageView.of(stage.evidence(), 0, None)
    at = np.array([0, 10, 25, 60]) * 10**9
    spent = elapsed(view, view.baseline, at)
    sent, done = (view.baseline.sent_ns / 1e9, view.baseline.done_ns / 1e9)
    expected = [
        float(np.clip(np.minimum(done, b) - np.maximum(sent, a), 0, None).sum())
        for a, b in ((0, 10), (10, 25), (25, 60))
    ]
    assert spent == pytest.approx(expected)


@pytest.mark.parametrize("ratio", [1.0, 1 / 0.95])
def test_it_keeps_its_promise_where_seconds_are_alike(ratio: float) -> None:
    """Slow seconds slow their neighbours, in both arms: at the margin at most 5 % pass, no identical build fails."""
    outcomes = []
    for seed in range(60):
        stage = closed(ratio, seed, rate=20.0)
        rng = np.random.default_rng(1000 + seed)
        walk = np.zeros(61)
        for second in range(1, 61):
            walk[second] = 0.9 * walk[second - 1] + rng.normal(0, 0.1)
        for times in stage.times:
            own = rng.normal(0, 0.1, 61)
            times *= np.exp((walk + own)[stage.due.astype(int)])
        outcomes.append(found(stage).outcome)
    if ratio == 1.0:
        assert outcomes.count("fail") == 0
    else:
        assert outcomes.count("pass") <= 8, "5 % of 60 are 3; 8 or more come by chance in 1 %"


def test_ten_per_cent_less_is_a_ninth_worse_and_ten_per_cent_more_is_a_tenth() -> None:
    view = StageView.of(Stage().evidence(), 0, None)
    seen = Spread(0.0, 0.0, 0.1, 0.1, np.zeros(2000), 12)
    less, more = (Relative(view, Gate(m, 0.10), seen, 1.0, 1.0, "") for m in ("request_throughput", "energy"))
    assert (np.exp(-less.bar), np.exp(more.bar)) == (pytest.approx(0.9), pytest.approx(1.1))
    assert (less.finding(None).margin, more.finding(None).margin) == (pytest.approx(0.9), pytest.approx(1.1))


def test_answers_that_all_came_too_late_are_no_equality() -> None:
    """Nothing against nothing is not the same throughput."""
    stage = Stage(took=200.0, gates=(Gate("request_throughput", 0.10),))
    one = found(stage)
    assert (one.outcome, one.reason) == (
        "no data",
        "no answer of v1 came before the planned end of the stage: nothing to compare v2 with",
    )


def test_what_was_cancelled_did_not_fail_to_be_answered() -> None:
    stage = Stage(mode="interleaved", gates=(Gate("request_throughput", 0.10),))
    stage.status[1][:] = "cancelled"
    one = found(stage)
    assert (one.outcome, one.reason) == ("no data", "no request to v2 came to an end (1500 were cancelled)")
    stage.status[1][:] = "error"
    assert found(stage).outcome == "fail"
