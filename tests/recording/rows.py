"""Sample rows for the tests of the recording."""

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
