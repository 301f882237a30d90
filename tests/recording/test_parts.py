"""Several writers of one file: their parts are one table in a fixed order, whatever is killed or comes late."""

import tracemalloc
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from harness.recording import (
    SCHEMAS,
    PartsTail,
    Recording,
    StreamWriter,
    changed_files,
    read_table,
    seal,
    sealing,
    stream_parts,
    stream_path,
)
from harness.types import Reading
from tests.recording.rows import ids, sample, write_samples

# The order of their parts is not that of their names, nor of their times.
PARTS = {None: (0, 3), 0: (100, 5), 2: (20, 7), 10: (50, 6)}
ALL = [f"r{number}" for first, rows in PARTS.values() for number in range(first, first + rows)]


class Killed(BaseException):
    pass


def write_parts(folder: Path) -> None:
    for worker, (first, rows) in reversed(PARTS.items()):
        write_samples(folder, rows, first=first, worker=worker)


def test_the_parts_in_their_order_and_nothing_else(tmp_path: Path) -> None:
    write_parts(tmp_path)
    for other in ("samples-01.arrow", "samples-x.arrow", "samples-1.arrow.tmp", "outputs-1.arrow", "resamples-1.arrow"):
        (tmp_path / other).touch()
    assert stream_parts(tmp_path, "samples") == [stream_path(tmp_path, "samples", worker) for worker in PARTS]
    assert [path.name for path in stream_parts(tmp_path, "outputs")] == ["outputs-1.arrow"]


