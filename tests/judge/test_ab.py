"""A/B tests whose truth is known: what is said of them, and that nothing is said of one that is broken."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from harness.errors import RecordingError
from harness.judge import judge_operation, verdict_json
from harness.types import answer_in
from tests.judge.experiments import METRICS, Users, facts, found, judged, tables
from tests.judge.loads import window

MANY = Users(units=1200, requests=9000, habit=0.1)


def with_column(samples: pa.Table, name: str, values: Any) -> pa.Table:
    return samples.set_column(samples.column_names.index(name), name, pa.array(list(values), samples[name].type))


# ---------------------------------------------------------------- what is said


@pytest.mark.parametrize(
    ("b", "answer", "code"),
    [
        (0.75, "B better", 0),
        (1.3, "A better", 0),
        (1.0, "no difference within the margin", 0),
        (1.03, "no difference within the margin", 0),
        (1.1, "not enough", 3),
    ],
)
def test_the_answer(b: float, answer: str, code: int) -> None:
    """Sure and within the margin is no difference, too."""
    users = dataclasses.replace(MANY, b=b) if code == 0 else dataclasses.replace(MANY, b=b, habit=1.0, seed=3)
    verdict = judged(users)
    assert answer_in(verdict.reason) == answer, verdict
    assert verdict.exit_code == code
    time = found(verdict, "response_time.p50")
    assert time.interval is not None
    assert time.interval[0] < users.b < time.interval[1]
    if code:
        assert "times as many units" in verdict.needs


def test_what_is_called_a_and_what_b_makes_no_difference() -> None:
    samples = dataclasses.replace(MANY, b=0.8).samples()
    other = {"baseline": "candidate", "candidate": "baseline"}
    swapped = with_column(samples, "arm", [other[arm] for arm in samples["arm"].to_pylist()])
    swapped = with_column(swapped, "version", [{"1": "2", "2": "1"}[one] for one in samples["version"].to_pylist()])
    one, two = (found(judged(each), "response_time.p50") for each in (samples, swapped))
    assert (answer_in(one.reason), answer_in(two.reason)) == ("B better", "A better")
    assert one.effect is not None
    assert two.effect is not None
    assert one.effect == pytest.approx(1 / two.effect, rel=1e-9)
    assert one.interval is not None
    assert two.interval is not None
    assert one.interval == pytest.approx((1 / (two.interval[1] or 1), 1 / (two.interval[0] or 1)), rel=0.02)


def test_a_faster_arm_that_fails_more_often_is_not_simply_better() -> None:
    verdict = judged(dataclasses.replace(MANY, b=0.7, fail=(0.001, 0.08)))
    assert answer_in(verdict.reason) == "A better in some, B better in others", verdict.reason
    assert verdict.exit_code == 0
    assert "A better in errors +7" in verdict.reason
    assert "B better in response_time.p50 -" in verdict.reason


def test_an_answer_takes_one_for_every_metric() -> None:
    """Without a failure of 60 users nobody knows whether 1 in 100 has one."""
    verdict = judged(dataclasses.replace(MANY, units=60, b=0.5))
    assert answer_in(found(verdict, "response_time.p50").reason) == "B better"
    assert answer_in(found(verdict, "errors").reason) == "not enough"
    assert answer_in(verdict.reason) == "not enough"
    assert verdict.reason.startswith("not enough: errors -")
    assert "; B better in response_time.p50 -" in verdict.reason


def test_of_longer_answers_neither_is_better_unless_it_is_said_which() -> None:
    users = dataclasses.replace(MANY, longer=1.5)
    verdict = judged(users, facts("errors", "osl"))
    assert answer_in(verdict.reason) == "B higher"
    shorter = {**METRICS["osl"], "better": "lower"}
    verdict = judged(users, facts("errors", "osl", metrics=[METRICS["errors"], shorter]))
    assert answer_in(verdict.reason) == "A better"


def test_scores_are_compared_by_unit_too() -> None:
    verdict = judged(dataclasses.replace(MANY, right=(0.6, 0.8)), facts("errors", "quality.score.right"), scored=True)
    assert answer_in(verdict.reason) == "B better", verdict.reason
    score = found(verdict, "quality.score.right")
    assert (score.unit, score.effect) == ("pp", pytest.approx(0.2, abs=0.03))
    missing = judged(MANY, facts("errors", "quality.score.right"))
    assert found(missing, "quality.score.right").outcome == "no data"
    assert missing.exit_code == 3


def test_a_scorer_that_failed_leaves_no_answer() -> None:
    samples = MANY.samples()
    scores = MANY.scores(samples)
    failed = pa.concat_tables([scores, pa.Table.from_pylist([{**scores.slice(0, 1).to_pylist()[0], "arm": "",
                               "error": "it raised"}], schema=scores.schema)])  # fmt: skip
    verdict = judge_operation(facts("quality.score.right"), tables(samples, failed))
    assert "it raised" in found(verdict, "quality.score.right").reason
    assert verdict.exit_code == 3


@pytest.mark.parametrize("metrics", [("errors",), tuple(METRICS)])
def test_intervals_hold_together(metrics: tuple[str, ...]) -> None:
    """Several metrics have wider intervals than one."""
    verdict = judged(dataclasses.replace(MANY, fail=(0.02, 0.02)), facts(*metrics), scored=True)
    sure = {1: "95 % sure", 6: "99.17 % sure"}[len(metrics)]
    assert sure in found(verdict, "errors").reason


def test_the_interval_is_of_the_measured_time_and_of_the_units_that_were_dealt_out() -> None:
    users = dataclasses.replace(MANY, labelled=0.5)
    samples = users.samples()
    labelled = np.array(samples["assignment"].to_pylist()) == "header"
    # Those who chose B themselves are not those who were given it.
    slow = np.where(labelled & (np.array(samples["arm"]) == "candidate"), 3.0, 1.0)
    due, done = (np.array(samples[name]) for name in ("due_ns", "done_ns"))
    samples = with_column(samples, "done_ns", (due + (done - due) * slow).astype(np.int64))
    hashed = judged(samples)
    assert answer_in(found(hashed, "response_time.p50").reason) == "no difference within the margin"
    every = judged(samples, facts(analyse="all"))
    assert answer_in(found(every, "response_time.p50").reason) == "A better"
    half = facts()
    half["windows"][0]["seconds"] = 10.0
    counted = [found(judged(samples, one), "response_time.p50").n_baseline for one in (facts(), half)]
    assert counted[1] < counted[0]
    assert "other units came with a header" in found(hashed, "assignment.ratio").reason


# ---------------------------------------------------------------- an experiment that is broken


def broken(verdict: Any, check: str) -> None:
    assert found(verdict, check).outcome == "fail", verdict
    assert verdict.verdict == "rollback"
    assert verdict.exit_code == 1
    assert answer_in(verdict.reason) == "nothing can be said"
    for metric in ("errors", "response_time.p50"):
        effect = found(verdict, metric)
        assert (effect.effect, effect.interval, effect.baseline) == (None, None, None)
        assert effect.outcome == "inconclusive"
        assert answer_in(effect.reason) == "nothing can be said"


def test_answers_of_the_other_arm() -> None:
    """As of a router that does not know the header: the highest version answers everybody."""
    verdict = judged(dataclasses.replace(MANY, b=0.5, columns={"version": ["2"] * MANY.requests}))
    broken(verdict, "assignment.honoured")
    assert "answers to A's units are not A's" in verdict.reason
    assert "x-experiment" in verdict.reason
    assert found(verdict, "assignment.sticky").outcome == "pass", "each unit saw one arm, if not its own"


def test_answers_of_a_version_that_is_neither() -> None:
    """A third version that serves, too, and is the highest."""
    broken(judged(dataclasses.replace(MANY, columns={"version": ["3"] * MANY.requests})), "assignment.honoured")


def test_a_single_answer_of_the_other_arm_is_enough() -> None:
    samples = MANY.samples()
    version = samples["version"].to_pylist()
    version[17] = {"1": "2", "2": "1"}[version[17]]
    verdict = judged(with_column(samples, "version", version))
    broken(verdict, "assignment.honoured")
    assert found(verdict, "assignment.sticky").outcome == "fail"
    assert samples["unit"][17].as_py() in found(verdict, "assignment.sticky").reason


def test_an_ingress_that_says_one_arm_and_has_the_other_answer() -> None:
    told = {"names": {"v1": "baseline", "v2": "candidate"}, "versions": {"1": "baseline", "2": "candidate"},
            "address": False}  # fmt: skip
    samples = MANY.samples()
    named = with_column(samples, "server", ["v1" if arm == "baseline" else "v2" for arm in samples["arm"].to_pylist()])
    assert judged(named, facts(told=told)).exit_code == 0
    # The names alone are enough where both arms have the same version.
    same = with_column(named, "version", ["7"] * MANY.requests)
    assert judged(same, facts(told={**told, "versions": {}})).exit_code == 0
    verdict = judged(with_column(named, "version", ["1"] * MANY.requests), facts(told=told))
    broken(verdict, "assignment.honoured")
    assert "name an arm and the other's version" in verdict.reason


def test_answers_that_name_no_arm_prove_nothing() -> None:
    """Missing is not good: neither a version that tells, nor a header of the ingress."""
    samples = MANY.samples()
    some = [("" if number % 9 == 0 else one) for number, one in enumerate(samples["version"].to_pylist())]
    verdict = judged(with_column(samples, "version", some))
    assert found(verdict, "assignment.honoured").outcome == "no data"
    assert verdict.exit_code == 3
    assert answer_in(verdict.reason) == "nothing can be said"
    assert verdict.needs == "facts for assignment.honoured"
    told = {"names": {}, "versions": {}, "address": False}
    assert found(judged(MANY, facts(told=told)), "assignment.honoured").outcome == "no data"
    apart = judged(MANY, facts(told={**told, "address": True}))
    assert found(apart, "assignment.honoured").outcome == "pass"
    assert "at its own address" in found(apart, "assignment.honoured").reason


def test_failed_requests_need_not_say_who_failed() -> None:
    verdict = judged(dataclasses.replace(MANY, fail=(0.3, 0.0)))
    assert found(verdict, "assignment.honoured").outcome == "pass"
    assert answer_in(verdict.reason) == "B better"


def test_units_that_changed_their_arm() -> None:
    samples = MANY.samples()
    moved = [
        f"u{int(unit[1:]) // 2 * 2:05d}" if number % 50 == 0 else unit
        for number, unit in enumerate(samples["unit"].to_pylist())
    ]
    broken(judged(with_column(samples, "unit", moved)), "assignment.sticky")


def lost(users: Users, share: float) -> pa.Table:
    """Without that share of B's units: their requests never came."""
    samples = users.samples()
    unit = pc.cast(pc.utf8_slice_codeunits(samples["unit"], 1), pa.int64()).to_numpy()
    gone = (np.array(samples["arm"]) == "candidate") & ((unit * 2654435761 % 1000) < 1000 * share)
    return samples.filter(pa.array(~gone))


