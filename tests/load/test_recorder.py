"""The recorder: all that it was told is in the files of its worker, once, whatever the disk does in between."""

import os
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from harness.errors import RecordingError
from harness.load.recorder import Recorder
from harness.recording import SCHEMAS, StreamWriter, histogram, merge, read_table, seal, sketch
from harness.types import Output, Reading, StagePlan, StageRecord
from tests.recording.rows import sample

PLAN = StagePlan(0, "paired", "poisson", 60.0, 0.5, rate=10.0)
WRITTEN = [name for name in SCHEMAS if name != "scores"]  # scorers run where the run is, not where the load is
OUTPUT = Output(0, 0, "baseline", "generated", "text", "", "stop", [1, 2], 1, [1, 2], [-0.5, -0.1])


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    recorder = Recorder(tmp_path, worker=3, outputs=True, chunks=True)
    recorder.stage(PLAN, 0)
    yield recorder
    recorder.close()


def table(folder: Path, name: str) -> pa.Table:
    found = read_table(folder, name)
    assert found is not None
    return found


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


def tell(recorder: Recorder, first: int, count: int) -> None:
    """Pairs at 1,000/s, with two gaps between chunks of 1 ms each."""
    for number in range(first, first + count):
        due_ns = number // 2 * 2_000_000
        recorder.begun("baseline")
        recorder.sample(sample(number, due_ns=due_ns, sent_ns=due_ns + 5, first_ns=due_ns + 90, done_ns=due_ns + 400))
        recorder.output(OUTPUT)
        recorder.chunks(
            number // 2, "candidate" if number % 2 else "baseline", [due_ns, due_ns + 10**6, due_ns + 2 * 10**6]
        )
        recorder.reading(Reading(number, "generator", "worker3", "cpu", 0.5, "ratio"))


def test_all_of_it_is_in_the_files_of_the_worker(tmp_path: Path, recorder: Recorder) -> None:
    names = {f"{name}-3.arrow" for name in WRITTEN}
    assert set(sizes(tmp_path)) == {*names, ".begun-3"}
    tell(recorder, 0, 100)
    assert recorder.pending == 100
    recorder.flush()
    assert recorder.pending == 0
    tell(recorder, 100, 20)
    recorder.close()
    seal(tmp_path)
    assert [tuple(row.values())[2:4] for row in table(tmp_path, "samples").to_pylist()] == [
        sample(number)[2:4] for number in range(120)
    ]
    assert [tuple(row.values())[:6] for row in table(tmp_path, "outputs").to_pylist()] == [OUTPUT[:6]] * 120
    assert table(tmp_path, "readings")["t_ns"].to_pylist() == list(range(120))
    chunks = table(tmp_path, "chunks").to_pylist()
    assert len(chunks) == 360
    assert [tuple(row.values()) for row in chunks[3:6]] == [
        (0, "candidate", 0),
        (0, "candidate", 10**6),
        (0, "candidate", 2 * 10**6),
    ]


def test_the_sketches_are_those_of_the_samples(tmp_path: Path, recorder: Recorder) -> None:
    for first in range(0, 20_000, 500):
        tell(recorder, first, 500)
        recorder.flush()
    recorder.close()
    wanted, sums = sketch(table(tmp_path, "samples"), [StageRecord(PLAN, 0)])
    found = table(tmp_path, "sketches")
    assert set(found["block"].to_pylist()) == {0, 1, 2, 3, 4}  # the last chunk comes a moment after 20 s
    icl = found.filter(pc.equal(found["metric"], "icl"))
    assert merge(found.filter(pc.not_equal(found["metric"], "icl"))).equals(wanted)
    assert histogram(icl, "icl")[1].sum() == 40_000
    found = table(tmp_path, "sums")
    assert merge(found.filter(pc.not_equal(found["metric"], "icl")))["n"].equals(sums["n"])


def test_after_a_flush_nothing_is_kept(tmp_path: Path, recorder: Recorder) -> None:
    tell(recorder, 0, 1000)
    recorder.flush()
    before = sizes(tmp_path)
    recorder.flush()
    assert sizes(tmp_path) == before
    kept = []
    tracemalloc.start()
    for first in range(1000, 21_000, 1000):
        tell(recorder, first, 1000)
        recorder.flush()
        kept.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    # Python keeps some thousand freed tuples; a tenth of the samples would be more.
    assert max(kept) < 2_000_000


