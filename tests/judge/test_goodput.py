"""Goodput: answers that keep every limit, against the baseline's or as a share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.judge import Evidence, judge_stage
from harness.judge.amounts.goodput import good
from harness.judge.columns import BASELINE
from harness.types import Finding, Gate, StageRecord
from tests.judge.measured import Stage
from tests.judge.worlds import S, plan, sample, table

WITHIN = {"response_time": 0.06}
MARGIN = Gate("goodput", 0.05, within=WITHIN)
SHARE = Gate("goodput", limit=0.10, within=WITHIN)


def of(evidence: Evidence, stage: int = 0, now_ns: int | None = None) -> Finding:
    (one,) = (f for f in judge_stage(evidence, stage, now_ns=now_ns).findings if f.metric == "goodput")
    return one


def found(stage: Stage) -> Finding:
    return of(stage.evidence())


def test_in_an_open_loop_slowness_costs_goodput_though_every_request_is_answered() -> None:
    one = found(Stage(ratio=1.15, gates=(MARGIN,)))
    assert one.outcome == "fail"
    assert "answers a second with response time within 60 ms); 99 % sure it is at least" in one.reason
    assert one.baseline is not None
    assert one.candidate is not None
    assert one.candidate / one.baseline == pytest.approx(one.effect, rel=0.01)
    assert found(Stage(ratio=1.0, gates=(MARGIN,))).outcome == "pass"


def test_a_failed_request_is_never_good() -> None:
    stage = Stage(gates=(MARGIN,))
    stage.times[1][::5] = 0.001
    stage.status[1][::5] = "error"
    one = found(stage)
    assert one.outcome == "fail"
    assert one.effect == pytest.approx(0.8, abs=0.02)
    late = Stage(gates=(MARGIN,))
    late.times[1][::5] = 0.001
    late.status[1][::5] = "timeout"
    assert found(late).effect == pytest.approx(one.effect)


def test_a_limit_on_a_time_that_an_answer_does_not_have_holds() -> None:
    """tpot of one token; but where no answer has the time, nothing is known."""

    def rows(osl: int) -> list[object]:
        more = {"first_ns": S, "osl": osl, "sent_ns": 0, "due_ns": 0}
        return [sample("baseline", 0, 0.0, 2.0, **more), sample("baseline", 1, 0.0, 5.0, **{**more, "osl": 3})]

    record = StageRecord(plan(), 0, end_ns=90 * S)
    samples = Evidence.from_tables(table(rows(1)), stages=[record]).samples  # type: ignore[arg-type]
    assert good(samples, {"tpot": 1.0}).tolist() == [True, False]
    assert good(samples, {"tpot": 3.0, "ttft": 0.5}).tolist() == [False, False]
    assert good(samples, {"tpot": 3.0, "ttft": 1.0}).tolist() == [True, True]
    unknown = found(Stage(gates=(Gate("goodput", 0.05, within={"response_time": 0.06, "tpot": 0.05}),)))
    assert (unknown.outcome, unknown.reason) == (
        "no data",
        "no answer of v1 has a tpot: nobody counted its tokens, load.tokenizer would",
    )


def test_no_good_answer_at_all() -> None:
    nothing = found(Stage(took=1.0, gates=(MARGIN,)))
    assert (nothing.outcome, nothing.reason) == (
        "no data",
        "no answer of v1 is good (response time within 60 ms): nothing to compare with",
    )
    worst = Stage(gates=(MARGIN,))
    worst.times[1][:] = 1.0
    assert found(worst).outcome == "fail"


@pytest.mark.parametrize(("ratio", "outcome"), [(0.9, "pass"), (1.0, "inconclusive"), (1.3, "fail")])
def test_a_share_of_the_requests(ratio: float, outcome: str) -> None:
    one = found(Stage(ratio=ratio, seconds=120.0, gates=(SHARE,)))
    assert one.outcome == outcome, one.reason
    assert (one.unit, one.margin) == ("rate", 0.9)
    assert one.effect is not None
    assert one.reason.startswith(f"{one.effect * 100:.1f} % of 6000 requests to v2 kept response time within 60 ms, ")
    assert "% of those to v1; at least 90 % have to, " in one.reason


def test_a_share_is_judged_in_a_split_too() -> None:
    stage = Stage(ratio=1.3, mode="split", gates=(SHARE,))
    evidence = stage.evidence()
    record = evidence.stages[0]
    split = replace(evidence, stages=(replace(record, plan=replace(record.plan, candidate_share=0.2)),))
    assert of(split).outcome == "fail"
    fine = Stage(ratio=1.0, mode="split", gates=(SHARE,)).evidence()
    assert of(replace(fine, stages=split.stages)).reason.endswith("nothing speaks against it")


def test_a_candidate_that_was_asked_nothing() -> None:
    evidence = Stage(gates=(SHARE,)).evidence()
    alone = replace(evidence, samples=evidence.samples.take(evidence.samples.arm == BASELINE))
    assert (of(alone).outcome, of(alone).reason) == ("no data", "v2 was asked nothing")
    assert of(replace(alone, gates=(MARGIN,))).outcome == "no data"


def test_in_a_closed_loop_it_is_for_each_request_in_flight() -> None:
    stage = Stage(ratio=1.15, in_flight=2, gates=(MARGIN,))
    one = found(stage)
    assert one.outcome == "fail"
    assert "for each request in flight" in one.reason
    shares = [float(np.mean(times + stage.lag < 0.06)) for times in stage.times]
    assert one.effect == pytest.approx(shares[1] / shares[0] / 1.15, rel=0.02)


def test_a_share_passes_at_the_end_only() -> None:
    """Also in a stage that lasts until it is decided: its level is not for as many answers as looks."""
    sound = Stage(ratio=0.9, seconds=120.0, gates=(SHARE,)).evidence()
    record = sound.stages[0]
    until = replace(record, plan=replace(record.plan, until_decided=True, duration_s=600.0))
    evidence = replace(sound, stages=(until,))
    look = of(evidence, now_ns=record.begin_ns + 119 * S)
    assert (look.outcome, look.reason.endswith("no verdict yet, the stage is not over")) == ("inconclusive", True)
    assert of(sound).outcome == "pass"