def test_units_of_one_arm_that_were_lost() -> None:
    verdict = judged(lost(MANY, 0.25))
    broken(verdict, "assignment.ratio")
    assert "Sample ratio mismatch" in verdict.reason


def test_a_mismatch_is_found_when_it_is_there_and_hardly_ever_else() -> None:
    """At 0.1 %; with 2,800 units a fifth of one arm's being lost is found nearly always."""
    power, false = 0, 0
    for seed in range(40):
        users = Users(units=2800, requests=2800 * 3, seed=seed)
        power += found(judged(lost(users, 0.2), facts("errors")), "assignment.ratio").outcome == "fail"
        checks = judged(users, facts("errors")).findings
        false += any(one.metric.startswith("assignment.") and one.outcome != "pass" for one in checks)
    assert power >= 38
    assert false <= 1


def test_the_planned_split_is_what_units_are_held_against() -> None:
    users = dataclasses.replace(MANY, split=0.2)
    assert found(judged(users, facts("errors", split=0.2)), "assignment.ratio").outcome == "pass"
    broken_one = judged(users, facts("errors", split=0.5))
    assert found(broken_one, "assignment.ratio").outcome == "fail"


def test_requests_of_one_arm_that_were_lost() -> None:
    """Every unit is there, and a third of what those of B sent is not."""
    samples = MANY.samples()
    gone = (np.array(samples["arm"]) == "candidate") & (np.arange(MANY.requests) % 3 == 0)
    verdict = judged(samples.filter(pa.array(~gone)))
    assert found(verdict, "assignment.ratio").outcome == "pass"
    broken(verdict, "assignment.activity")