def test_sealed_or_not_the_rows_are_the_same_and_the_bytes_too(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        write_parts(folder)
    assert ids(one) == ALL
    sums = seal(one)
    assert [path.name for path in one.iterdir()] == ["samples.parquet"]
    assert ids(one) == ALL
    assert seal(one) == sums == seal(other)
    assert (one / "samples.parquet").read_bytes() == (other / "samples.parquet").read_bytes()


def test_the_readings_of_the_parent_and_of_its_workers_are_one_table(tmp_path: Path) -> None:
    for worker, metric in ((1, "stalls"), (None, "memory"), (0, "cpu")):
        with StreamWriter(stream_path(tmp_path, "readings", worker), SCHEMAS["readings"]) as writer:
            writer.append(Reading(5, "generator", f"worker{worker}", metric, 1.0, "1"))
    seal(tmp_path)
    table = read_table(tmp_path, "readings")
    assert table is not None
    assert table["metric"].to_pylist() == ["memory", "cpu", "stalls"]


def test_a_recording_of_workers_only_opens(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"format": 1}')
    write_samples(tmp_path, 4, worker=0)
    write_samples(tmp_path, 4, worker=1, first=50)
    assert Recording.open(tmp_path).samples["worker"].to_pylist() == [0] * 4 + [1] * 4


@pytest.mark.parametrize("step", ["_convert", "fsync", "replace", *range(len(PARTS))])
def test_a_kill_between_any_two_steps_loses_nothing(
    tmp_path: Path, step: str | int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number is a kill before that unlink."""
    write_parts(tmp_path)
    left = step if isinstance(step, int) else 0
    unlink = Path.unlink

    def killed(path: Path, *_: object, **__: object) -> None:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        unlink(path)

    with monkeypatch.context() as patch:
        targets = {"_convert": (sealing, "_convert"), "fsync": (sealing.os, "fsync"), "replace": (Path, "replace")}
        target, name = targets.get(str(step), (Path, "unlink"))
        patch.setattr(target, name, killed)
        with pytest.raises(Killed):
            seal(tmp_path)
    assert ids(tmp_path) == ALL
    again = seal(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["samples.parquet"]
    assert ids(tmp_path) == ALL
    assert changed_files(tmp_path, again) == ()


@pytest.mark.parametrize("late", list(PARTS))
def test_a_part_that_comes_after_the_sealing_takes_its_place(tmp_path: Path, late: int | None) -> None:
    """As from another host. It is whole only in the folder; the others are whole only in the Parquet file."""
    whole = tmp_path / "whole"
    whole.mkdir()
    write_parts(whole)
    seal(whole)
    for worker, (first, rows) in PARTS.items():
        if worker != late:
            write_samples(tmp_path, rows, first=first, worker=worker)
    seal(tmp_path)
    first, rows = PARTS[late]
    write_samples(tmp_path, rows, first=first, worker=late)
    assert ids(tmp_path) == ALL
    seal(tmp_path)
    assert ids(tmp_path) == ALL
    assert (tmp_path / "samples.parquet").read_bytes() == (whole / "samples.parquet").read_bytes()


def test_a_part_that_has_grown_replaces_what_was_sealed_of_it(tmp_path: Path) -> None:
    write_samples(tmp_path, 4, worker=0)
    write_samples(tmp_path, 2, worker=1, first=50)
    seal(tmp_path)
    write_samples(tmp_path, 6, worker=0)
    write_samples(tmp_path, 1, worker=1, first=50)  # has lost a row since: the sealed one has it
    seal(tmp_path)
    assert ids(tmp_path) == [*(f"r{number}" for number in range(6)), "r50", "r51"]


def test_a_worker_joins_a_run_whose_file_was_sealed_by_an_earlier_release(tmp_path: Path) -> None:
    """It says nothing of parts."""
    write_samples(tmp_path, 4)
    seal(tmp_path)
    path = tmp_path / "samples.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    write_samples(tmp_path, 2, worker=3, first=50)
    assert ids(tmp_path) == ["r0", "r1", "r2", "r3", "r50", "r51"]
    seal(tmp_path)
    assert ids(tmp_path) == ["r0", "r1", "r2", "r3", "r50", "r51"]


def test_a_torn_part_costs_the_others_nothing(tmp_path: Path) -> None:
    write_parts(tmp_path)
    path = stream_path(tmp_path, "samples", 0)
    path.write_bytes(path.read_bytes()[:-100])
    kept = [row for row in ALL if row not in ("r104",)]
    assert ids(tmp_path) == kept
    seal(tmp_path)
    assert ids(tmp_path) == kept


def test_many_rows_from_many_parts_are_cut_out_of_a_sealed_file_again(tmp_path: Path) -> None:
    """More than one row group, with parts that end within one."""
    rows = {0: 70_000, 1: 3, 2: 140_000}
    for worker, count in rows.items():
        with StreamWriter(stream_path(tmp_path, "chunks", worker), SCHEMAS["chunks"]) as writer:
            for number in range(count):
                writer.append((number, "baseline", worker))
                if number % 30_000 == 0:
                    writer.flush()
        seal(tmp_path)
    table = read_table(tmp_path, "chunks")
    assert table is not None
    assert table["pair_id"].to_pylist() == [number for count in rows.values() for number in range(count)]
    assert table["t_ns"].to_pylist() == [worker for worker, count in rows.items() for _ in range(count)]


def test_a_tail_follows_parts_that_appear_later_and_ends_with_the_table_of_the_run(tmp_path: Path) -> None:
    tail = PartsTail(tmp_path, "samples", ("request_id", "worker"))
    assert tail.poll().num_rows == 0
    assert tail.table.column_names == ["request_id", "worker"]
    writers = {}
    for number, worker in enumerate((3, 1, 3, 1, 0, 3)):
        if worker not in writers:
            writers[worker] = StreamWriter(stream_path(tmp_path, "samples", worker), SCHEMAS["samples"])
        writers[worker].append(sample(number, worker=worker))
        writers[worker].flush()
        assert tail.poll()["request_id"].to_pylist() == [f"r{number}"]
    assert tail.table["worker"].to_pylist() == [0, 1, 1, 3, 3, 3]
    for writer in writers.values():
        writer.close()
    whole = read_table(tmp_path, "samples")
    assert whole is not None
    assert tail.table.equals(whole.select(["request_id", "worker"]))
    seal(tmp_path)
    assert tail.poll().num_rows == 0
    assert tail.table.equals(whole.select(["request_id", "worker"]))
    tail.close()
    assert tail.table.num_rows == 0


def test_a_tail_lets_go_of_what_it_does_not_keep(tmp_path: Path) -> None:
    """Polls read bytes with all columns; what is kept of them moves into memory of its own (Arrow's, not traced)."""
    rows, step = 140_000, 10_000
    tail = PartsTail(tmp_path, "chunks", ("t_ns",))
    with StreamWriter(stream_path(tmp_path, "chunks", 0), SCHEMAS["chunks"]) as writer:
        tracemalloc.start()
        for first in range(0, rows, step):
            for number in range(first, first + step):
                writer.append((number, "candidate", number))
            writer.flush()
            tail.poll()
        left, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert left < stream_path(tmp_path, "chunks", 0).stat().st_size / 4
    assert tail.table["t_ns"].to_pylist() == list(range(rows))
    tail.close()
