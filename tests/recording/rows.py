"""Sample rows for the tests of the recording, and folders of them."""

from pathlib import Path

from harness.recording import SCHEMAS, StreamWriter, read_table, stream_path
from harness.types import Sample


def sample(number: int, **changes: object) -> Sample:
    row = Sample(
        arm="baseline" if number % 2 == 0 else "candidate",
        stage=0,
        pair_id=number // 2,
        request_id=f"r{number}",
        unit="",
        assignment="plan",
        due_ns=number * 1000,
        sent_ns=number * 1000 + 5,
        first_ns=number * 1000 + 90,
        done_ns=number * 1000 + 400,
        status="ok",
        error="",
        code="0",
        finish_reason="length",
        server="triton",
        model="smollm2",
        version="1",
        isl=37,
        osl=8,
        worker=0,
    )
    return row._replace(**changes)


def write_samples(folder: Path, rows: int = 10, *, first: int = 0, worker: int | None = None) -> None:
    """A stream of `rows` samples, numbered from `first`, in several batches."""
    with StreamWriter(stream_path(folder, "samples", worker), SCHEMAS["samples"]) as writer:
        for number in range(first, first + rows):
            writer.append(sample(number, worker=worker or 0))
            if number % 4 == 3:
                writer.flush()


def ids(folder: Path) -> list[str]:
    table = read_table(folder, "samples")
    assert table is not None
    assert table.schema == SCHEMAS["samples"]
    return list(table.column("request_id").to_pylist())
