"""Sealing: each step leaves the folder readable."""

import hashlib
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from harness.errors import RecordingError
from harness.recording import SCHEMAS, StreamWriter, changed_files, read_table, seal, sealing
from harness.types import Output
from tests.recording.rows import ids, sample, write_samples

SAMPLES = SCHEMAS["samples"]


ALL = [f"r{i}" for i in range(10)]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_sealed_files_hold_the_same_rows_and_have_their_checksums(tmp_path: Path) -> None:
    write_samples(tmp_path)
    StreamWriter(tmp_path / "readings.arrow", SCHEMAS["readings"]).close()
    before = read_table(tmp_path, "samples")
    sums = seal(tmp_path)
    assert names(tmp_path) == ["readings.parquet", "samples.parquet"]
    assert read_table(tmp_path, "samples").equals(before)
    assert read_table(tmp_path, "readings").num_rows == 0
    assert read_table(tmp_path, "chunks") is None
    content = (tmp_path / "samples.parquet").read_bytes()
    assert sums["samples.parquet"] == hashlib.sha256(content).hexdigest()
    assert set(sums) == {"readings.parquet", "samples.parquet"}


def test_sealing_twice_changes_nothing(tmp_path: Path) -> None:
    write_samples(tmp_path)
    first = seal(tmp_path)
    assert seal(tmp_path) == first
    assert changed_files(tmp_path, first) == ()
    assert ids(tmp_path) == ALL


def test_a_changed_or_removed_file_is_named(tmp_path: Path) -> None:
    write_samples(tmp_path)
    sums = seal(tmp_path)
    (tmp_path / "samples.parquet").write_bytes(b"other")
    assert changed_files(tmp_path, {**sums, "outputs.parquet": "00"}) == (
        "outputs.parquet",
        "samples.parquet",
    )


@pytest.mark.parametrize("step", ["_convert", "fsync", "replace", "unlink"])
def test_a_kill_between_two_steps_loses_nothing(tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    write_samples(tmp_path)
    with monkeypatch.context() as patch:
        target = {"_convert": sealing, "fsync": sealing.os, "replace": Path, "unlink": Path}[step]
        patch.setattr(target, step, killed)
        with pytest.raises(Killed):
            seal(tmp_path)
    assert ids(tmp_path) == ALL
    assert seal(tmp_path).keys() == {"samples.parquet"}
    assert names(tmp_path) == ["samples.parquet"]
    assert ids(tmp_path) == ALL


def test_a_parquet_with_fewer_rows_than_the_stream_is_made_again(tmp_path: Path) -> None:
    write_samples(tmp_path, 3)
    seal(tmp_path)
    write_samples(tmp_path, 10)
    seal(tmp_path)
    assert ids(tmp_path) == ALL
    assert names(tmp_path) == ["samples.parquet"]


def test_a_damaged_parquet_beside_its_stream_is_made_again(tmp_path: Path) -> None:
    write_samples(tmp_path)
    (tmp_path / "samples.parquet").write_bytes(b"PAR1 half")
    seal(tmp_path)
    assert ids(tmp_path) == ALL


def test_a_torn_stream_is_sealed_as_far_as_it_is_whole(tmp_path: Path) -> None:
    write_samples(tmp_path)
    path = tmp_path / "samples.arrow"
    path.write_bytes(path.read_bytes()[:-100])
    assert ids(tmp_path) == ALL[:8]
    seal(tmp_path)
    assert ids(tmp_path) == ALL[:8]


def test_an_empty_stream_file_is_sealed(tmp_path: Path) -> None:
    (tmp_path / "samples.arrow").touch()
    assert ids(tmp_path) == []
    seal(tmp_path)
    assert ids(tmp_path) == []


def test_many_small_batches_become_few_row_groups(tmp_path: Path) -> None:
    with StreamWriter(tmp_path / "samples.arrow", SAMPLES) as writer:
        for number in range(2000):
            writer.append(sample(number))
            if number % 10 == 0:
                writer.flush()
    seal(tmp_path)
    assert pq.read_metadata(tmp_path / "samples.parquet").num_row_groups == 1
    assert ids(tmp_path) == [f"r{i}" for i in range(2000)]


def test_a_full_disk_while_sealing_keeps_the_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    write_samples(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(sealing, "_convert", full)
        with pytest.raises(RecordingError, match=r"samples\.parquet: cannot be written: No space left on device"):
            seal(tmp_path)
    assert names(tmp_path) == ["samples.arrow"]
    assert ids(tmp_path) == ALL


def test_a_damaged_parquet_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "samples.parquet").write_bytes(b"PAR1 half")
    with pytest.raises(RecordingError, match=r"samples\.parquet: is not a whole Parquet file$"):
        read_table(tmp_path, "samples")


def test_outputs_of_an_earlier_release_can_be_read(tmp_path: Path) -> None:
    """Before prompts, likelihoods and vectors were recorded: what is missing is unknown, and nothing else may be."""
    row = Output(0, 1, "baseline", "generated", "text", "", "stop", [1, 2], 1, [1, 2], [-0.5, -0.1], 3, -0.6, 2)
    with StreamWriter(tmp_path / "outputs.arrow", SCHEMAS["outputs"]) as writer:
        writer.append(row)
    seal(tmp_path)
    path = tmp_path / "outputs.parquet"
    whole = pq.read_table(path)
    pq.write_table(whole.select(SCHEMAS["outputs"].names[:11]), path)
    found = read_table(tmp_path, "outputs")
    assert found.schema == SCHEMAS["outputs"]
    later = {"prompt": -1, "logprob_tokens": -1, "tool_calls": "", "shape": "", "bad": -1, "vector": []}
    (read,) = found.to_pylist()
    assert {name: read[name] for name in later} == later
    assert read["text"] == "text"
    pq.write_table(whole.drop_columns(["text"]), path)
    with pytest.raises(RecordingError, match="column text is missing"):
        read_table(tmp_path, "outputs")
