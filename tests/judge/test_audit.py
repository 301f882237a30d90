"""The self-audit is in every verdict, follows the schema, and costs little."""

from __future__ import annotations

import json
import time
from pathlib import Path

import jsonschema
import numpy as np
import pyarrow as pa

from harness.judge import Evidence, judge, judge_stage, schema, verdict_json
from harness.judge.evidence import LoadWorker
from harness.recording import Recording
from harness.recording.schema import READINGS
from harness.types import Audit, StageRecord
from tests.judge.measured import Stage
from tests.judge.worlds import S, bulk, pairs_world, plan, table


def full() -> Stage:
    stage = Stage(workers=2)
    for worker in range(2):
        for metric, value, unit in (("cpu", 0.2, "ratio"), ("stall_max", 0.002, "s"), ("unsent", 0, "1")):
            stage.read("generator", f"worker{worker}", metric, value, unit)
    stage.read("host", "host", "cpu.utilization", 0.5, "ratio")
    stage.read("host", "host", "cpu.steal", 0.001, "ratio")
    for device in ("m/1", "m/2"):
        stage.read("triton", device, "cache.hits", [float(n) for n in range(60)])
        stage.read("triton", device, "cache.misses", [3.0 * n for n in range(60)])
    return stage


def test_verdict_json_has_the_audit_of_every_stage() -> None:
    document = json.loads(verdict_json(judge(full().evidence()), {}))
    jsonschema.validate(document, schema())
    audit = document["stages"][0]["audit"]
    assert (audit["planned"], audit["sent"], audit["unsent"]) == (3000, 3000, 0)
    assert audit["caches"] == [{"cache": "response", "baseline": 0.25, "candidate": 0.25}]
    assert [(worker["worker"], worker["requests"], worker["cpu"]) for worker in audit["workers"]] == [
        (0, 3000, 0.2),
        (1, 3000, 0.2),
    ]
    unknown = {name for name, value in audit.items() if value is None}
    assert unknown == {"in_flight_planned", "clock_error_s"}
    assert set(audit) == set(Audit.__slots__)


def test_a_recording_that_says_nothing_of_its_generator_is_audited_as_far_as_its_samples_go() -> None:
    verdict = judge(pairs_world(0))
    audit = verdict.stages[0].audit
    assert audit is not None
    assert (audit.lag_p99_s, audit.cpu, audit.steal, audit.sent) == (0.0, None, None, 150)
    jsonschema.validate(json.loads(verdict_json(verdict, {})), schema())


def test_an_empty_stage_is_audited() -> None:
    stage = Stage()
    stage.kept[:] = False
    audit = judge_stage(stage.evidence(), 0).audit
    assert audit is not None
    assert (audit.sent, audit.lag_p99_s, audit.workers) == (0, None, ())


def test_a_bare_file_of_pairs_is_not_held_against_twice_its_rate() -> None:
    rng = np.random.default_rng(0)
    due = np.sort(rng.uniform(0, 60, 600))
    arms = [bulk(arm, due, np.exp(rng.normal(-2, 0.1, 600))) for arm in ("baseline", "candidate")]
    evidence = Evidence.from_tables(pa.concat_tables(arms))
    assert evidence.stages[0].plan.rate is not None
    assert round(evidence.stages[0].plan.rate) == 10
    assert not [f for f in judge(evidence).findings if f.kind == "validity"]


def test_run_json_names_devices_and_lost_workers(tmp_path: Path) -> None:
    meta = {
        "finished": True,
        "arms": {"baseline": {"model": "m", "version": 1}, "candidate": {"model": "m", "version": 2}},
        "workers": [
            {"worker": 0, "host": "a", "pid": 12},
            {
                "worker": 1,
                "host": "b",
                "lost_ns": 5 * S,
                "reason": "was silent",
                "done": [0, "odd"],
                "damaged": ["x"],
                "clock_error_s": 0.1,
            },
            {"host": "nobody"},
            "odd",
        ],
    }
    stage = Stage()
    recording = Recording(tmp_path, meta, stage.table(), None, READINGS.empty_table(), None)
    evidence = Evidence.of(recording)
    assert evidence.devices == {"baseline": "m/1", "candidate": "m/2"}
    assert evidence.workers == (LoadWorker(0, "a"), LoadWorker(1, "b", 5 * S, "was silent", (0,), ("x",), 0.1))
    assert Evidence.of(Recording(tmp_path, {}, stage.table(), None, None, None)).workers == ()


def test_readings_of_a_long_run_are_searched_once_a_metric() -> None:
    """A million requests, and an hour of readings of 16 workers: a few seconds, however loaded this machine is."""
    rng = np.random.default_rng(0)
    due = np.sort(rng.uniform(0, 3600, 500_000))
    arms = [bulk(arm, due, np.exp(rng.normal(-3, 0.2, len(due)))) for arm in ("baseline", "candidate")]
    rows = [
        (second * S, "generator", f"worker{worker}", metric, 0.1, "1")
        for second in range(0, 3600, 5)
        for worker in range(16)
        for metric in ("cpu", "stall_max", "unsent", "in_flight", "backlog")
    ]
    record = StageRecord(plan(0, "paired", 3600.0, rate=500_000 / 3600), 0, 3601 * S)
    evidence = Evidence.from_tables(pa.concat_tables(arms), stages=[record], readings=table(rows, READINGS))
    begin = time.process_time()
    verdict = judge_stage(evidence, 0)
    assert time.process_time() - begin < 60
    assert verdict.audit is not None
    assert verdict.audit.cpu is not None


def test_two_judgements_of_one_recording_are_the_same_bytes() -> None:
    first, second = (verdict_json(judge(full().evidence()), {}) for _ in range(2))
    assert first == second


def test_a_closed_loop_has_slots_in_place_of_a_rate() -> None:
    stage = Stage(in_flight=8, rate=50, took=0.15)
    audit = judge_stage(stage.evidence(), 0).audit
    assert audit is not None
    assert (audit.planned, audit.in_flight_planned) == (None, 8)
