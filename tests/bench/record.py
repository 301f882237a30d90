"""What recording costs: an hour of 2,000 samples a second, as fast as it can, through the engine's Recorder.

    python -m tests.bench.record [--samples N] [--rows ROWS]

Ends with one JSON line: `record_us` of CPU time a sample, all in (append, flush, sketch), and beside it `making_us` for
the Sample itself; for how long a flush stops the caller (CPU time as well, so that a busy machine does not count); and
the resident size at the start, after a tenth and at the end, which says whether memory is constant.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
import time
from pathlib import Path

from harness.load.recorder import Recorder
from harness.load.template import request_id
from harness.types import Sample, StagePlan

RATE = 2000
HOUR = 3600 * RATE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=HOUR)
    parser.add_argument("--rows", type=int, default=500, help="rows a flush")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), options.samples, options.rows)))


def measure(folder: Path, samples: int, rows: int) -> dict[str, float]:
    """Paired samples at a constant rate, with 0.5 to 3 ms of latency, and one in a thousand that failed."""
    recorder = Recorder(folder, worker=0, outputs=False, chunks=False)
    recorder.stage(StagePlan(0, "paired", "poisson", samples / RATE, 0.5, rate=RATE / 2), 0)
    # As in the engine: what was imported is not looked through again.
    gc.collect()
    gc.freeze()
    record_s = making_s = 0.0
    flushes: list[float] = []
    sizes = [resident_mb()]
    for first in range(0, samples, rows):
        began = time.thread_time()
        made = [sample(number) for number in range(first, min(first + rows, samples))]
        making_s += time.thread_time() - began
        began = time.thread_time()
        for each in made:
            recorder.sample(each)
        flushing = time.thread_time()
        recorder.flush()
        ended = time.thread_time()
        flushes.append(ended - flushing)
        record_s += ended - began
        if len(sizes) == 1 and first >= samples // 10:
            sizes.append(resident_mb())
    recorder.close()
    sizes.append(resident_mb())
    written = {path.name: path.stat().st_size for path in folder.iterdir()}
    return {
        "samples": samples,
        "record_us": round(record_s / samples * 1e6, 3),
        "making_us": round(making_s / samples * 1e6, 3),
        "flush_rows": rows,
        "flush_p50_ms": round(statistics.median(flushes) * 1e3, 3),
        "flush_p99_ms": round(sorted(flushes)[int(len(flushes) * 0.99)] * 1e3, 3),
        "flush_max_ms": round(max(flushes) * 1e3, 3),
        "rss_start_mb": sizes[0],
        "rss_tenth_mb": sizes[1],
        "rss_end_mb": sizes[-1],
        "bytes_a_sample": round(written["samples-0.arrow"] / samples, 1),
        "sketch_bytes_a_sample": round((written["sketches-0.arrow"] + written["sums-0.arrow"]) / samples, 2),
    }


def sample(number: int) -> Sample:
    pair_id, candidate = divmod(number, 2)
    arm = "candidate" if candidate else "baseline"
    due_ns = pair_id * 2 * 1_000_000_000 // RATE
    sent_ns = due_ns + 20_000 + number * 7919 % 50_000
    done_ns = sent_ns + 500_000 + number * 104_729 % 2_500_000
    failed = number % 1000 == 0
    return Sample(
        arm, 0, pair_id, request_id(pair_id, arm), "", "plan", due_ns, sent_ns, -1 if failed else done_ns - 1000,
        done_ns, "error" if failed else "ok", "Unavailable" if failed else "", "503" if failed else "", "",
        "127.0.0.1:8000", "identity", "" if failed else "12"[candidate], -1, -1, 0,
    )  # fmt: skip


def resident_mb() -> float:
    with Path("/proc/self/statm").open() as file:
        return round(int(file.read().split()[1]) * 4096 / 1e6, 1)


if __name__ == "__main__":
    main()
