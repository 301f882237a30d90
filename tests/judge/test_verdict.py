"""Whole runs: what the stages come to; that missing data never promotes; the same bytes twice."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.errors import UsageError
from harness.judge import Evidence, judge, judge_stage, schema, verdict_json
from harness.recording import Recording
from harness.types import Gate, StageRecord
from tests.judge.worlds import GATES, OUTPUTS, VERSIONS, Llm, S, bulk, pairs_world, plan, sample, table


def whole_run(seed: int = 0, **more: object) -> Llm:
    return Llm(seed=seed, kl=0.02, **more).paired().split(0.1).split(0.5, 30).split(1.0)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def run() -> Llm:
    return whole_run()


# -------------------------------------------------------------- the four builds


@pytest.mark.parametrize("seed", range(12))
def test_identical_builds_are_promoted(seed: int) -> None:
    verdict = judge(whole_run(seed).evidence())
    assert verdict.verdict == "promote"
    assert verdict.needs == ""


@pytest.mark.parametrize(
    ("fault", "named"),
    [({"tpot_ratio": 1.3}, "tpot"), ({"candidate_errors": 0.3}, "requests fail"), ({"kl": 0.5}, "KL")],
)
def test_faulty_builds_are_rolled_back_by_name(fault: dict[str, float], named: str) -> None:
    for seed in range(6):
        verdict = judge(Llm(seed=seed, **fault).paired().evidence())  # type: ignore[arg-type]
        assert verdict.verdict == "rollback"
        assert named.lower() in verdict.reason.lower()


def test_findings_come_in_order(run: Llm) -> None:
    order = [f.metric for f in judge_stage(run.evidence(), 0).findings]
    assert order[:2] == ["errors", "quality.kl"]
    assert order.index("quality.flips") < order.index("ttft.p50") < order.index("tpot.p50") < order.index("osl")


def test_only_gates_carry_a_margin(run: Llm) -> None:
    gated = {gate.metric for gate in GATES}
    for finding in judge_stage(run.evidence(), 0).findings:
        assert (finding.margin is not None) == (finding.metric in gated)


# -------------------------------------------------------------- what never promotes


def test_an_unfinished_run_is_inconclusive_and_says_so(run: Llm) -> None:
    verdict = judge(run.evidence(finished=False))
    assert verdict.verdict == "inconclusive"
    assert "did not come to its end" in verdict.reason
    assert verdict.needs


def test_a_killed_stage_is_a_look() -> None:
    run = Llm(kl=0.01).paired()
    killed = [StageRecord(run.stages[0].plan, 0)]
    assert judge(run.evidence(stages=killed, finished=False)).verdict == "inconclusive"
    bad = Llm(candidate_errors=0.4).paired()
    assert judge(bad.evidence(stages=[StageRecord(bad.stages[0].plan, 0)], finished=False)).verdict == "rollback"


def test_a_stage_that_was_cut_short_is_a_look() -> None:
    run = Llm().paired(60)
    longer = dataclasses.replace(run.stages[0].plan, duration_s=120.0)
    verdict = judge(run.evidence(stages=[dataclasses.replace(run.stages[0], plan=longer)]))
    assert verdict.verdict == "inconclusive"


def test_a_planned_stage_that_was_not_run_is_inconclusive(run: Llm) -> None:
    verdict = judge(run.evidence(planned=5))
    assert verdict.verdict == "inconclusive"
    assert "Only 4 of 5" in verdict.reason


def test_no_stage_at_all() -> None:
    assert judge(Evidence.from_tables(table([sample("baseline", 1, 0, 1)]).slice(0, 0))).verdict == "inconclusive"
    with pytest.raises(UsageError, match="no such stage"):
        judge_stage(Llm().paired(10).evidence(), 3)


@pytest.mark.parametrize("trial", range(40))
def test_deleting_data_never_turns_a_run_into_a_promotion(trial: int) -> None:
    """A run that deserves a rollback, or none that deserves a promotion once a whole part of it is gone."""
    rng = np.random.default_rng(trial)
    fault = [{"tpot_ratio": 1.3}, {"candidate_errors": 0.3}, {"kl": 0.5}, {}][trial % 4]
    run = Llm(seed=trial, **fault).paired()  # type: ignore[arg-type]
    samples, outputs = list(run.samples), list(run.outputs)
    match trial % 5:
        case 0:
            samples = [s for s in samples if s.arm != "candidate"]
        case 1:
            samples = [s for s in samples if s.arm != "baseline"]
        case 2:
            outputs = [o for o in outputs if not (o.arm == "candidate" and o.kind == "scored")]
        case 3:
            samples = [s._replace(osl=-1, first_ns=-1) if s.arm == "candidate" else s for s in samples]
        case 4:
            keep = rng.random(len(samples)) < rng.uniform(0, 0.5)
            samples = [s for s, k in zip(samples, keep, strict=True) if k]
    evidence = Evidence.from_tables(
        table(samples) if samples else table(run.samples).slice(0, 0),
        table(outputs, OUTPUTS),
        stages=run.stages,
        gates=GATES,
        versions=VERSIONS,
    )
    assert judge(evidence).verdict != "promote"


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_single_requests_are_not_judged(count: int) -> None:
    rows = [sample(arm, i, i * 0.5, 0.1 + i / 100) for i in range(count) for arm in ("baseline", "candidate")]
    whole = table(rows) if rows else table([sample("baseline", 0, 0, 1)]).slice(0, 0)
    record = StageRecord(plan(0, "paired", 5), 0, 6 * S)
    verdict = judge(Evidence.from_tables(whole, stages=[record]))
    assert verdict.verdict == "inconclusive"
    assert verdict.reason


# -------------------------------------------------------------- looks


def test_a_look_never_promotes(run: Llm) -> None:
    for second in (1, 30, 89, 120):
        assert judge_stage(run.evidence(), 0, now_ns=second * S).verdict == "inconclusive"


@pytest.mark.parametrize("fault", [{"tpot_ratio": 1.3}, {"candidate_errors": 0.3}, {"kl": 0.6}])
def test_a_live_decision_is_made_again_from_the_recording(fault: dict[str, float]) -> None:
    run = Llm(seed=7, **fault).paired()  # type: ignore[arg-type]
    open_stage = StageRecord(run.stages[0].plan, 0)
    whole = run.evidence(stages=[open_stage])
    for second in range(5, 90, 5):
        now = second * S
        live = judge_stage(whole.upto(now), 0, now_ns=now)
        if live.verdict == "rollback":
            break
    else:
        pytest.fail("no look rolled back")
    decided = dataclasses.replace(open_stage, end_ns=now, decided_ns=now)
    assert judge_stage(run.evidence(stages=[decided]), 0) == live
    later = dataclasses.replace(decided, end_ns=now + 3 * S)
    assert judge_stage(run.evidence(stages=[later]), 0) == live
    assert judge(run.evidence(stages=[decided])).verdict == "rollback"


def test_evidence_up_to_a_moment_holds_nothing_later(run: Llm) -> None:
    part = run.evidence().upto(30 * S)
    assert part.samples.done_ns.max() <= 30 * S
    answered = {(s.pair_id, s.arm) for s in run.samples if s.done_ns <= 30 * S and s.status == "ok"}
    assert part.outputs
    assert all((a.pair_id, a.arm) in answered for a in part.outputs)
    scored = sum(s.assignment == "score" and s.done_ns <= 30 * S for s in run.samples)
    assert sum(a.kind == "scored" for a in part.outputs) == scored


# -------------------------------------------------------------- the document


def test_the_same_bytes_twice_and_by_the_schema(run: Llm) -> None:
    meta = {
        "scenario": {"name": "fp8-canary"},
        "seed": 1,
        "finished": True,
        "started_utc": "2025-01-01T00:00:00Z",
    }
    one, two = (verdict_json(judge(run.evidence()), meta) for _ in range(2))
    assert one == two
    jsonschema.Draft202012Validator.check_schema(schema())
    document = json.loads(one)
    jsonschema.validate(document, schema())
    assert document["verdict"] == "promote"
    assert document["run"]["scenario"] == "fp8-canary"


@pytest.mark.parametrize(
    "fault", [{"tpot_ratio": 1.5}, {"candidate_errors": 1.0}, {"kl": 9.0}, {"baseline_errors": 0.5}]
)
def test_every_verdict_fits_the_schema(fault: dict[str, float]) -> None:
    run = Llm(**fault).paired(40).split(0.1)  # type: ignore[arg-type]
    document = json.loads(verdict_json(judge(run.evidence()), {}))
    jsonschema.validate(document, schema())
    assert document["exit_code"] in (0, 1, 3)


def test_the_order_of_rows_in_the_file_does_not_matter_to_times(run: Llm) -> None:
    mixed = np.random.default_rng(0).permutation(len(run.samples))
    evidence = Evidence.from_tables(
        table([run.samples[i] for i in mixed]), table(run.outputs, OUTPUTS), stages=run.stages, gates=GATES,
        seed=0, planned=4, versions=VERSIONS,
    )  # fmt: skip
    assert judge_stage(evidence, 0) == judge_stage(run.evidence(seed=0), 0)


def test_sentences_are_sentences(run: Llm) -> None:
    runs = [run, Llm(tpot_ratio=1.3).paired(50), Llm(candidate_errors=0.2).paired(40).split(0.1)]
    for finding in (f for r in runs for f in judge(r.evidence()).findings):
        assert len(finding.reason) > 20
        assert "nan" not in finding.reason.split()
        assert "  " not in finding.reason
        assert "None" not in finding.reason


# -------------------------------------------------------------- files of others, and large ones


def test_a_bare_file_with_four_columns_is_judged(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    due = np.repeat(np.arange(1500) * 20_000_000, 2)
    took = (0.05 * np.exp(rng.normal(0, 0.2, 3000)) * 1e9).astype(np.int64)
    columns = {
        "arm": ["baseline", "candidate"] * 1500,
        "due_ns": due,
        "done_ns": due + took,
        "status": ["ok"] * 3000,
    }
    path = tmp_path / "samples.parquet"
    pq.write_table(pa.table(columns), path)
    verdict = judge(Evidence.of(Recording.open(path)))
    assert verdict.verdict == "promote"
    kinds = {f.metric: f.kind for f in verdict.findings if f.margin is not None}
    assert kinds["response_time.p50"] == "comparison"
    assert "response_time.p99" in kinds


def test_a_bare_file_of_unequal_arms_is_not_compared(tmp_path: Path) -> None:
    n = 1000
    arms = ["candidate" if i % 10 == 0 else "baseline" for i in range(n)]
    due = np.arange(n) * 20_000_000
    path = tmp_path / "samples.parquet"
    pq.write_table(pa.table({"arm": arms, "due_ns": due, "done_ns": due + 5_000_000, "status": ["ok"] * n}), path)
    verdict = judge(Evidence.of(Recording.open(path)))
    assert verdict.verdict == "inconclusive"
    assert all(f.kind != "comparison" for f in verdict.findings)


def test_a_folder_of_a_run_is_judged(tmp_path: Path, run: Llm) -> None:
    stages = [
        {
            "plan": dataclasses.asdict(r.plan),
            "begin_ns": r.begin_ns,
            "end_ns": r.end_ns,
            "decided_ns": r.decided_ns,
        }
        for r in run.stages
    ]
    meta = {
        "format": 1, "seed": 5, "finished": True, "stages": stages,
        "scenario": {"name": "x", "stages": [{}, {}, {}, {}]},
        "gates": [dataclasses.asdict(gate) for gate in GATES],
        "arms": {"baseline": {"version": 1}, "candidate": {"version": 2}},
    }  # fmt: skip
    (tmp_path / "run.json").write_text(json.dumps(meta))
    pq.write_table(table(run.samples), tmp_path / "samples.parquet")
    pq.write_table(table(run.outputs, OUTPUTS), tmp_path / "outputs.parquet")
    recording = Recording.open(tmp_path)
    evidence = Evidence.of(recording)
    assert (evidence.seed, evidence.planned, evidence.names) == (5, 4, ("v1", "v2"))
    assert judge(evidence).verdict == "promote"
    # A sweep is one entry of the scenario and several stages: the run says how many.
    more = dataclasses.replace(recording, meta=meta | {"planned": 5})
    assert judge(Evidence.of(more)).reason == "Only 4 of 5 planned stages were run"
    assert verdict_json(judge(evidence), meta) == verdict_json(judge(Evidence.of(Recording.open(tmp_path))), meta)


def test_default_gates_are_chosen_by_what_was_seen() -> None:
    plain = {f.metric for f in judge(pairs_world(1)).findings if f.margin is not None}
    assert plain == {"errors", "response_time.p50", "response_time.p90"}
    tokens = {f.metric for f in judge(Llm(gates=()).paired().evidence()).findings if f.margin is not None}
    assert tokens == {"errors", "ttft.p50", "tpot.p50"}


def test_a_million_samples_are_judged_in_one_go() -> None:
    n = 500_000
    rng = np.random.default_rng(0)
    due = np.arange(n) / 5000
    arms = [bulk(arm, due, 0.01 * np.exp(rng.normal(0, 0.3, n))) for arm in ("baseline", "candidate")]
    record = StageRecord(plan(0, "paired", n / 5000, rate=5000.0), 0, round((n / 5000 + 1) * S))
    gates = [Gate("errors"), Gate("response_time.p50"), Gate("response_time.p99")]
    evidence = Evidence.from_tables(pa.concat_tables(arms), stages=[record], gates=gates)
    assert judge(evidence).verdict == "promote"
