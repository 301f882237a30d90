"""What Kayenta is shown of a recording, and why it agrees with our verdict or not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import jsonschema
import numpy as np
import pyarrow as pa
import pytest

from harness.judge import Evidence, judge, schema, second_opinion, verdict_json
from harness.judge.kayenta.points import series
from harness.judge.view import StageView
from harness.types import Finding, Gate, MetricOpinion, SecondOpinion, StageRecord, StageVerdict, Verdict
from tests.judge.worlds import Llm, S, bulk, plan, sample, table

GATES = (Gate("errors", 0.01, "absolute"), Gate("response_time.p50", 0.10), Gate("response_time.p99", 0.10))


def failing(requests: pa.Table, share: float, rng: np.random.Generator) -> pa.Table:
    status = pa.array(np.where(rng.random(len(requests)) < share, "error", "ok"))
    return requests.set_column(requests.schema.get_field_index("status"), "status", status)


def world(
    seed: int, *, rate: float = 10, seconds: int = 300, ratio: float = 1.0, slow: float = 0.0, errors: float = 0.0,
    rho: float = 0.0, own_rho: float = 0.0, share: float = 0.5, gates: Sequence[Gate] = GATES,
) -> Evidence:  # fmt: skip
    """Unpaired requests with lognormal latencies. `slow`: so many of the candidate's take 10 times as long; `rho`: how
    far a second resembles the one before it, in both arms alike; `own_rho`: in each arm by itself.
    """
    rng = np.random.default_rng(seed)
    shared, parts = drift(rho, seconds, rng), []
    for arm, part in (("baseline", 1 - share), ("candidate", share)):
        n = round(rate * seconds * part * 2)
        due = np.sort(rng.uniform(0, seconds, n))
        slowness = np.interp(due, np.arange(seconds), shared + drift(own_rho, seconds, rng))
        took = 0.05 * np.exp(rng.normal(0, 0.3, n) + slowness)
        if arm == "candidate":
            took *= ratio * np.where(rng.random(n) < slow, 10, 1)
        requests = bulk(arm, due, took)
        parts.append(failing(requests, errors, rng) if arm == "candidate" and errors else requests)
    stage = plan(0, "interleaved" if share == 0.5 else "split", seconds, share, rate=2 * rate)
    return Evidence.from_tables(
        pa.concat_tables(parts), stages=[StageRecord(stage, 0, end_ns=seconds * S)], gates=gates, seed=seed
    )


def drift(rho: float, seconds: int, rng: np.random.Generator) -> np.ndarray:
    values = np.zeros(seconds)
    for i in range(1, seconds) if rho else ():
        values[i] = rho * values[i - 1] + rng.normal(0, 0.15)
    return values


def claimed(evidence: Evidence, **outcomes: str) -> Verdict:
    """Our verdict as it might be; whether Kayenta agrees does not hang on how good our judge is."""
    findings = tuple(
        Finding(
            metric.replace("__", "."), outcome, "a reason", effect=1.2,  # type: ignore[arg-type]
            interval=(1.15, 1.25), margin=1.1,
        )
        for metric, outcome in outcomes.items()
    )  # fmt: skip
    worst = "rollback" if "fail" in outcomes.values() else "promote"
    return Verdict(worst, "a reason", (StageVerdict(0, worst, "a reason", findings),))  # type: ignore[arg-type]


def of(opinion: SecondOpinion, metric: str) -> MetricOpinion:
    return next(m for m in opinion.metrics if m.metric == metric)


# ---------------------------------------------------------------- the points


def points(evidence: Evidence, metric: str) -> tuple[np.ndarray, np.ndarray]:
    views = [StageView.of(evidence, record.plan.index, None) for record in evidence.stages]
    found = series(views, metric)
    assert found is not None
    return found.baseline, found.candidate


@pytest.mark.parametrize("statistic", ["p50", "p99", "mean"])
def test_a_point_is_of_the_requests_due_in_its_5_seconds(statistic: str) -> None:
    evidence = world(1, seconds=60)
    one, two = points(evidence, f"response_time.{statistic}")
    assert len(one) == len(two) == 12
    samples = evidence.samples
    for arm, seen in ((0, one), (1, two)):
        mine = samples.take((samples.arm == arm) & (samples.due_ns // (5 * S) == 7))
        took = (mine.done_ns - mine.due_ns) / 1e6
        assert seen[7] == pytest.approx(
            took.mean() if statistic == "mean" else np.quantile(took, int(statistic[1:]) / 100)
        )


def test_points_of_errors_and_of_nothing() -> None:
    rows = [sample("baseline", i, i * 0.5, 0.1) for i in range(30)]
    rows += [
        sample("candidate", i, i * 0.5, 0.1, status="error" if i == 21 else "ok") for i in range(30) if not 10 <= i < 20
    ]
    rows.append(sample("candidate", 99, 1.0, 0.1, status="cancelled"))
    evidence = Evidence.from_tables(
        table(rows), stages=[StageRecord(plan(0, "interleaved", 15, rate=4), 0, 15 * S)], gates=GATES
    )
    one, two = points(evidence, "errors")
    assert one.tolist() == [0, 0, 0]
    assert two[0] == 0
    assert np.isnan(two[1])
    assert two[2] == pytest.approx(10)  # per cent: one of ten
    assert np.isnan(points(evidence, "response_time.p50")[1][1])
    assert points(evidence, "request_throughput")[1].tolist() == pytest.approx([2, 0, 1.8])


def test_only_stages_in_which_both_arms_get_requests() -> None:
    run = Llm(seed=1).paired(90).split(0.5, 30).split(1.0, 20)
    evidence = run.evidence()
    one, two = points(evidence, "ttft.p50")
    assert len(one) == len(two) == pytest.approx(24, abs=1)
    opinion = second_opinion(evidence, judge(evidence))
    assert opinion.left_out == ("quality.kl",)
    assert [m.metric for m in opinion.metrics] == ["errors", "ttft.p50", "tpot.p50"]


# ---------------------------------------------------------------- agreement


def test_both_pass_identical_builds() -> None:
    evidence = world(2)
    opinion = second_opinion(evidence, judge(evidence))
    assert (opinion.verdict, opinion.score, opinion.agrees) == ("pass", 100.0, True)
    assert all(m.agrees and m.label == "Pass" for m in opinion.metrics)
    assert opinion.reason == "its pass agrees with our promote"
    assert "so Kayenta makes no test" in of(opinion, "errors").reason  # no failure in either arm


def test_both_see_what_is_plain() -> None:
    evidence = world(3, ratio=1.3)
    opinion = second_opinion(evidence, claimed(evidence, response_time__p50="fail"))
    found = of(opinion, "response_time.p50")
    assert (found.label, found.ours, found.agrees) == ("High", "fail", True)
    assert found.reason.startswith("both see a difference: 60 points an arm differ by z = ")
    assert found.ratio == pytest.approx(1.3, abs=0.05)
    assert found.interval is not None
    assert found.interval[0] < 15 < found.interval[1]  # ms: 30 % of 50


def test_a_faster_candidate_is_no_failure() -> None:
    evidence = world(3, ratio=0.7)
    assert of(second_opinion(evidence, judge(evidence)), "response_time.p50").label == "Pass"


def test_failures_are_critical() -> None:
    evidence = world(4, errors=0.08)
    opinion = second_opinion(evidence, judge(evidence))
    assert (of(opinion, "errors").label, opinion.verdict, opinion.score) == ("High", "fail", 0.0)
    assert opinion.reason == "its fail (errors is High and critical) agrees with our rollback"


# ---------------------------------------------------------------- disagreement, and why


def test_rare_failures_that_most_points_do_not_have() -> None:
    gates = [Gate("errors", 0.001, "absolute")]
    evidence = world(1, rate=20_000 / 1200, seconds=1200, errors=0.003, gates=gates)
    verdict = judge(evidence)
    assert verdict.verdict == "rollback"
    opinion = second_opinion(evidence, verdict)
    found = of(opinion, "errors")
    assert (found.label, found.agrees, opinion.agrees) == ("Pass", False, False)
    assert found.z is not None
    assert found.z > 3.1  # and yet it passes
    assert found.reason.endswith("of its comparisons are of two equal points, which holds the shift at 0")
    assert opinion.reason == "its pass does not agree with our rollback, which rests on errors (there Pass)"


def test_a_tail_of_few_requests_a_point() -> None:
    evidence = world(1, rate=1000 / 300, slow=0.02)
    found = of(second_opinion(evidence, claimed(evidence, response_time__p99="fail")), "response_time.p99")
    assert (found.label, found.agrees) == ("Pass", False)
    assert "the p99 of the 16 requests in a point is hardly more than the slowest" in found.reason
    assert found.points == (60, 60)


def test_arms_that_move_together() -> None:
    evidence = world(1, rho=0.95, ratio=1.15)
    found = of(second_opinion(evidence, claimed(evidence, response_time__p50="fail")), "response_time.p50")
    assert found.label == "Pass"
    assert found.reason.endswith("rise and fall together (r = 0.96), which Kayenta does not cancel")


def test_points_that_resemble_their_neighbours() -> None:
    """Identical builds in arms that wander by themselves: a false alarm, and it is told from what."""
    opinions = [
        second_opinion(e, claimed(e, response_time__p50="pass")) for e in (world(s, own_rho=0.98) for s in range(9))
    ]
    alarms = [m for m in (of(o, "response_time.p50") for o in opinions) if m.label == "High"]
    assert alarms
    for found in alarms:
        assert not found.agrees
        assert "neighbouring points resemble each other (r = 0." in found.reason


def test_a_difference_within_the_margin() -> None:
    evidence = world(5, rate=100, ratio=1.05)
    verdict = judge(evidence)
    opinion = second_opinion(evidence, verdict)
    found = of(opinion, "response_time.p50")
    assert (found.label, found.ours, found.agrees) == ("High", "pass", False)
    assert found.reason.endswith("Kayenta asks whether there is any difference, ours whether it is beyond 10 %")


def test_unequal_shares_compare_queues() -> None:
    evidence = world(6, rate=50, share=0.1, ratio=1.2)
    found = of(second_opinion(evidence, claimed(evidence, response_time__p50="pass")), "response_time.p50")
    assert found.label == "High"
    assert found.reason.endswith("the arms had 90 % and 10 % of the load, and Kayenta compares their queues")


def test_what_fails_where_only_one_arm_is_asked() -> None:
    run = Llm(seed=1).paired()
    run.tpot_ratio = 1.5
    evidence = run.split(1.0, 40).evidence()
    verdict = judge(evidence)
    assert verdict.verdict == "rollback"
    found = of(second_opinion(evidence, verdict), "tpot.p50")
    assert (found.label, found.ours) == ("Pass", "fail")
    assert "ours fails it in stage 2" in found.reason
    assert found.reason.endswith("not both arms get requests there, so Kayenta has nothing to compare")
    assert "few: 50 are recommended" in found.reason


def test_a_candidate_that_is_never_asked() -> None:
    rows = [sample("baseline", i, i * 0.5, 0.1) for i in range(60)]
    record = StageRecord(plan(0, "interleaved", 30, rate=4), 0, 30 * S)
    evidence = Evidence.from_tables(table(rows), stages=[record], gates=GATES)
    verdict = judge(evidence)
    opinion = second_opinion(evidence, verdict)
    assert {m.label for m in opinion.metrics} == {"Nodata"}
    assert (opinion.verdict, opinion.score, verdict.verdict) == ("fail", 0.0, "inconclusive")
    assert all("6 points of the baseline and 0 of the candidate, so no data" in m.reason for m in opinion.metrics)
    assert "errors (there Nodata)" in opinion.reason


def test_what_was_done_after_the_decision_is_not_shown() -> None:
    evidence = world(7, ratio=1.3)
    cut = [StageRecord(evidence.stages[0].plan, 0, end_ns=100 * S, decided_ns=100 * S)]
    evidence = Evidence(samples=evidence.samples, stages=tuple(cut), gates=evidence.gates)
    assert of(second_opinion(evidence, judge(evidence)), "response_time.p50").points == (20, 20)


def test_less_is_worse_for_throughput() -> None:
    evidence = world(2, gates=[Gate("request_throughput", 0.05)])
    half = evidence.samples.take((evidence.samples.arm == 0) | (evidence.samples.pair_id % 2 == 0))
    lost = replace(evidence, samples=half)
    finding = Finding("request_throughput", "fail", "a reason", effect=0.5, interval=(0.45, 0.55), margin=0.95)
    verdict = Verdict("rollback", "a reason", (StageVerdict(0, "rollback", "a reason", (finding,)),))
    found = of(second_opinion(lost, verdict), "request_throughput")
    assert (found.label, found.agrees, found.unit) == ("Low", True, "/s")
    assert found.reason.endswith("ours fails it, sure that it is at least 45.0 % lower (margin 5 %)")
    assert of(second_opinion(evidence, verdict), "request_throughput").label == "Pass"


def test_what_is_open_for_want_of_time_only() -> None:
    evidence = world(2)
    cut = Evidence(samples=evidence.samples, stages=(replace(evidence.stages[0], decided_ns=200 * S),), gates=GATES)
    found = of(second_opinion(cut, judge(cut)), "response_time.p50")
    assert (found.label, found.ours) == ("Pass", "inconclusive")
    assert "ours leaves it open, within its margin so far: at most " in found.reason
    assert found.reason.endswith("ours lets nothing pass before its stage is over")


# ---------------------------------------------------------------- the document


def test_the_document_keeps_to_its_schema_and_is_the_same_twice() -> None:
    for evidence in (
        world(1),
        world(3, ratio=1.3),
        world(4, errors=0.08),
        Llm(seed=1).paired(60).split(1.0).evidence(),
    ):
        verdict = judge(evidence)
        texts = {verdict_json(verdict, {}, second_opinion(evidence, verdict)) for _ in range(2)}
        (text,) = texts
        document = json.loads(text)
        jsonschema.validate(document, schema())
        del document["second_opinion"]
        assert document == json.loads(verdict_json(verdict, {}))


def test_without_it_the_document_has_no_such_key() -> None:
    assert "second_opinion" not in verdict_json(judge(world(1)), {})
