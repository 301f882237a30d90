"""AIPerf's records in any number: the shape of tests/recording/data/aiperf.jsonl, times of our own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).parent / "data"
BEGIN_NS = 1_800_000_000_000_000_000
MS = 1_000_000

Change = Callable[[int, dict[str, Any]], None]


def record(sent_ns: int, ms: float, *, first_ms: float | None = None, osl: int = 8) -> dict[str, Any]:
    metrics = {
        "request_latency": {"value": ms, "unit": "ms"},
        "output_sequence_length": {"value": osl, "unit": "tokens"},
        "inter_chunk_latency": {"value": [1.5, 2.5], "unit": "ms"},
    }
    if first_ms is not None:
        metrics["time_to_first_token"] = {"value": first_ms, "unit": "ms"}
    metadata = {
        "session_num": 0,
        "x_request_id": f"r{sent_ns}",
        "request_start_ns": sent_ns,
        "request_end_ns": sent_ns + round(ms * MS),
        "worker_id": "worker_1",
        "benchmark_phase": "profiling",
        "was_cancelled": False,
    }
    return {"metadata": metadata, "metrics": metrics}


def aiperf(
    path: Path, n: int = 600, *, slower: float = 1.0, begin_ns: int = BEGIN_NS, seed: int = 1, loop: int = 2,
    change: Change | None = None,
) -> Path:  # fmt: skip
    """A closed loop of `loop` slots; answers of about 50 ms times `slower`, the first token after 10 ms times it."""
    rng = np.random.default_rng(seed)
    free = [begin_ns] * loop
    with path.open("w") as file:
        for number in range(n):
            slot = free.index(min(free))
            first = 10 * slower * rng.lognormal(0, 0.1)
            ms = first + 40 * slower * rng.lognormal(0, 0.1)
            entry = record(free[slot], ms, first_ms=first)
            free[slot] += round(ms * MS)
            if change:
                change(number, entry)
            file.write(json.dumps(entry) + "\n")
    return path
