"""Two runs side by side: whose requests, from when, and what both have in common."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from harness.errors import UsageError
from harness.recording import Recording, stage_records
from harness.recording.imported import Imported, imported
from tests.recording.imports import BEGIN_NS, DATA, aiperf

S = 1_000_000_000


def known(recording: Recording) -> Imported:
    found = imported(recording.meta)
    assert found is not None
    return found


def of(recording: Recording, arm: str) -> pa.Table:
    return recording.samples.filter(pc.equal(recording.samples["arm"], arm))


def begin_and_end(table: pa.Table) -> tuple[int, int]:
    return pc.min(table["sent_ns"]).as_py(), pc.max(table["sent_ns"]).as_py()


def test_one_after_the_other_each_counts_from_its_own_begin(tmp_path: Path) -> None:
    first = aiperf(tmp_path / "a.jsonl", 100)
    second = aiperf(tmp_path / "b.jsonl", 100, begin_ns=BEGIN_NS + 3600 * S, seed=2)
    recording = Recording.of_runs(first, second)
    assert not known(recording).together
    assert [begin_and_end(of(recording, arm))[0] for arm in ("baseline", "candidate")] == [0, 0]
    raw = json.loads(first.read_text().splitlines()[-1])["metadata"]
    last = of(recording, "baseline").to_pylist()[-1]
    assert last["sent_ns"] == raw["request_start_ns"] - BEGIN_NS
    assert last["done_ns"] - last["sent_ns"] == raw["request_end_ns"] - raw["request_start_ns"]
    assert set(recording.samples["due_ns"].to_pylist()) == {-1}


def test_at_the_same_time_the_clock_is_kept_and_the_rest_left_out(tmp_path: Path) -> None:
    first = aiperf(tmp_path / "a.jsonl", 200)
    second = aiperf(tmp_path / "b.jsonl", 100, begin_ns=BEGIN_NS + S, seed=2)
    recording = Recording.of_runs(first, second)
    assert known(recording).together
    assert begin_and_end(of(recording, "candidate"))[0] == 0
    sent = np.array([json.loads(line)["metadata"]["request_start_ns"] for line in first.read_text().splitlines()])
    end = begin_and_end(of(recording, "candidate"))[1]
    inside = sent[(sent >= BEGIN_NS + S) & (sent <= BEGIN_NS + S + end)] - BEGIN_NS - S
    assert of(recording, "baseline")["sent_ns"].to_pylist() == inside.tolist()
    assert known(recording).arms["baseline"].left_out == 200 - len(inside)


def test_of_the_longer_run_the_rest_is_left_out_and_its_failures_are_told(tmp_path: Path) -> None:
    first = aiperf(tmp_path / "a.jsonl", 100)
    second = aiperf(
        tmp_path / "b.jsonl", 300, begin_ns=BEGIN_NS + 3600 * S,
        change=lambda number, entry: entry.update(error={"code": 500, "type": "E"} if number > 250 else None),
    )  # fmt: skip
    recording = Recording.of_runs(first, second)
    arm = known(recording).arms["candidate"]
    assert of(recording, "candidate").num_rows + arm.left_out == 300
    assert 190 < arm.left_out < 210
    assert arm.left_out_failed == 49
    assert set(of(recording, "candidate")["status"].to_pylist()) == {"ok"}


def test_levels_of_load_are_stages_one_behind_the_other(tmp_path: Path) -> None:
    levels = DATA / "perf_analyzer_levels.json"
    other = Path(shutil.copy(levels, tmp_path / "b.json"))
    records = stage_records(Recording.of_runs(levels, other).meta)
    assert [record.plan.index for record in records] == [0, 1]
    assert [record.plan.series for record in records] == [2, 2]
    assert records[0].end_ns is not None
    assert records[1].begin_ns > records[0].end_ns


def test_a_stage_has_neither_rate_nor_slots(tmp_path: Path) -> None:
    recording = Recording.of_runs(aiperf(tmp_path / "a.jsonl", 60), aiperf(tmp_path / "b.jsonl", 40, slower=2))
    (record,) = stage_records(recording.meta)
    assert (record.plan.mode, record.plan.arrival, record.plan.rate, record.plan.in_flight) == (
        "interleaved", "closed", None, None,
    )  # fmt: skip
    share = of(recording, "candidate").num_rows / recording.samples.num_rows
    assert record.plan.candidate_share == pytest.approx(share)


def test_one_file_with_both_arms() -> None:
    recording = Recording.open(DATA / "k6_both.csv")
    assert set(recording.samples["arm"].to_pylist()) == {"baseline", "candidate"}
    assert {arm.file for arm in known(recording).arms.values()} == {"k6_both.csv"}


def test_requests_of_neither_arm_are_told(tmp_path: Path) -> None:
    text = (DATA / "k6_both.csv").read_text()
    others = "".join(line for line in text.splitlines(True) if ",baseline," in line).replace("baseline", "setup")
    path = tmp_path / "k6.csv"
    path.write_text(text + others)
    recording = Recording.open(path)
    assert "6 of its requests name neither arm and are left out" in known(recording).arms["baseline"].notes
    assert recording.samples.num_rows == Recording.open(DATA / "k6_both.csv").samples.num_rows


def test_of_a_file_with_both_arms_the_wanted_one_is_taken(tmp_path: Path) -> None:
    recording = Recording.of_runs(DATA / "k6_both.csv", DATA / "locust_requests.csv")
    assert set(of(recording, "baseline")["status"].to_pylist()) == {"ok"}
    whole = Recording.of_runs(DATA / "k6_both.csv", DATA / "k6_both.csv")
    assert whole.samples.equals(Recording.open(DATA / "k6_both.csv").samples)


def test_a_samples_parquet_counts_whole_and_keeps_its_due_times(tmp_path: Path) -> None:
    due = np.arange(100) * 50_000_000
    ours = {
        "arm": ["candidate"] * 100,
        "due_ns": due,
        "sent_ns": due,
        "done_ns": due + 40_000_000,
        "status": ["ok"] * 100,
    }
    pq.write_table(pa.table(ours), tmp_path / "samples.parquet")
    recording = Recording.of_runs(tmp_path / "samples.parquet", aiperf(tmp_path / "b.jsonl", 100))
    assert not known(recording).together, "a run's own clock tells nothing of another's"
    assert pc.min(of(recording, "baseline")["due_ns"]).as_py() == 0
    assert pc.max(of(recording, "candidate")["due_ns"]).as_py() == -1


def test_one_run_alone_and_a_run_with_itself_are_refused(tmp_path: Path) -> None:
    path = aiperf(tmp_path / "a.jsonl", 10)
    with pytest.raises(UsageError, match=r"a\.jsonl: AIPerf: nothing in it tells two arms apart.*--baseline"):
        Recording.open(path)
    with pytest.raises(UsageError, match="given for both arms"):
        Recording.of_runs(path, path)
    with pytest.raises(UsageError, match="no such file"):
        Recording.of_runs(path, tmp_path / "nowhere")
