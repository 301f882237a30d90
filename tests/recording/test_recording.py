"""Opening recordings: our own folders, and somebody else's samples."""

import dataclasses
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.errors import CanaryError, RecordingError, UsageError
from harness.recording import SCHEMAS, Recording, StreamWriter, gates, seal, stage_records
from harness.types import Gate, Sample, StagePlan, StageRecord
from tests.recording.rows import sample

SAMPLES = SCHEMAS["samples"]
FOREIGN = {"arm": ["baseline", "candidate"], "due_ns": [0, 0], "done_ns": [10, 12], "status": ["ok", "error"]}


def run_folder(folder: Path, meta: dict[str, object] | None = None, rows: int = 4) -> Path:
    (folder / "run.json").write_text(json.dumps({"format": 1, **(meta or {})}))
    with StreamWriter(folder / "samples.arrow", SAMPLES) as writer:
        for number in range(rows):
            writer.append(sample(number))
    return folder


def foreign(folder: Path, **columns: object) -> Path:
    path = folder / "theirs.parquet"
    table = {**FOREIGN, **columns}
    pq.write_table(pa.table({name: values for name, values in table.items() if values is not None}), path)
    return path


def refusal(path: Path, kind: type[CanaryError] = UsageError) -> str:
    with pytest.raises(kind) as caught:
        Recording.open(path)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_running_and_a_sealed_folder_read_the_same(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, {"seed": 7})
    running = Recording.open(folder)
    seal(folder)
    sealed = Recording.open(folder)
    assert running.samples.equals(sealed.samples)
    assert sealed.samples.num_rows == 4
    assert sealed.meta == {"format": 1, "seed": 7}
    assert sealed.folder == folder
    assert sealed.outputs is None


def test_a_run_killed_before_its_first_sample_is_empty(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"format": 1}')
    recording = Recording.open(tmp_path)
    assert recording.samples.num_rows == 0
    assert recording.samples.schema == SAMPLES


def test_a_bare_file_needs_four_columns_and_the_rest_is_unknown(tmp_path: Path) -> None:
    recording = Recording.open(foreign(tmp_path))
    assert recording.samples.schema == SAMPLES
    assert recording.meta == {}
    assert recording.folder == tmp_path
    first = Sample(**recording.samples.to_pylist()[0])
    assert first.arm == "baseline"
    assert first.done_ns == 10
    assert first.first_ns == first.stage == first.pair_id == first.osl == first.worker == -1
    assert first.error == first.version == first.unit == ""


def test_a_bare_file_in_a_folder_without_run_json(tmp_path: Path) -> None:
    foreign(tmp_path).rename(tmp_path / "samples.parquet")
    assert Recording.open(tmp_path).samples.num_rows == 2


def test_text_and_integers_of_any_arrow_form_are_taken(tmp_path: Path) -> None:
    path = foreign(
        tmp_path,
        arm=pa.array(FOREIGN["arm"]).dictionary_encode(),
        status=pa.array(FOREIGN["status"], pa.large_string()),
        done_ns=pa.array([10, 12], pa.uint32()),
        osl=pa.array([8, None], pa.int64()),
        error=pa.array([None, "Unavailable"]),
        stage=pa.nulls(2),
        their_own=pa.array([1.5, 2.5]),
    )
    samples = Recording.open(path).samples
    assert samples.schema == SAMPLES
    assert samples.column("arm").to_pylist() == FOREIGN["arm"]
    assert samples.column("done_ns").to_pylist() == [10, 12]
    assert samples.column("osl").to_pylist() == [8, -1]
    assert samples.column("error").to_pylist() == ["", "Unavailable"]
    assert samples.column("stage").to_pylist() == [-1, -1]


