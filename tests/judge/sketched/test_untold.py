"""What counts cannot tell is never a pass; what is wrong with a measurement is found in them, too."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from harness.errors import UsageError
from harness.judge import Evidence, evidence_of, judge, judge_stage
from harness.recording import Recording
from harness.recording.schema import SAMPLES
from harness.types import Finding, Gate, StagePlan, StageRecord, Verdict
from tests.judge.sketched.worlds import World
from tests.judge.worlds import S

P50 = (Gate("response_time.p50", margin=0.15),)


def finding(verdict: Verdict, metric: str) -> Finding:
    return next(f for f in verdict.findings if f.metric == metric)


def with_stages(world: World, *stages: StageRecord, **more: object) -> Recording:
    """The world's requests under another plan."""
    recording = world.recording()
    shown = [{"plan": _plain(r.plan), "begin_ns": r.begin_ns, "end_ns": r.end_ns} for r in stages]
    recording = replace(recording, meta={**recording.meta, "stages": shown, "planned": len(stages), **more})
    return world.as_sketches(recording, stages)


def _plain(plan: StagePlan) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(plan)


@pytest.mark.parametrize(
    ("gate", "why"),
    [
        (Gate("goodput", margin=0.1, within={"response_time": 0.5}), "whether one request keeps several limits"),
        (Gate("goodput", limit=0.9, within={"response_time": 0.5}), "whether one request keeps several limits"),
        (Gate("energy", margin=0.1), "energy is set against what was answered"),
        (Gate("icl.p50", margin=0.1), "the times of chunks were not kept"),
        (Gate("memory.peak", margin=0.1), "no memory was read in this stage"),
        (Gate("throughput_per_gpu", margin=0.1), "no GPU gave readings"),
        (Gate("quality.kl", limit=0.05), "no answer was scored"),
    ],
)
def test_a_gate_that_counts_cannot_tell_has_no_data(gate: Gate, why: str) -> None:
    verdict = judge(evidence_of(World(gates=(gate,)).as_sketches()))
    assert verdict.verdict == "inconclusive"
    assert finding(verdict, gate.metric).outcome == "no data"
    assert why in finding(verdict, gate.metric).reason


def test_the_company_of_a_watched_stage_is_not_known() -> None:
    """A canary's split stages: errors are judged, objectives are not."""
    world = World(seed=1, seconds=150, gates=(Gate("errors"), *P50))
    first = StageRecord(replace(world.stage, duration_s=75.0), 0, end_ns=75 * S)
    split = StagePlan(1, "split", "poisson", 75.0, 0.5, rate=2 * world.rate, baseline_share=0.5)
    second = StageRecord(split, 75 * S, end_ns=152 * S)
    recording = world.recording()
    later = np.asarray(recording.samples["due_ns"].to_numpy() >= 75 * S, np.int32)
    samples = recording.samples.set_column(1, "stage", pa.array(later))
    recording = replace(
        recording,
        samples=samples,
        meta={
            **recording.meta,
            "planned": 2,
            "stages": [{"plan": _plain(r.plan), "begin_ns": r.begin_ns, "end_ns": r.end_ns} for r in (first, second)],
        },
    )
    assert judge(Evidence.of(recording)).verdict == "promote"
    verdict = judge(evidence_of(world.as_sketches(recording, (first, second))))
    assert verdict.verdict == "inconclusive"
    assert verdict.stages[0].verdict == "promote"
    outcomes = {f.metric: (f.outcome, f.reason) for f in verdict.stages[1].findings}
    assert outcomes["errors"][0] == "pass"
    assert outcomes["response_time.p50"][0] == "no data"
    assert "met no more company than at equal load" in outcomes["response_time.p50"][1]


def test_a_baseline_alone_before_is_not_compared_with() -> None:
    world = World(seed=2, gates=P50)
    alone = StageRecord(StagePlan(0, "split", "poisson", 60.0, 0.0, rate=60.0, purpose="alone"), -60 * S, end_ns=0)
    beside = StageRecord(replace(world.stage, index=1), 0, end_ns=round((world.seconds + 2) * S))
    recording = world.recording()
    early = recording.samples.filter(pc.equal(recording.samples["arm"], "baseline"))
    early = early.set_column(6, "due_ns", pc.subtract(early["due_ns"], 100 * S))
    early = early.set_column(7, "sent_ns", pc.subtract(early["sent_ns"], 100 * S))
    early = early.set_column(9, "done_ns", pc.subtract(early["done_ns"], 100 * S))
    moved = recording.samples.set_column(1, "stage", pa.array(np.ones(recording.rows, np.int32)))
    recording = replace(
        recording,
        samples=pa.concat_tables([early.cast(SAMPLES), moved]),
        meta={
            **recording.meta,
            "stages": [{"plan": _plain(r.plan), "begin_ns": r.begin_ns, "end_ns": r.end_ns} for r in (alone, beside)],
        },
    )
    stage = judge_stage(evidence_of(world.as_sketches(recording, (alone, beside))), 1)
    assert stage.verdict == "inconclusive"
    assert "what the baseline takes alone is compared by blocks of its own" in stage.reason