def test_without_outputs_and_chunks_they_are_passed_over(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, worker=0, outputs=False, chunks=False)
    tell(recorder, 0, 4)
    recorder.close()
    assert read_table(tmp_path, "outputs") is None
    assert read_table(tmp_path, "chunks") is None
    assert table(tmp_path, "samples").num_rows == 4


def test_an_acknowledged_sample_has_its_output_on_disk(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    write = StreamWriter.write

    def noted(writer: StreamWriter, batch: pa.RecordBatch) -> None:
        order.append(writer.path.name)
        write(writer, batch)

    monkeypatch.setattr(StreamWriter, "write", noted)
    tell(recorder, 0, 2)
    recorder.flush()
    assert order.index("samples-3.arrow") > max(order.index("outputs-3.arrow"), order.index("chunks-3.arrow"))


@contextmanager
def full_disk(writer: StreamWriter) -> Iterator[None]:
    """Writes to this file fail as they do on a full disk; the others go on."""
    kept, full = os.dup(writer._fd), os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, writer._fd)
    os.close(full)
    try:
        yield
    finally:
        os.dup2(kept, writer._fd)
        os.close(kept)


@pytest.mark.parametrize("file", ["samples", "outputs", "chunks", "readings", "sketches", "sums"])
def test_a_full_disk_loses_nothing_that_was_told(tmp_path: Path, recorder: Recorder, file: str) -> None:
    """Whichever file it hits: what was not written stays, and once there is room it is written, once."""
    refused = []
    for first in range(0, 22_000, 1000):
        tell(recorder, first, 1000)
        with full_disk(getattr(recorder, f"_{file}")):
            try:
                recorder.flush()
            except RecordingError as error:
                refused.append(str(error))
    assert len(refused) >= 2
    assert set(refused) == {f"{tmp_path}/{file}-3.arrow: cannot be written: No space left on device"}
    recorder.close()
    assert table(tmp_path, "samples")["pair_id"].to_pylist() == [number // 2 for number in range(22_000)]
    assert table(tmp_path, "outputs").num_rows == table(tmp_path, "readings").num_rows == 22_000
    assert table(tmp_path, "chunks").num_rows == 66_000
    assert histogram(table(tmp_path, "sketches"), "request_latency")[1].sum() == 22_000
    assert histogram(table(tmp_path, "sketches"), "icl")[1].sum() == 44_000
    latencies = pc.equal(table(tmp_path, "sums")["metric"], "request_latency")
    assert pc.sum(table(tmp_path, "sums").filter(latencies)["n"]).as_py() == 22_000


def test_what_one_file_cannot_take_does_not_cost_the_others(tmp_path: Path, recorder: Recorder) -> None:
    tell(recorder, 0, 10)
    recorder.reading(Reading(1, "generator", "worker3", "cpu", "high", "ratio"))  # type: ignore[arg-type]
    with pytest.raises(RecordingError, match=r"readings-3\.arrow: column value: "):
        recorder.close()
    assert table(tmp_path, "samples").num_rows == table(tmp_path, "outputs").num_rows == 10


def test_closing_twice_and_nothing_at_all(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, worker=0, outputs=True, chunks=True)
    recorder.close()
    before = sizes(tmp_path)
    recorder.close()
    assert sizes(tmp_path) == before
    assert all(table(tmp_path, name).num_rows == 0 for name in WRITTEN)


def test_two_workers_of_one_number_never_mix(tmp_path: Path, recorder: Recorder) -> None:
    tell(recorder, 0, 2)
    with pytest.raises(RecordingError, match=r"samples-3\.arrow: cannot be created: File exists"):
        Recorder(tmp_path, worker=3, outputs=False, chunks=False)
    recorder.close()
    assert table(tmp_path, "samples").num_rows == 2


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot be created: No such file or directory"):
        Recorder(tmp_path / "none", worker=0, outputs=False, chunks=False)
