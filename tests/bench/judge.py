"""Time and memory of `triton-canary judge` on very many samples, against peers that read the same file.

    python -m tests.bench.judge [--pairs 5000000] [--rounds 3] [--keep FILE]

A paired stage at 2,000 pairs/s, as a run records it: all columns, in the order of ends. The judge answers what its
default gates ask (errors, p50, p90, p99, with bounds, and the audit of the measurement). The peers are processes that
read arm, due and done with pyarrow and then do less: `quantiles`, numpy's p50, p90 and p99 of either arm;
`mann-whitney`, Kayenta's test on requests. Each round runs all of them, in turn. Prints seconds of wall and of CPU,
peak memory, and the ratio of CPU time to each peer's.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness.recording.schema import SAMPLES

RATE = 2000.0
PIECE = 1 << 15
# Runs a command and prints, as the last line of stderr, what it took: wall, CPU and the peak of memory.
_MEASURE = """
import resource, subprocess, sys, time
begin = time.monotonic()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(code, time.monotonic() - begin, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)
"""
_READ = """
import sys, numpy, pyarrow.parquet, pyarrow.compute
table = pyarrow.parquet.read_table(sys.argv[1], columns=["arm", "due_ns", "done_ns"], read_dictionary=["arm"])
took = table["done_ns"].to_numpy() - table["due_ns"].to_numpy()
second = pyarrow.compute.equal(table["arm"], "candidate").to_numpy()
arms = took[~second], took[second]
"""
_PEERS = {
    "quantiles": _READ + "print([numpy.quantile(arm, [0.5, 0.9, 0.99]) for arm in arms])",
    "mann-whitney": _READ + "import scipy.stats\nprint(scipy.stats.mannwhitneyu(*arms, method='asymptotic'))",
}


class Took(NamedTuple):
    wall_s: float
    cpu_s: float
    peak_bytes: float


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pairs", type=int, default=5_000_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--keep", type=Path, help="where the samples are to stay; used again if they are there")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = chosen.keep or Path(folder) / "samples.parquet"
        if not path.exists():
            write(path, chosen.pairs)
        commands = {"judge": [sys.executable, "-m", "harness.cli", "judge", str(path)]}
        commands |= {name: [sys.executable, "-c", text, str(path)] for name, text in _PEERS.items()}
        rounds = [{name: took(command) for name, command in commands.items()} for _ in range(chosen.rounds)]
    print(f"{2 * chosen.pairs:,} samples, medians of {chosen.rounds} rounds")
    for name in commands:
        each = [one[name] for one in rounds]
        wall, cpu, peak = (statistics.median(part) for part in zip(*each, strict=True))
        ratio = statistics.median(one["judge"].cpu_s / one[name].cpu_s for one in rounds)
        print(f"{name:13} {wall:6.1f} s wall {cpu:6.1f} s CPU {peak / 1e9:6.2f} GB   judge/{name} {ratio:.2f}")


def took(command: list[str]) -> Took:
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-c", _MEASURE, *command], capture_output=True, text=True, check=True)
    code, wall, cpu, peak = map(float, done.stdout.split())
    if code not in (0, 1, 3):
        raise SystemExit(f"{command[:4]} failed after {time.monotonic() - begin:.0f} s: {done.stderr.strip()}")
    return Took(wall, cpu, peak)


def write(path: Path, pairs: int) -> None:
    """Identical builds; 0.1 % of requests fail."""
    rng = np.random.default_rng(0)
    begin_s = 0.0
    with pq.ParquetWriter(path, SAMPLES, compression="zstd") as writer:
        for at in range(0, pairs, PIECE):
            n = min(PIECE, pairs - at)
            due_s = begin_s + np.cumsum(rng.exponential(1 / RATE, n))
            begin_s = float(due_s[-1])
            writer.write_table(_piece(rng, np.repeat(due_s, 2), np.repeat(np.arange(at, at + n), 2)))


def _piece(rng: np.random.Generator, due_s: np.ndarray, pair: np.ndarray) -> pa.Table:
    n = len(due_s)
    arm, prompt = np.arange(n) % 2, np.repeat(rng.normal(0, 0.4, n // 2), 2)
    due = (due_s * 1e9).astype(np.int64)
    sent = due + (rng.exponential(2e-5, n) * 1e9).astype(np.int64)
    done = sent + (0.02 * np.exp(prompt + rng.normal(0, 0.3, n)) * 1e9).astype(np.int64)
    failed = (rng.random(n) < 0.001).astype(np.int64)
    order = np.argsort(done, kind="stable")
    known = {"pair_id": pair, "due_ns": due, "sent_ns": sent, "done_ns": done, "stage": due * 0, "worker": due * 0}
    words = {
        "arm": (["baseline", "candidate"], arm), "version": (["1", "2"], arm), "assignment": (["plan"], arm * 0),
        "status": (["ok", "error"], failed), "error": (["", "unavailable"], failed), "model": (["llm"], arm * 0),
    }  # fmt: skip
    columns = []
    for name, kind in zip(SAMPLES.names, SAMPLES.types, strict=True):
        if name == "request_id":
            columns.append(pa.array([f"{p}-{a}" for p, a in zip(pair[order], arm[order], strict=True)]))
        elif kind == pa.string():
            texts, which = words.get(name, ([""], arm * 0))
            columns.append(pa.array(texts).take(pa.array(which[order])))
        else:
            columns.append(pa.array(known.get(name, np.full(n, -1))[order], kind))
    return pa.table(columns, schema=SAMPLES)


if __name__ == "__main__":
    main()