def test_a_few_heavy_users_are_no_mismatch() -> None:
    for seed in range(20):
        users = Users(units=800, requests=6000, heavy=1.0, seed=seed)
        assert found(judged(users, facts("errors")), "assignment.activity").outcome == "pass"


# ---------------------------------------------------------------- what is missing


def test_nothing_seen_is_nothing_said() -> None:
    for samples in (None, MANY.samples().slice(0, 0)):
        verdict = judged(samples)
        assert verdict.exit_code == 3
        assert {one.outcome for one in verdict.findings} <= {"no data", "inconclusive", "pass"}
        assert found(verdict, "assignment.honoured").outcome == "no data"


def test_one_that_was_cut_short() -> None:
    verdict = judged(dataclasses.replace(MANY, b=0.5), facts(finished=False, error="interrupted by SIGTERM"))
    assert answer_in(verdict.reason) == "not enough"
    assert "SIGTERM" in verdict.reason
    assert verdict.exit_code == 3
    early = judged(None, {"kind": "ab-test", "finished": False, "error": "x"})
    assert early.exit_code == 3


def test_times_do_not_count_where_the_load_was_late() -> None:
    late = facts(windows=[window("load", 0, lag_s=0.05)])
    verdict = judged(dataclasses.replace(MANY, b=0.5), late)
    assert answer_in(found(verdict, "response_time.p50").reason) == "not enough"
    assert found(verdict, "response_time.p50").effect is None
    assert answer_in(found(verdict, "errors").reason) == "no difference within the margin"
    assert answer_in(verdict.reason) == "not enough"
    assert "fell behind" in verdict.reason
    assert "workers" in verdict.needs


def test_a_metric_that_no_answer_has() -> None:
    verdict = judged(dataclasses.replace(MANY, columns={"osl": np.full(MANY.requests, -1, np.int32)}), facts("osl"))
    assert found(verdict, "osl").outcome == "no data"
    assert "tokens were counted" in found(verdict, "osl").reason
    assert verdict.needs == "facts for osl"


def test_damaged_facts_are_said_to_be() -> None:
    with pytest.raises(RecordingError, match=r"observations\.json: is damaged: KeyError"):
        judged(MANY, {key: value for key, value in facts().items() if key != "told"})


def test_the_same_bytes_whatever_the_order_of_arrival() -> None:
    samples = dataclasses.replace(MANY, fail=(0.02, 0.03)).samples()
    shuffled = samples.take(pa.array(np.random.default_rng(5).permutation(MANY.requests)))
    one, two = (verdict_json(judged(each, facts(*METRICS)), {}) for each in (samples, shuffled))
    assert one == two == verdict_json(judged(samples, facts(*METRICS)), {})
