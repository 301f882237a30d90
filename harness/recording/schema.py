"""The columns of each file of a recording, in the order of the NamedTuples in `harness.types`."""

from __future__ import annotations

import pyarrow as pa

FORMAT_VERSION = 1

SAMPLES = pa.schema(
    [
        ("arm", pa.string()),
        ("stage", pa.int32()),
        ("pair_id", pa.int64()),
        ("request_id", pa.string()),
        ("unit", pa.string()),
        ("assignment", pa.string()),
        ("due_ns", pa.int64()),
        ("sent_ns", pa.int64()),
        ("first_ns", pa.int64()),
        ("done_ns", pa.int64()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("code", pa.string()),
        ("finish_reason", pa.string()),
        ("server", pa.string()),
        ("model", pa.string()),
        ("version", pa.string()),
        ("isl", pa.int32()),
        ("osl", pa.int32()),
        ("worker", pa.int16()),
    ]
)
OUTPUTS = pa.schema(
    [
        ("stage", pa.int32()),
        ("pair_id", pa.int64()),
        ("arm", pa.string()),
        ("kind", pa.string()),
        ("text", pa.string()),
        ("digest", pa.string()),
        ("finish_reason", pa.string()),
        ("token_ids", pa.list_(pa.int32())),
        ("k", pa.int32()),
        ("topk_ids", pa.list_(pa.int32())),
        ("topk_logprobs", pa.list_(pa.float32())),
    ]
)

CHUNKS = pa.schema([("pair_id", pa.int64()), ("arm", pa.string()), ("t_ns", pa.int64())])

READINGS = pa.schema(
    [
        ("t_ns", pa.int64()),
        ("source", pa.string()),
        ("device", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("unit", pa.string()),
    ]
)

SCHEMAS: dict[str, pa.Schema] = {
    "samples": SAMPLES,
    "outputs": OUTPUTS,
    "chunks": CHUNKS,
    "readings": READINGS,
}
REQUIRED_SAMPLE_COLUMNS = ("arm", "due_ns", "done_ns", "status")
