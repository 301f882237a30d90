"""The sketch of a worker that was killed is made anew from its samples, whenever one comes to do it."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from harness.errors import RecordingError
from harness.load.recorder import Recorder
from harness.recording import SCHEMAS, complete_sketches, merge, read_table, resketch, seal, sketch, stream_path
from harness.types import StagePlan, StageRecord
from tests.recording.rows import sample

RECORD = StageRecord(StagePlan(0, "paired", "poisson", 60.0, 0.5, rate=10.0), begin_ns=0)
SECOND = 1_000_000_000


def record(folder: Path, worker: int, *, killed: bool) -> None:
    """20 s; of a worker that is killed the last batch of samples is torn, and nothing is closed."""
    recorder = Recorder(folder, worker=worker, outputs=False, chunks=True)
    recorder.stage(RECORD.plan, RECORD.begin_ns)
    for number in range(4000):
        due = number // 2 * 10_000_000
        recorder.sample(sample(number, due_ns=due, sent_ns=due, done_ns=due + (number + 1) * 1000, worker=worker))
        arm = "candidate" if number % 2 else "baseline"
        recorder.chunks(number // 2, arm, [due + 100, due + 300 + number, due + 600 + number])
        if number % 200 == 199:
            recorder.flush()
    kept = {path: path.read_bytes() for path in folder.glob(f"*-{worker}.arrow")}
    recorder.close()
    if killed:
        for path, content in kept.items():
            path.write_bytes(content[:-50] if path.name.startswith("samples") else content)


def table(folder: Path, name: str) -> pa.Table:
    found = read_table(folder, name)
    assert found is not None
    return found


def test_only_the_killed_one_is_made_anew_and_then_all_of_it_is_there(tmp_path: Path) -> None:
    record(tmp_path, 0, killed=False)
    record(tmp_path, 1, killed=True)
    before = stream_path(tmp_path, "sketches", 0).read_bytes()
    lacking = pa.compute.sum(table(tmp_path, "sketches")["count"]).as_py()
    assert complete_sketches(tmp_path, [RECORD]) == (1,)
    assert stream_path(tmp_path, "sketches", 0).read_bytes() == before
    samples, chunks = table(tmp_path, "samples"), table(tmp_path, "chunks")
    assert samples.num_rows == 7800
    parts = []
    for worker in (0, 1):
        mine = samples.filter(pa.compute.equal(samples["worker"], worker))
        parts.append(sketch(mine, [RECORD], chunks.slice(0, 12_000)))
    assert merge(table(tmp_path, "sketches")).equals(merge(*(sketches for sketches, _ in parts)))
    assert pa.compute.sum(table(tmp_path, "sketches")["count"]).as_py() > lacking
    assert merge(table(tmp_path, "sums"))["n"].equals(merge(*(sums for _, sums in parts))["n"])


def test_a_second_time_and_once_sealed_there_is_nothing_to_do(tmp_path: Path) -> None:
    record(tmp_path, 1, killed=True)
    assert complete_sketches(tmp_path, [RECORD]) == (1,)
    assert complete_sketches(tmp_path, [RECORD]) == ()
    found = table(tmp_path, "sketches")
    seal(tmp_path)
    assert complete_sketches(tmp_path, [RECORD]) == ()
    assert table(tmp_path, "sketches").equals(found)


@pytest.mark.parametrize("after", [0, 1])
def test_a_kill_in_between_is_made_good_by_the_next_one(
    tmp_path: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first file was replaced, and between the two."""

    class Killed(BaseException):
        pass

    publish: Callable[[Path, Path], None] = resketch.publish
    left = after

    def killed(temporary: Path, path: Path) -> None:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        publish(temporary, path)

    record(tmp_path, 1, killed=True)
    with monkeypatch.context() as patch:
        patch.setattr(resketch, "publish", killed)
        with pytest.raises(Killed):
            complete_sketches(tmp_path, [RECORD])
    assert complete_sketches(tmp_path, [RECORD]) == (1,)
    found = table(tmp_path, "sums")
    wanted = sketch(table(tmp_path, "samples"), [RECORD], table(tmp_path, "chunks"))[1]
    assert merge(found)["n"].equals(wanted["n"])
    written = {f"{name}-1.arrow" for name in SCHEMAS if name not in ("outputs", "scores")}
    assert {path.name for path in tmp_path.iterdir()} == written | {".begun-1"}


def test_a_full_disk_leaves_the_old_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    record(tmp_path, 1, killed=True)
    before = table(tmp_path, "sketches")
    monkeypatch.setattr(resketch, "publish", full)
    with pytest.raises(RecordingError, match=r"sketches-1\.arrow: cannot be written: No space left on device"):
        complete_sketches(tmp_path, [RECORD])
    assert table(tmp_path, "sketches").equals(before)


def test_a_folder_without_sketches_is_left_alone(tmp_path: Path) -> None:
    """Of an earlier release, or of samples that somebody else wrote."""
    record(tmp_path, 1, killed=True)
    stream_path(tmp_path, "sums", 1).unlink()
    stream_path(tmp_path, "sketches", 1).unlink()
    assert complete_sketches(tmp_path, [RECORD]) == ()
    assert read_table(tmp_path, "sketches") is None
