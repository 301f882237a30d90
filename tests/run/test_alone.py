"""v1 alone, then beside v2, then in turns, on a real Triton: what is sent to whom, and what the judge makes of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from harness.judge import Evidence, judge
from harness.recording import Recording, stage_records
from harness.types import Gate, StageRecord
from tests.run.conftest import Done, canary, journal
from tests.run.measured import last_folder, measured

pytestmark = pytest.mark.triton

SCENARIO = """
name: tiny-alone
target: {server: embedded}
baseline: {model: tiny, version: 1, build: {delay_ms: 5}}
candidate: {model: tiny, version: 2, build: {delay_ms: 5}}
load: {timeout: 20s}
gates:
  - {metric: errors, margin: 20pp}
stages:
  - {mode: paired, in_flight: 1, for: 4s, alone: 4s}
  - {mode: sequential, in_flight: 1, for: 8s, cycles: 1, warm_up: 500ms}
"""


@dataclass(frozen=True)
class Ran:
    done: Done
    folder: Path
    samples: pd.DataFrame
    stages: tuple[StageRecord, ...]

    def of(self, number: int) -> pd.DataFrame:
        return self.samples[self.samples.stage == number]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("alone")
    (folder / "tiny-alone.yaml").write_text(SCENARIO)
    done = measured(lambda out: canary("run", folder / "tiny-alone.yaml", "--out", out, "--json"), folder / "out")
    found = last_folder(folder / "out")
    recording = Recording.open(found)
    return Ran(done, found, recording.samples.to_pandas(), stage_records(recording.meta))


def test_v1_gets_every_prompt_twice_at_once_before_v2_gets_any(ran: Ran) -> None:
    assert ran.done.code == 0, ran.done.stderr
    alone, paired = ran.of(0), ran.of(1)
    assert ran.stages[0].plan.purpose == "alone"
    assert set(zip(alone.arm, alone.version, alone.status, strict=True)) == {("baseline", "1", "ok")}
    assert alone.pair_id.is_unique
    # Numbers 2 k and 2 k + 1 were due at the same moment, and the next two once both had ended.
    twins = alone.groupby(alone.pair_id // 2).agg(
        n=("due_ns", "size"), due=("due_ns", "nunique"), end=("done_ns", "max")
    )
    assert (twins.n == 2).all()
    assert (twins.due == 1).all()
    begun = alone.groupby(alone.pair_id // 2).due_ns.min()
    assert (begun.to_numpy()[1:] >= twins.end.to_numpy()[:-1]).all(), "one pair at a time, as in the stage that follows"
    assert set(paired.arm) == {"baseline", "candidate"}
    assert ran.samples[ran.samples.arm == "candidate"].sent_ns.min() > alone.done_ns.max()


def test_turns_are_taken_in_the_order_a_b_b_a(ran: Ran) -> None:
    arms = [set(ran.of(record.plan.index).arm) for record in ran.stages if record.plan.mode == "sequential"]
    one, two = {"baseline"}, {"candidate"}
    assert arms == [one, one, two, two, two, two, one, one], "each after its warm-up"
    ends = [ran.of(record.plan.index).done_ns.max() for record in ran.stages]
    begins = [ran.of(record.plan.index).sent_ns.min() for record in ran.stages]
    assert all(end < begin for end, begin in zip(ends, begins[1:], strict=False)), "never two at once"


def test_nothing_is_routed_for_a_measurement(ran: Ran) -> None:
    assert [line["wanted"] for line in journal(ran.folder) if line["action"] == "route.set"] == []


def test_the_judge_says_what_v2_costs_v1(ran: Ran) -> None:
    recording = Recording.open(ran.folder)
    evidence = Evidence.of(recording)
    gates = (Gate("response_time.p50", 0.5),)
    found = judge(Evidence.from_tables(
        recording.samples, stages=evidence.stages, gates=gates, planned=evidence.planned, versions=evidence.versions,
        urls=evidence.urls,
    ))  # fmt: skip
    by_stage = {(f.stage, f.metric): f for f in found.findings}
    coupling = by_stage[(1, "coupling.response_time.p50")]
    assert coupling.n_baseline == len(ran.of(0))
    assert coupling.effect is not None
    assert coupling.reason.startswith("for information: response_time p50: v1 takes ")
    last = ran.stages[-1].plan.index
    assert "in turns, once A-B-B-A; low trust" in by_stage[(last, "response_time.p50")].reason


def test_the_verdict_can_be_made_again_from_the_folder(ran: Ran) -> None:
    assert canary("judge", ran.folder).code == 0
    assert ran.done.verdict == json.loads((ran.folder / "verdict.json").read_text())
