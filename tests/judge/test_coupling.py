"""v1 alone, then beside v2: what a ratio of both at the same time hides, and what it does not."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pyarrow as pa
import pytest

from harness.judge import Evidence, judge, judge_stage
from harness.judge.statistics.intervals import Spread
from harness.judge.times import coupling, latency
from harness.judge.view import StageView
from harness.types import Finding, Gate, StageRecord, StageVerdict
from tests.judge.worlds import VERSIONS, S, bulk, pairs_world, plan

P50 = Gate("response_time.p50", 0.10)
URLS = {"baseline": "grpc://127.0.0.1:8001", "candidate": "grpc://127.0.0.1:8001"}
PAIRS_S = 0.5
ALONE_S, BOTH_S = 100.0, 200.0


def world(
    seed: int,
    *,
    drag: float = 1.0,
    slower: float = 1.0,
    alone_s: float = ALONE_S,
    gates: tuple[Gate, ...] = (P50,),
    mode: str = "paired",
    **more: object,
) -> Evidence:
    """v1 beside itself, then both. `drag`: how much longer v1 takes beside v2; `slower`: what v2 takes of v1 alone."""
    rng = np.random.default_rng(seed)
    tables, records, now = [], [], 0.0
    for index, (seconds, factors) in enumerate(((alone_s, (1.0, 1.0)), (BOTH_S, (drag, slower)))):
        n = round(seconds / PAIRS_S)
        due = now + np.arange(n) * PAIRS_S
        prompts = rng.normal(0, 0.15, n)
        for half, factor in enumerate(factors):
            arm = "candidate" if index and half else "baseline"
            latency = 0.4 * factor * np.exp(prompts + rng.normal(0, 0.04, n))
            number = 2 * np.arange(n) + half if not index else np.arange(n)
            tables.append(bulk(arm, due, latency, (index << 32) | number, stage=index))
        end = round((now + seconds + 1) * S)
        if index:
            stage = plan(1, mode, seconds, 0.5, rate=1 / PAIRS_S)
        else:
            stage = plan(0, "split", seconds, 0.0, rate=2 / PAIRS_S, purpose="alone", together=2)
        records.append(StageRecord(stage, round(now * S), end_ns=end, decided_ns=end))
        now += seconds + 2
    known: dict[str, object] = {
        "stages": records, "gates": gates, "seed": seed, "planned": 1, "versions": VERSIONS, "urls": URLS,
    }  # fmt: skip
    return Evidence.from_tables(pa.concat_tables(tables), **{**known, **more})  # type: ignore[arg-type]


def without_alone(evidence: Evidence) -> Evidence:
    rows = evidence.samples.take(evidence.samples.stage == 1)
    return dataclasses.replace(evidence, stages=evidence.stages[1:], samples=rows)


def found(verdict: StageVerdict, metric: str) -> Finding:
    (one,) = (f for f in verdict.findings if f.metric == metric)
    return one


# -------------------------------------------------------------- dragged along


def test_a_slow_v2_that_drags_v1_along_is_never_promoted() -> None:
    """30 % slower, v1 dragged along by 20 %: side by side 8.3 %, which a margin of 10 % would let pass."""
    verdicts, blind = [], []
    for seed in range(200):
        evidence = world(seed, drag=1.2, slower=1.3)
        verdicts.append(judge_stage(evidence, 1).verdict)
        if seed < 20:
            blind.append(judge(without_alone(evidence)).verdict)
    assert verdicts.count("promote") == 0
    assert verdicts.count("rollback") >= 190
    assert blind.count("promote") >= 10, "what is shown here is that v1 alone was needed"


def test_the_sentence_says_what_it_rests_on() -> None:
    verdict = judge_stage(world(1, drag=1.2, slower=1.3), 1)
    gate = found(verdict, P50.metric)
    assert gate.outcome == "fail"
    assert gate.effect == pytest.approx(1.3, abs=0.04)
    assert gate.interval is not None
    assert (gate.interval[0] or 0) > 1.10
    assert gate.reason.startswith("response_time p50 rests on v1 alone, since v1 takes ")
    assert " beside v2 than alone, and v2 beside v1 " in gate.reason
    told = found(verdict, "coupling.response_time.p50")
    assert told.outcome == "pass"
    assert told.effect == pytest.approx(1.2, abs=0.04)
    assert told.interval is not None
    assert (told.interval[0] or 0) < 1.2 < (told.interval[1] or 0)
    assert "so the margin is held against v1 alone, too" in told.reason


def test_a_v2_that_drags_and_is_no_slower_than_v1_allows_passes_on_v1_alone() -> None:
    verdict = judge_stage(world(2, drag=1.04, slower=1.04), 1)
    gate = found(verdict, P50.metric)
    assert gate.outcome == "pass"
    assert "rests on v1 alone: v1 takes" in gate.reason


def test_what_fails_at_the_same_time_fails_whatever_v1_took_alone() -> None:
    for drag in (0.8, 1.0, 1.1):
        gate = found(judge_stage(world(3, drag=drag, slower=1.5 * drag), 1), P50.metric)
        assert gate.outcome == "fail"
        assert gate.reason.endswith("(rests on both arms at the same time)")


# -------------------------------------------------------------- not dragged along


def test_identical_builds_keep_their_verdict() -> None:
    for seed in range(25):
        evidence = world(seed)
        verdict, blind = judge(evidence), judge(without_alone(evidence))
        gate, alone = (found(v.stages[-1], P50.metric) for v in (verdict, blind))
        assert verdict.verdict == blind.verdict
        assert gate.outcome == alone.outcome
        assert "(rests on " in gate.reason


def test_margin_of_nothing_fails_no_more_often_than_without() -> None:
    gates = (dataclasses.replace(P50, margin=0.0),)
    for seed in range(25):
        evidence = world(seed, gates=gates)
        with_it, blind = (judge(e).verdict == "rollback" for e in (evidence, without_alone(evidence)))
        assert with_it == blind


def test_a_machine_that_became_slower_for_both_is_no_fault_of_v2() -> None:
    """It looks like v1 dragged along: nothing is promoted, and nothing rolled back."""
    for seed in range(25):
        verdict = judge(world(seed, drag=1.25, slower=1.25))
        assert verdict.verdict == "inconclusive"
    gate = found(verdict.stages[-1], P50.metric)
    assert "at the same time they are within it, because both are slower" in gate.reason
    told = found(verdict.stages[-1], "coupling.response_time.p50")
    assert "that the machine became slower meanwhile would look the same" in told.reason


def test_a_machine_that_became_faster_for_both_changes_nothing() -> None:
    verdict = judge(world(4, drag=0.7, slower=0.7))
    assert verdict.verdict == "promote"
    told = found(verdict.stages[-1], "coupling.response_time.p50")
    assert "v2 costs v1 less than a second v1 does" in told.reason


# -------------------------------------------------------------- around it


def test_too_little_of_v1_alone_promotes_nothing() -> None:
    verdict = judge(world(5, alone_s=10))
    assert verdict.verdict == "inconclusive"
    gate = found(verdict.stages[-1], P50.metric)
    assert "but v1 alone has 40 answers with a response_time p50, it takes 60" in gate.reason
    assert found(verdict.stages[-1], "coupling.response_time.p50").reason.startswith("for information: v1 alone has 40")


def test_v1_alone_counts_in_no_other_gate() -> None:
    evidence = world(6, gates=(Gate("errors", 0.03, "absolute"), P50))
    errors = found(judge_stage(evidence, 1), "errors")
    assert (errors.n_baseline, errors.n_candidate) == (400, 400)


def test_the_alone_stage_itself_only_asks_whether_it_was_sound() -> None:
    evidence = world(7)
    first = judge_stage(evidence, 0)
    assert (first.verdict, first.findings) == ("promote", ())
    assert first.reason == "v1 alone: what comes next is compared with it"
    late = dataclasses.replace(evidence.samples, sent_ns=evidence.samples.sent_ns + S // 10)
    late = dataclasses.replace(late, done_ns=late.done_ns + S // 10)
    slow_generator = judge_stage(dataclasses.replace(evidence, samples=late), 0)
    assert slow_generator.verdict == "inconclusive"
    assert "The generator fell behind" in slow_generator.reason


def test_looks_at_both_never_fail_identical_builds_of_one_machine() -> None:
    """Of a world in which v1 is dragged along, and v2 is no slower beside it."""
    for seed in range(10):
        evidence = world(seed, drag=1.2, slower=1.2)
        begin = evidence.stages[1].begin_ns
        looks = [judge_stage(evidence, 1, now_ns=begin + t * S).verdict for t in (80, 120, 160)]
        assert "rollback" not in looks


def test_one_server_without_v1_alone_is_told() -> None:
    evidence = without_alone(world(8))
    told = found(judge_stage(evidence, 1), "coupling")
    assert told.outcome == "pass"
    assert told.reason == (
        "for information: both arms share one server and v1 was not measured alone: what v2 costs v1 is not known; "
        "alone: 60s in this stage would measure it"
    )


@pytest.mark.parametrize(
    ("urls", "gpus", "expected"),
    [
        ({"baseline": "grpc://a:8001", "candidate": "grpc://b:8001"}, 1, False),
        ({"baseline": "grpc://127.0.0.1:8001", "candidate": "grpc://localhost:9001"}, 1, True),
        ({"baseline": "grpc://127.0.0.1:8001", "candidate": "grpc://localhost:9001"}, 2, False),
        ({"baseline": "grpc://127.0.0.1:8001", "candidate": "grpc://localhost:9001"}, 0, False),
        ({}, 1, False),
    ],
)
def test_two_servers_share_a_gpu_where_there_is_one_on_this_machine(
    urls: dict[str, str], gpus: int, expected: bool
) -> None:
    names = [f"gpu{i}" for i in range(gpus)] + ["host"]
    readings = pa.table({"device": names})
    evidence = without_alone(world(9))
    evidence = dataclasses.replace(evidence, urls=urls, readings=None)
    with_readings = dataclasses.replace(evidence, readings=readings)
    assert (coupling.shares(with_readings) == "GPU") is expected


def test_the_interval_of_the_drag_covers_the_truth() -> None:
    """95 % each side: of 100 recordings at most a few lie beyond either (99.9 % binomial bound of 5 %: 13)."""
    below = above = 0
    for seed in range(100):
        told = found(judge_stage(world(seed, drag=1.1, slower=1.1), 1), "coupling.response_time.p50")
        assert told.interval is not None
        low, high = told.interval
        assert low is not None
        assert high is not None
        below += math.log(high) < math.log(1.1)
        above += math.log(low) > math.log(1.1)
    assert below <= 13
    assert above <= 13


def test_each_of_the_three_has_to_be_sure_at_the_level_of_the_gate() -> None:
    """That v1 is dragged along, that v2 is beyond the margin of v1 alone, and that it is slower than v1 beside it."""
    rng, gate = np.random.default_rng(3), Gate("response_time.p50", 0.10)

    def of(effect: float) -> Spread:
        return Spread(effect, effect, 0.01, 0.01, np.sort(rng.normal(effect, 0.01, 2000)), 40)

    def p(drag: float, total: float, ratio: float) -> float:
        view = StageView.of(pairs_world(1, 150, ratio, own=0.02), 0, None)
        side = coupling.Side(of(0.0), 0.4, 150)
        view.kept["coupling.response_time.p50"] = coupling.Coupling(side, side, side, of(drag), of(total))
        return coupling.rested(view, gate, latency.compare(view, gate)).p_worse

    assert p(0.3, 0.3, 1.05) < 0.001
    assert 0.01 < p(0.02, 0.3, 1.05) < 0.05, "dragged along, surely at 95 % and not at 99 %"
    assert p(0.3, 0.11, 1.05) > 0.01, "beyond the margin, and not surely"
    assert p(0.3, 0.3, 1.0) > 0.01, "as fast as v1 beside it"


def test_two_stages_are_set_against_each_other_as_welch_has_it() -> None:
    rng = np.random.default_rng(5)
    one, two = (Spread(m, m, se, 2 * se, rng.normal(m, se, 2000), n) for m, se, n in ((0.1, 0.03, 20), (0.4, 0.04, 13)))
    seen = coupling._between(coupling.Side(one, 1.0, 99), coupling.Side(two, 1.0, 99))
    assert (seen.effect, seen.mean) == (pytest.approx(0.3), pytest.approx(0.3))
    assert (seen.se_units, seen.se_draws) == (pytest.approx(0.05), pytest.approx(0.10))
    assert seen.units == 1 + int(0.05**4 / (0.03**4 / 19 + 0.04**4 / 12))
    assert seen.sorted_draws.std() == pytest.approx(0.05, rel=0.1)
