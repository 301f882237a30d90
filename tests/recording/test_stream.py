"""The stream: what was flushed is read back, whatever happens to the writer."""

import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow as pa
import pytest

from harness.errors import RecordingError
from harness.recording import SCHEMAS, StreamWriter, Tail, read_batches
from harness.types import Output
from tests.recording.rows import sample

SAMPLES = SCHEMAS["samples"]


def rows_of(path: Path) -> int:
    return sum(batch.num_rows for batch in read_batches(path, SAMPLES))


def write(path: Path, *batches: int, close: bool = True) -> list[int]:
    """Writes batches of the given sizes; returns the file's length after the header and after each batch."""
    writer = StreamWriter(path, SAMPLES)
    lengths = [path.stat().st_size]
    number = 0
    for size in batches:
        for _ in range(size):
            writer.append(sample(number))
            number += 1
        writer.flush()
        lengths.append(path.stat().st_size)
    if close:
        writer.close()
    return lengths


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "samples.arrow"
    write(path, 3, 2)
    table = pa.Table.from_batches(read_batches(path, SAMPLES))
    assert [tuple(row.values()) for row in table.to_pylist()] == [tuple(sample(i)) for i in range(5)]


def test_any_arrow_library_reads_the_file(tmp_path: Path) -> None:
    path = tmp_path / "samples.arrow"
    write(path, 3, 2)
    with pa.memory_map(str(path)) as source:
        assert pa.ipc.open_stream(source).read_all().num_rows == 5


def test_lists_come_back(tmp_path: Path) -> None:
    path = tmp_path / "outputs.arrow"
    row = Output(0, 1, "baseline", "generated", "Ünïcode ✓", "", "stop", [1, 2], 2, [1, 5, 2, 6], [-0.5, -1.0] * 2)
    row = row._replace(prompt=7, logprob=-1.5, logprob_tokens=2, tool_calls="[]", vector=[0.5, -0.25])
    with StreamWriter(path, SCHEMAS["outputs"]) as writer:
        writer.append(row)
    (batch,) = read_batches(path, SCHEMAS["outputs"])
    assert tuple(batch.to_pylist()[0].values()) == tuple(row)


def test_every_cut_of_the_last_batch_keeps_what_came_before(tmp_path: Path) -> None:
    path = tmp_path / "samples.arrow"
    header, first, second = write(path, 4, 3, close=False)
    content = path.read_bytes()
    assert len(content) == second
    cut = tmp_path / "cut.arrow"
    for length in range(second + 1):
        cut.write_bytes(content[:length])
        expected = 7 if length == second else 4 if length >= first else 0
        assert rows_of(cut) == expected, f"cut at {length} of {header}, {first}, {second}"


def test_zeroed_pages_at_the_end_never_cost_what_came_before(tmp_path: Path) -> None:
    path = tmp_path / "samples.arrow"
    _, first, second = write(path, 4, 3, close=False)
    content = path.read_bytes()
    for start in range(first, second):
        path.write_bytes(content[:start] + bytes(second - start))
        assert rows_of(path) in (4, 7)


def test_a_tail_sees_each_batch_once_and_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "samples.arrow"
    _, first, second = write(tmp_path / "whole.arrow", 4, 3, close=False)
    content = (tmp_path / "whole.arrow").read_bytes()
    with Tail(path, SAMPLES) as tail:
        assert tail.poll().num_rows == 0  # no file yet
        seen = []
        for position in range(0, second, 7):
            with path.open("ab") as file:
                file.write(content[position : position + 7])
            seen += tail.poll().column("request_id").to_pylist()
            done = min(position + 7, second)
            assert len(seen) == (7 if done == second else 4 if done >= first else 0)
        assert seen == [f"r{i}" for i in range(7)]
        assert tail.poll().schema == SAMPLES


def test_a_tail_ends_at_the_end_mark_and_outlives_the_file(tmp_path: Path) -> None:
    path = tmp_path / "samples.arrow"
    writer = StreamWriter(path, SAMPLES)
    with Tail(path, SAMPLES) as tail:
        assert tail.poll().num_rows == 0
        writer.append(sample(0))
        writer.close()
        path.unlink()
        assert tail.poll().num_rows == 1
        assert tail.poll().num_rows == 0


