"""The steps of an ensemble: what Triton's counters say of each, put together and put into words."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from harness.judge import Evidence, judge_stage
from harness.recording.schema import READINGS
from harness.recording.steps import Pipeline, StepTimes, pipelines, step_times
from harness.types import Finding, Reading, StageRecord
from tests.judge.worlds import S, bulk, paired_plan, table

META = {
    "arms": {
        "baseline": {"model": "rag_v1", "version": 1, "steps": ["tok/1", "emb/1", "llm/1"]},
        "candidate": {"model": "rag_v2", "version": 1, "steps": ["tok/1", "emb/2", "llm/1"]},
    }
}
ARMS = pipelines(META)
PARTS = {"queue_duration": 0.1, "compute_input_duration": 0.05, "compute_infer_duration": 0.8}


class World:
    """A Triton that is polled once a second: each device's time for a request, and how many it answers a second."""

    def __init__(self, seconds: float = 60, *, jitter: float = 0.05, seed: int = 1) -> None:
        self.seconds, self.jitter = round(seconds), jitter
        self.rng = np.random.default_rng(seed)
        self.rows: list[Reading] = []

    def add(
        self,
        device: str,
        takes_s: float | Callable[[int], float],
        rate: float,
        *,
        reload_at: int = -1,
        from_s: int = 0,
    ) -> World:
        answered = spent = 0.0
        for second in range(from_s, self.seconds + 1):
            if second == reload_at:
                answered = spent = 0.0
            elif second > from_s:
                count = float(self.rng.poisson(rate))
                answered += count
                each = takes_s(second) if callable(takes_s) else takes_s
                spent += count * each * (1 + self.jitter * float(self.rng.standard_normal()))
            values = {name: spent * part for name, part in PARTS.items()}
            values |= {"compute_output_duration": spent * 0.05, "request_duration": spent, "request_success": answered}
            for name, value in values.items():
                unit = "1" if name == "request_success" else "s"
                self.rows.append(Reading(second * S, "triton", device, f"inference.{name}", value, unit))
        return self

    @property
    def readings(self) -> pa.Table:
        return table(self.rows, READINGS)


def world(two_s: float = 0.05, **more: float) -> World:
    """Ensembles of 0.5 s, of which the embedding is 0.05 s in version 1 and `two_s` in version 2."""
    made = World(**more)  # type: ignore[arg-type]
    made.add("tok/1", 0.001, 8).add("emb/1", 0.05, 4).add("emb/2", two_s, 4).add("llm/1", 0.449, 8)
    return made.add("rag_v1/1", 0.5, 4).add("rag_v2/1", 0.45 + two_s, 4)


def times(readings: pa.Table, begin_s: float = 0, end_s: float | None = None) -> dict[str, StepTimes]:
    found = step_times(readings, ARMS, round(begin_s * S), None if end_s is None else round(end_s * S))
    return {step.device: step for step in found}


def findings(readings: pa.Table, meta_arms: dict[str, Pipeline] = ARMS) -> dict[str, Finding]:
    due = np.arange(0, 60, 0.5)
    samples = pa.concat_tables([bulk(arm, due, np.full(len(due), 0.5)) for arm in ("baseline", "candidate")])
    stage = StageRecord(paired_plan(seconds=60), 0, end_ns=60 * S)
    evidence = Evidence.from_tables(samples, stages=[stage], readings=readings, pipelines=meta_arms)
    found = judge_stage(evidence, 0).findings
    return {finding.metric: finding for finding in found if finding.metric.startswith("steps.")}


def test_pipelines_are_the_arms_that_have_steps() -> None:
    assert ARMS["baseline"] == Pipeline("rag_v1/1", ("tok/1", "emb/1", "llm/1"))
    assert pipelines({}) == {}
    assert pipelines({"arms": {"baseline": {"model": "tiny", "version": 1}}}) == {}
    assert pipelines({"arms": "none"}) == {}


def test_a_mean_is_the_sum_of_the_time_over_the_number_of_answers() -> None:
    made = World(3, jitter=0).add("emb/1", 0.05, 20)
    found = times(made.readings)["emb/1"]
    assert found.answers == sum(r.value for r in made.rows if r.metric.endswith("success") and r.t_ns == 3 * S)
    assert found.total_s == pytest.approx(0.05)
    assert (found.queue_s, found.input_s, found.infer_s, found.output_s) == pytest.approx((5e-3, 2.5e-3, 0.04, 2.5e-3))
    assert math.isnan(found.share), "nothing is known of the ensemble"


def test_steps_come_in_order_with_versions_side_by_side_and_ensembles_last() -> None:
    found = times(world().readings)
    assert list(found) == ["tok/1", "emb/1", "emb/2", "llm/1", "rag_v1/1", "rag_v2/1"]
    assert found["emb/1"].arms == ("baseline",)
    assert found["emb/2"].arms == ("candidate",)
    assert found["tok/1"].arms == found["llm/1"].arms == ("baseline", "candidate")
    assert found["rag_v2/1"].arms == ("candidate",)


def test_a_share_is_of_the_ensembles_that_ask() -> None:
    found = times(world(0.55, jitter=0).readings)
    assert found["emb/1"].share == pytest.approx(0.1)
    assert found["emb/2"].share == pytest.approx(0.55)
    assert found["llm/1"].share == pytest.approx(0.449 / 0.75, rel=0.05)


def test_only_what_was_answered_in_the_stage_counts() -> None:
    readings = World(60, jitter=0).add("emb/1", lambda second: 0.05 if second > 30 else 0.5, 5).readings
    assert times(readings, 30.5)["emb/1"].total_s == pytest.approx(0.05)
    assert times(readings, 0, 30.5)["emb/1"].total_s == pytest.approx(0.5)
    assert 0.1 < times(readings, 20, 40)["emb/1"].total_s < 0.45