@pytest.mark.parametrize("missing", ["arm", "due_ns", "done_ns", "status"])
def test_a_missing_column_is_named(tmp_path: Path, missing: str) -> None:
    message = refusal(foreign(tmp_path, **{missing: None}))
    assert f"theirs.parquet: column {missing} is missing" in message


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"due_ns": [0.0, 1.5]}, "column due_ns: expected int64, found double"),
        ({"status": [200, 503]}, "column status: expected string, found int64"),
        ({"done_ns": ["10", "12"]}, "column done_ns: expected int64, found string"),
        ({"done_ns": [10, None]}, "column done_ns: 1 rows have no value"),
        ({"osl": [1, 1 << 40]}, "column osl: expected int32"),
        (
            {"arm": ["baseline", "canary"]},
            "column arm: row 1: expected one of stable, baseline, candidate, unknown, found 'canary'",
        ),
        ({"status": ["OK", "ok"]}, "column status: row 0: expected one of ok, error"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, columns: dict[str, object], words: str) -> None:
    assert words in refusal(foreign(tmp_path, **columns))


def test_no_such_path(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none") == f"{tmp_path / 'none'}: no such file or folder"


def test_not_parquet(tmp_path: Path) -> None:
    path = tmp_path / "samples.csv"
    path.write_text("arm,due_ns,done_ns,status\nbaseline,0,1,ok\n")
    assert refusal(path).startswith(f"{path}: is of no known kind, expected a samples.parquet")
    path.write_text("PAR1 and no more")
    assert refusal(path) == f"{path}: is not a whole Parquet file"


def test_a_folder_that_is_no_recording(tmp_path: Path) -> None:
    assert "is not a recording" in refusal(tmp_path)


def test_run_json_that_is_not_json_says_where(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"format": 1,\n oops}')
    assert "run.json:2:2: is not JSON" in refusal(tmp_path, RecordingError)


@pytest.mark.parametrize(
    ("text", "words"),
    [("[]", "expected an object"), ("{}", "format: expected a number"), ('{"format": "x"}', "format")],
)
def test_run_json_of_another_shape(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "run.json").write_text(text)
    assert words in refusal(tmp_path, RecordingError)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"format": 2}')
    assert "format 2; this triton-canary reads up to 1" in refusal(tmp_path)


def test_a_damaged_file_of_a_run_is_a_recording_error(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    seal(folder)
    (folder / "samples.parquet").write_bytes(b"PAR1")
    assert "samples.parquet" in refusal(folder, RecordingError)


def test_stages_and_gates_come_back_from_json(tmp_path: Path) -> None:
    record = StageRecord(StagePlan(0, "paired", "closed", 90.0, 0.5, in_flight=1), 5, end_ns=9, decided_ns=8)
    gate = Gate("errors", margin=0.03, margin_kind="absolute")
    meta = {"stages": [{**dataclasses.asdict(record), "later": 1}], "gates": [dataclasses.asdict(gate)]}
    meta = json.loads(json.dumps(meta))
    assert stage_records(meta) == (record,)
    assert gates(meta) == (gate,)
    assert stage_records({}) == ()
    assert gates({}) == ()


def test_a_plan_of_an_older_run_has_none_of_what_came_later() -> None:
    old = {"index": 0, "mode": "paired", "arrival": "closed", "duration_s": 90.0, "candidate_share": 0.5}
    (record,) = stage_records({"stages": [{"plan": old, "begin_ns": 5}]})
    assert (record.plan.until_decided, record.plan.together, record.plan.periods) == (False, 1, 0)
    new = dataclasses.replace(record, plan=dataclasses.replace(record.plan, until_decided=True, period=2, periods=4))
    assert stage_records(json.loads(json.dumps({"stages": [dataclasses.asdict(new)]}))) == (new,)


@pytest.mark.parametrize(
    ("meta", "words"),
    [
        ({"stages": {}}, "stages: expected a list"),
        ({"stages": [{}]}, "stages.0.plan: expected an object"),
        (
            {"stages": [{"plan": {"index": 0}}]},
            "stages.0.plan: mode, arrival, duration_s, candidate_share is missing",
        ),
        ({"gates": [{"margin": 1}]}, "gates.0: metric is missing"),
    ],
)
def test_damaged_meta_names_the_key(meta: dict[str, object], words: str) -> None:
    with pytest.raises(RecordingError, match=words):
        (stage_records(meta), gates(meta))
