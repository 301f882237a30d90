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
        ("prompt", pa.int32()),
        ("logprob", pa.float64()),
        ("logprob_tokens", pa.int32()),
        ("tool_calls", pa.string()),
        ("shape", pa.string()),
        ("bad", pa.int32()),
        ("vector", pa.list_(pa.float32())),
    ]
)

SCORES = pa.schema(
    [
        ("stage", pa.int32()),
        ("pair_id", pa.int64()),
        ("arm", pa.string()),
        ("scorer", pa.string()),
        ("score", pa.float64()),
        ("error", pa.string()),
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

# Blocks of a sketch: of due time, counted from the beginning of the stage. Both are part of the format.
BLOCK_NS = 5_000_000_000
BIN_RATIO = 1.01
_SKETCHED: dict[str | bytes, str | bytes] = {"block_ns": str(BLOCK_NS), "bin_ratio": str(BIN_RATIO)}

# How often a value of `metric` fell into `bin` (see recording.sketches for metrics and bins). `paired`: the values
# whose partner in the other arm is known, too. Rows of one key may come several times, from one worker or from many:
# their counts add up.
SKETCHES = pa.schema(
    [
        ("stage", pa.int32()),
        ("block", pa.int32()),
        ("arm", pa.string()),
        ("metric", pa.string()),
        ("paired", pa.bool_()),
        ("bin", pa.int32()),
        ("count", pa.int64()),
    ],
    metadata=_SKETCHED,
)
# Sums over the same values x (seconds; tokens for osl), which add up in the same way: `n`, x, x^2, ln x, (ln x)^2 and,
# of pairs, ln x ln y with the partner's y. Rows that only count have sums of 0: `status.*`, `error.*`, `version.*`,
# `score.*` and `lost.*` (see recording.sketches).
SUMS = pa.schema(
    [
        ("stage", pa.int32()),
        ("block", pa.int32()),
        ("arm", pa.string()),
        ("metric", pa.string()),
        ("paired", pa.bool_()),
        ("n", pa.int64()),
        ("total", pa.float64()),
        ("total_sq", pa.float64()),
        ("log_total", pa.float64()),
        ("log_total_sq", pa.float64()),
        ("log_cross", pa.float64()),
    ],
    metadata=_SKETCHED,
)

SCHEMAS: dict[str, pa.Schema] = {
    "samples": SAMPLES,
    "outputs": OUTPUTS,
    "scores": SCORES,
    "chunks": CHUNKS,
    "readings": READINGS,
    "sketches": SKETCHES,
    "sums": SUMS,
}
REQUIRED_SAMPLE_COLUMNS = ("arm", "due_ns", "done_ns", "status")
# Columns that recordings of earlier releases lack: -1, "" or nothing, as `conform` fills them in.
LATER_COLUMNS: dict[str, tuple[str, ...]] = {
    "outputs": ("prompt", "logprob", "logprob_tokens", "tool_calls", "shape", "bad", "vector"),
}