def test_arms_in_turns_are_not_compared() -> None:
    world = World(seed=3, gates=(Gate("errors"), *P50))
    period = replace(world.stage, mode="sequential", period=1, periods=4, candidate_share=0.5)
    verdict = judge(evidence_of(with_stages(world, StageRecord(period, 0, end_ns=92 * S))))
    assert verdict.verdict == "inconclusive"
    assert "period by period" in finding(verdict, "response_time.p50").reason


def test_a_short_stage_cannot_be_cut_finer() -> None:
    world = World(seed=4, seconds=45, gates=P50)
    assert judge(Evidence.of(world.recording())).verdict == "promote"
    found = finding(judge(evidence_of(world.as_sketches())), "response_time.p50")
    assert found.outcome == "inconclusive"
    assert "cannot be judged from counts: they are kept by 5 s, and it takes 12 blocks" in found.reason


def test_too_few_requests_are_said_to_be_so() -> None:
    world = World(seed=5, seconds=75, rate=0.5, gates=P50)
    found = finding(judge(evidence_of(world.as_sketches())), "response_time.p50")
    assert found.outcome == "inconclusive"
    assert "needs at least 60 pairs, there are" in found.reason


def test_no_sketch_of_a_moment() -> None:
    evidence = evidence_of(World().as_sketches())
    with pytest.raises(UsageError, match="tells nothing of a moment within a stage"):
        judge_stage(evidence, 0, now_ns=10 * S)


def change(table: pa.Table, **columns: object) -> pa.Table:
    for name, values in columns.items():
        at = SAMPLES.get_field_index(name)
        table = table.set_column(at, name, pa.array(values, SAMPLES.field(name).type))
    return table


def late(table: pa.Table) -> pa.Table:
    due, sent, done = (table[name].to_numpy() for name in ("due_ns", "sent_ns", "done_ns"))
    lag = np.where(np.arange(len(due)) % 5 == 0, 50_000_000, 0)
    return change(table, sent_ns=sent + lag, done_ns=done + lag)


def another_version(table: pa.Table) -> pa.Table:
    versions = np.array(table["version"].to_pylist(), object)
    versions[np.flatnonzero(versions == "2")[::10]] = "1"
    return change(table, version=versions)


def torn(table: pa.Table) -> pa.Table:
    """An eighth of the candidate's requests is missing."""
    second = np.array(table["arm"].to_pylist()) == "candidate"
    return table.filter(pa.array(~(second & (table["pair_id"].to_numpy() % 8 == 0))))


def backwards(table: pa.Table) -> pa.Table:
    done = table["done_ns"].to_numpy().copy()
    done[::100] = table["due_ns"].to_numpy()[::100] - 7
    return change(table, done_ns=done)


def overloaded(table: pa.Table) -> pa.Table:
    """Both servers get further behind, by a fifth of the time."""
    first, done, due = (table[name].to_numpy() for name in ("first_ns", "done_ns", "due_ns"))
    behind = due // 5
    return change(table, first_ns=np.where(first < 0, -1, first + behind), done_ns=done + behind)


def halved(table: pa.Table) -> pa.Table:
    """The generator sent nothing in the second half."""
    return table.filter(pc.less(table["due_ns"], 60 * S))


def drifting(table: pa.Table) -> pa.Table:
    """The candidate gets slower and slower."""
    second = np.array(table["arm"].to_pylist()) == "candidate"
    sent, done = table["sent_ns"].to_numpy(), table["done_ns"].to_numpy()
    grown = 1 + np.where(second, table["due_ns"].to_numpy() / (120 * S) * 0.8, 0)
    return change(table, done_ns=sent + ((done - sent) * grown).astype(np.int64))


def out_of_sockets(table: pa.Table) -> pa.Table:
    ok = np.arange(table.num_rows) % 40 != 0
    status, error = (np.array(table[name].to_pylist(), object) for name in ("status", "error"))
    return change(
        table, status=np.where(ok, status, "cancelled"), error=np.where(ok, error, "generator out of sockets")
    )


@pytest.mark.parametrize(
    ("spoil", "metric"),
    [
        (late, "validity.lag"),
        (another_version, "validity.version"),
        (torn, "validity.pairs"),
        (backwards, "validity.clock"),
        (overloaded, "validity.saturation"),
        (halved, "validity.rate"),
        (drifting, "validity.steady"),
        (out_of_sockets, "validity.generator"),
    ],
)
def test_a_broken_measurement_is_found(spoil: Any, metric: str) -> None:
    world = World(seed=6, seconds=120, gates=P50)
    recording = world.recording()
    recording = replace(recording, samples=spoil(recording.samples))
    exact = judge(Evidence.of(recording))
    found = judge(evidence_of(world.as_sketches(recording)))
    assert found.verdict == exact.verdict
    assert finding(exact, metric).outcome == finding(found, metric).outcome
    assert found.verdict == "inconclusive" or spoil is drifting


def test_the_share_of_a_split_is_held_against_its_plan() -> None:
    split = StagePlan(0, "split", "poisson", 90.0, 0.3, rate=120.0)
    world = World(seed=7, mode="interleaved", gates=(Gate("errors"),))
    verdict = judge(evidence_of(with_stages(world, StageRecord(split, 0, end_ns=92 * S))))
    assert verdict.verdict == "inconclusive"
    assert "planned were 30.0 %" in finding(verdict, "validity.share").reason