def test_a_reload_in_the_stage_costs_one_poll_and_no_truth() -> None:
    found = times(World(60, jitter=0).add("emb/1", 0.05, 5, reload_at=20).readings)["emb/1"]
    assert found.total_s == pytest.approx(0.05)
    assert 200 < found.answers < 400


def test_a_step_that_is_loaded_in_mid_stage_counts_from_its_first_poll() -> None:
    assert times(World(60, jitter=0).add("emb/2", 0.05, 5, from_s=40).readings)["emb/2"].answers > 50


def test_without_readings_or_answers_there_is_nothing() -> None:
    assert step_times(None, ARMS, 0, None) == ()
    assert times(READINGS.empty_table()) == {}
    assert times(World(60).add("emb/1", 0.05, 0).readings) == {}
    assert times(World(0).add("emb/1", 0.05, 5).readings) == {}, "one poll tells no growth"
    assert step_times(world().readings, {}, 0, None) == ()


def test_the_standard_error_is_that_of_the_mean() -> None:
    means, errors = [], []
    for seed in range(200):
        found = times(World(40, jitter=0.3, seed=seed).add("emb/1", 0.05, 6).readings)["emb/1"]
        means.append(found.total_s)
        errors.append(found.error_s)
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.15)
    assert math.isnan(times(World(2).add("emb/1", 0.05, 6).readings)["emb/1"].error_s)


def test_the_step_that_differs_is_compared_and_explains_the_difference() -> None:
    finding = findings(world(0.30).readings)["steps.emb"]
    assert (finding.outcome, finding.unit, finding.margin) == ("pass", "ratio", None)
    assert finding.effect == pytest.approx(6, rel=0.05)
    assert finding.baseline == pytest.approx(0.05, rel=0.05)
    assert finding.candidate == pytest.approx(0.30, rel=0.05)
    assert finding.n_baseline > 200
    assert finding.interval is not None
    low, high = finding.interval
    assert low is not None
    assert high is not None
    assert low < 6 < high < 1.1 * low
    assert "emb takes" in finding.reason
    assert "in version 2" in finding.reason
    assert "that the candidate's ensemble takes longer" in finding.reason


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held = 0
    for seed in range(150):
        finding = findings(world(0.05, jitter=0.2, seed=seed).readings)["steps.emb"]
        assert finding.interval is not None
        low, high = finding.interval
        held += low <= 1 <= high  # type: ignore[operator]
    assert held >= 0.90 * 150


def test_equal_ensembles_have_nothing_to_explain() -> None:
    reason = findings(world(jitter=0).readings)["steps.emb"].reason
    assert reason.endswith("end to end the ensembles differ by less than 2 %")


def test_a_step_that_explains_nothing_is_not_blamed() -> None:
    made = World(jitter=0).add("emb/1", 0.05, 4).add("emb/2", 0.04, 4)
    made.add("rag_v1/1", 0.5, 4).add("rag_v2/1", 0.8, 4)
    reason = findings(made.readings)["steps.emb"].reason
    assert "that is none of the 300.0 ms that the candidate's ensemble takes longer" in reason


def test_a_part_of_the_difference_is_told_from_all_of_it() -> None:
    def told(whole_s: float) -> str:
        made = World(jitter=0).add("emb/1", 0.05, 4).add("emb/2", 0.25, 4)
        made.add("rag_v1/1", 0.5, 4).add("rag_v2/1", whole_s, 4)
        return findings(made.readings)["steps.emb"].reason.rpartition("; ")[2]

    assert told(0.80) == "that is 200.0 ms of the 300.0 ms that the candidate's ensemble takes longer"
    assert told(0.65) == "that is all of the 150.0 ms that the candidate's ensemble takes longer"
    assert told(0.40) == "that is none of the 100.0 ms that the candidate's ensemble takes less"


def test_a_shared_step_is_not_split() -> None:
    found = findings(world(jitter=0).readings)
    assert list(found) == ["steps.tok", "steps.emb", "steps.llm"]
    llm = found["steps.llm"]
    assert (llm.unit, llm.baseline, llm.candidate) == ("s", None, None)
    assert llm.effect == pytest.approx(0.449, rel=0.02)
    assert "both arms, and Triton's counters do not tell them apart" in llm.reason
    assert "of it 44.9 ms in the queue" in llm.reason, "a tenth of it"


def test_a_step_that_one_arm_has_for_itself_is_said_to_be_its_own() -> None:
    arms = {**ARMS, "candidate": Pipeline("rag_v2/1", ("tok/1", "rerank/1", "emb/2", "llm/1"))}
    found = findings(world().add("rerank/1", 0.02, 4).readings, arms)
    assert "serves the candidate alone" in found["steps.rerank"].reason


def test_it_decides_nothing() -> None:
    """However much slower a step is: the gates are on what users see."""
    due = np.arange(0, 60, 0.5)
    samples = pa.concat_tables([bulk(arm, due, np.full(len(due), 0.5)) for arm in ("baseline", "candidate")])
    stage = StageRecord(paired_plan(seconds=60), 0, end_ns=60 * S)

    def decided(readings: pa.Table | None) -> tuple[str, str]:
        verdict = judge_stage(Evidence.from_tables(samples, stages=[stage], readings=readings, pipelines=ARMS), 0)
        return verdict.verdict, verdict.reason

    assert decided(world(5.0).readings) == decided(None)