def test_a_writer_that_is_killed_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    """The child reports each flush that returned; it is killed while it goes on writing large batches."""
    path = tmp_path / "samples.arrow"
    code = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from harness.recording import SCHEMAS, StreamWriter
        from tests.recording.rows import sample
        writer = StreamWriter(Path(sys.argv[1]), SCHEMAS["samples"])
        number = 0
        while True:
            for _ in range(500):
                writer.append(sample(number))
                number += 1
            writer.flush()
            print(number, flush=True)
        """
    )
    root = Path(__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True, cwd=root, bufsize=1
    )
    assert child.stdout is not None
    with child.stdout as acknowledged:
        lines = [acknowledged.readline() for _ in range(20)]
        child.send_signal(signal.SIGKILL)
        lines += acknowledged.readlines()
    assert child.wait() == -signal.SIGKILL
    numbers = [int(line) for line in lines if line.endswith("\n")]
    table = pa.Table.from_batches(read_batches(path, SAMPLES))
    assert table.num_rows >= numbers[-1] >= 20 * 500
    assert table.column("request_id").to_pylist() == [f"r{i}" for i in range(table.num_rows)]


def test_a_full_disk_is_one_line_and_what_was_flushed_stays(tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes the kernel cut the write short and then refuse it, as a full disk does."""
    path = tmp_path / "samples.arrow"
    writer = StreamWriter(path, SAMPLES)
    for number in range(10):
        writer.append(sample(number))
    writer.flush()
    for number in range(10, 500):
        writer.append(sample(number))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 5000, hard))
        with pytest.raises(RecordingError, match=r"samples\.arrow: cannot be written: File too large") as caught:
            writer.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert "\n" not in str(caught.value)
    assert rows_of(path) == 10
    writer.close()  # room again: the rows were kept
    assert rows_of(path) == 500


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_no_space_left_is_named(tmp_path: Path) -> None:
    path = tmp_path / "samples.arrow"
    writer = StreamWriter(path, SAMPLES)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, writer._fd)
    os.close(full)
    writer.append(sample(0))
    with pytest.raises(RecordingError, match=r"samples\.arrow: cannot be written: No space left on device"):
        writer.flush()


def test_a_file_that_exists_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "samples.arrow"
    write(path, 1)
    with pytest.raises(RecordingError, match="cannot be created: File exists"):
        StreamWriter(path, SAMPLES)
    assert rows_of(path) == 1


def test_no_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot be created: No such file or directory"):
        StreamWriter(tmp_path / "none" / "samples.arrow", SAMPLES)


@pytest.mark.parametrize(
    ("changes", "column"),
    [
        ({"osl": "eight"}, "osl"),
        ({"worker": 1 << 20}, "worker"),
        ({"error": None}, "error"),
        ({"arm": 3}, "arm"),
    ],
)
def test_a_row_that_does_not_fit_names_the_column(tmp_path: Path, changes: dict[str, object], column: str) -> None:
    writer = StreamWriter(tmp_path / "samples.arrow", SAMPLES)
    writer.append(sample(0, **changes))
    with pytest.raises(RecordingError, match=f"column {column}: "):
        writer.flush()


@pytest.mark.parametrize("rows", [1, 40])
def test_text_without_bytes_is_written_with_question_marks(tmp_path: Path, rows: int) -> None:
    """Half a character, which JSON can name: also where it stands in every row, which is written in another way."""
    path = tmp_path / "samples.arrow"
    with StreamWriter(path, SAMPLES) as writer:
        for number in range(rows):
            writer.append(sample(number, version="\ud800", model="a\udc00" if number == 0 else "é"))
    table = pa.Table.from_batches(read_batches(path, SAMPLES))
    assert table["version"].to_pylist() == ["?"] * rows
    assert table["model"].to_pylist() == ["a?"] + ["é"] * (rows - 1)


def test_a_row_that_does_not_fit_is_told_and_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "samples.arrow"
    writer = StreamWriter(path, SAMPLES)
    for number in range(10):
        writer.append(sample(number, **({"osl": 1 << 40} if number == 5 else {})))
    with pytest.raises(RecordingError, match="column osl"):
        writer.flush()
    writer.append(sample(10))
    writer.close()
    (batch,) = read_batches(path, SAMPLES)
    assert batch["request_id"].to_pylist() == [f"r{number}" for number in range(11) if number != 5]


def test_other_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "samples.arrow"
    StreamWriter(path, SCHEMAS["chunks"]).close()
    with pytest.raises(RecordingError, match="other columns"):
        rows_of(path)
    with Tail(path, SAMPLES) as tail, pytest.raises(RecordingError, match="other columns"):
        tail.poll()


def test_close_twice_and_an_empty_stream(tmp_path: Path) -> None:
    path = tmp_path / "samples.arrow"
    writer = StreamWriter(path, SAMPLES)
    writer.close()
    writer.close()
    assert rows_of(path) == 0
