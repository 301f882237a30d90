"""Time, memory and size of the page of a run with very many requests, against a peer that reads the same files.

    python -m tests.bench.page [--pairs 5000000] [--rounds 3] [--keep FOLDER]

The run: two paired stages at 500 pairs/s, all columns as a run records them, first tokens and lengths known, failures
of many kinds, and readings of a server, its models, a GPU and the host every second. Measured are whole processes:

- `report`: `triton-canary report`, which judges and renders;
- `judge`: `triton-canary judge`, what of it is judging;
- `page`: the page alone, of a verdict that is at hand;
- `peer`: what an analyst would write with pandas and matplotlib for the same figures: quantiles of four times by arm
  and over time, distributions, errors by kind and over time, readings, default SVG in one file of HTML.

Prints seconds of wall and of CPU, peak memory, megabytes of page, and the ratio of the page's CPU time to the peer's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from harness.recording.schema import SAMPLES
from harness.types import Gate, StagePlan
from tests.bench.judge import took
from tests.report import factory

RATE = 500.0  # pairs/s
PIECE = 1 << 16
MOST_S, MOST_MB = 15.0, 3.0
GATES = (Gate("errors", 0.01, "absolute"), Gate("ttft.p50", 0.10), Gate("tpot.p50", 0.10))
KINDS = (
    ("error", "InferenceServerException", "UNAVAILABLE"), ("error", "InferenceServerException", "INTERNAL"),
    ("error", "InvalidOutput", "INVALID_ARGUMENT"), ("timeout", "Deadline", "DEADLINE_EXCEEDED"),
    ("oom", "OutOfMemory", "RESOURCE_EXHAUSTED"), ("refused", "ConnectionRefused", "UNAVAILABLE"),
    ("error", "ConnectionReset", ""), ("error", "Http", "502"), ("error", "Http", "503"),
    ("cancelled", "cancelled", ""),
)  # fmt: skip

_PAGE = """
import sys
from pathlib import Path
from harness.judge import MOST_SAMPLES
from harness.recording import Recording
from harness.report.page import page
from harness.types import Verdict
text = page(Recording.open(sys.argv[1], most=MOST_SAMPLES), Verdict("inconclusive", "", ()))
(Path(sys.argv[1]) / "page.html").write_text(text)
"""
_PEER = """
import io, sys
from pathlib import Path
import matplotlib
matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
folder = Path(sys.argv[1])
columns = ["arm", "assignment", "due_ns", "sent_ns", "first_ns", "done_ns", "status", "error", "code", "osl"]
data = pd.read_parquet(folder / "samples.parquet", columns=columns)
parts = []
def keep(figure):
    text = io.StringIO()
    figure.savefig(text, format="svg")
    plt.close(figure)
    parts.append(text.getvalue())
data["at"] = data.sent_ns / 1e9
failed = data[data.status != "ok"]
parts.append(failed.groupby(["arm", "status", "error", "code"]).agg(n=("at", "size"), first=("at", "min")).to_html())
figure, axes = plt.subplots()
for arm, mine in failed.groupby("arm"):
    axes.hist(mine["at"], 36, histtype="step", label=arm)
axes.legend()
keep(figure)
good = data[(data.status == "ok") & (data.assignment != "score")].copy()
good["ttft"] = (good.first_ns - good.sent_ns) / 1e9
good["tpot"] = (good.done_ns - good.first_ns) / 1e9 / (good.osl - 1)
good["response_time"] = (good.done_ns - good.due_ns) / 1e9
good["request_latency"] = (good.done_ns - good.sent_ns) / 1e9
good["bin"] = pd.cut(good["at"], 36, labels=False)
shares = np.linspace(0, 1, 160)
for metric in ("ttft", "tpot", "response_time", "request_latency"):
    parts.append(good.groupby("arm")[metric].quantile([0.5, 0.9, 0.99]).unstack().to_html())
    figure, axes = plt.subplots()
    for arm, mine in good.groupby("arm")[metric]:
        axes.plot(mine.quantile(shares), shares, label=arm)
    axes.set_xscale("log")
    axes.legend()
    keep(figure)
    figure, axes = plt.subplots()
    lines = good.groupby(["arm", "bin"])[metric].quantile([0.5, 0.9]).unstack()
    for arm in ("baseline", "candidate"):
        axes.plot(lines.loc[arm])
        points = good[good.arm == arm].sample(300, random_state=0)
        axes.plot(points["bin"], points[metric], ".", alpha=0.3)
    keep(figure)
readings = pd.read_parquet(folder / "readings.parquet")
for metric, mine in readings.groupby("metric"):
    figure, axes = plt.subplots()
    for device, line in mine.groupby("device"):
        axes.plot(line.t_ns / 1e9, line.value, label=device)
    axes.legend()
    keep(figure)
(folder / "peer.html").write_text("".join(parts))
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pairs", type=int, default=5_000_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--keep", type=Path, help="where the run is to stay; used again if it is there")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.keep or Path(temporary) / "run"
        if not (folder / "run.json").exists():
            write(folder, chosen.pairs)
        commands = {
            "report": [sys.executable, "-m", "harness.cli", "report", str(folder)],
            "judge": [sys.executable, "-m", "harness.cli", "judge", str(folder)],
            "page": [sys.executable, "-c", _PAGE, str(folder)],
            "peer": [sys.executable, "-c", _PEER, str(folder)],
        }
        rounds = [{name: took(command) for name, command in commands.items()} for _ in range(chosen.rounds)]
        sizes = {"report": "report.html", "page": "page.html", "peer": "peer.html"}
        megabytes = {name: (folder / file).stat().st_size / 1e6 for name, file in sizes.items()}
    print(f"{2 * chosen.pairs:,} samples, medians of {chosen.rounds} rounds")
    for name in commands:
        wall, cpu, peak = (statistics.median(part) for part in zip(*(one[name] for one in rounds), strict=True))
        size = f"{megabytes[name]:6.2f} MB" if name in megabytes else " " * 9
        print(f"{name:7} {wall:6.1f} s wall {cpu:6.1f} s CPU {peak / 1e9:6.2f} GB {size}")
    ratio = statistics.median(one["page"].cpu_s / one["peer"].cpu_s for one in rounds)
    print(f"page/peer {ratio:.2f} of the CPU time")
    for name, what in (("page", "the page alone"), ("report", "judged and rendered")):
        slowest = max(one[name].wall_s for one in rounds)
        fine = slowest <= MOST_S and megabytes[name] <= MOST_MB
        print(f"{what}: {'within' if fine else 'NOT within'} {MOST_S:g} s (slowest {slowest:.1f} s) and {MOST_MB:g} MB")


def write(folder: Path, pairs: int) -> None:
    """A candidate whose tokens take 2 % longer; 0.2 % of requests fail."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    seconds = pairs / RATE / 2
    plans = tuple(StagePlan(n, "paired", "poisson", seconds * 1.05, 0.5, rate=RATE) for n in range(2))
    stages, begin_s = factory.stage_records(plans=plans), 0.0
    with pq.ParquetWriter(folder / "samples.parquet", SAMPLES, compression="zstd") as writer:
        for stage in stages:
            begin_s = stage.begin_ns / 1e9
            for at in range(0, pairs // 2, PIECE):
                n = min(PIECE, pairs // 2 - at)
                due_s = begin_s + np.cumsum(rng.exponential(1 / RATE, n))
                begin_s = float(due_s[-1])
                numbers = np.arange(at, at + n) + (stage.plan.index << 32)
                writer.write_table(_piece(rng, stage.plan.index, np.repeat(due_s, 2), np.repeat(numbers, 2)))
    pq.write_table(factory.readings(begin_s), folder / "readings.parquet", compression="zstd")
    # Last: a run that has it is whole.
    (folder / "run.json").write_text(
        json.dumps(factory.meta(stages, "slower") | {"gates": [asdict(gate) for gate in GATES]})
    )


def _piece(
    rng: np.random.Generator, stage: int, due_s: npt.NDArray[np.float64], pair: npt.NDArray[np.int64]
) -> pa.Table:
    n = len(due_s)
    arm = np.arange(n) % 2
    tokens = np.repeat(rng.integers(2, 200, n // 2), 2)
    due = (due_s * 1e9).astype(np.int64)
    sent = due + (rng.exponential(2e-5, n) * 1e9).astype(np.int64)
    first = sent + (0.03 * rng.lognormal(0, 0.4, n) * 1e9).astype(np.int64)
    done = first + ((tokens - 1) * 0.008 * (1 + 0.02 * arm) * rng.lognormal(0, 0.05, n) * 1e9).astype(np.int64)
    kind = np.where(rng.random(n) < 0.002, rng.integers(1, len(KINDS) + 1, n), 0)
    failed = kind > 0
    status, error, code = zip(("ok", "", "OK"), *KINDS, strict=True)
    words = {
        "arm": (["baseline", "candidate"], arm), "version": (["1", "2"], arm), "assignment": (["plan"], arm * 0),
        "status": (status, kind), "error": (error, kind), "code": (code, kind), "model": (["llm"], arm * 0),
        "finish_reason": (["length", ""], failed.astype(np.int64)), "server": (["127.0.0.1:8001"], arm * 0),
    }  # fmt: skip
    numbers = {
        "pair_id": pair, "due_ns": due, "sent_ns": sent, "first_ns": np.where(failed, -1, first), "done_ns": done,
        "stage": arm * 0 + stage, "worker": arm * 0, "isl": arm * 0 + 64, "osl": np.where(failed, -1, tokens),
    }  # fmt: skip
    order = np.argsort(done, kind="stable")
    columns = []
    for name, type_ in zip(SAMPLES.names, SAMPLES.types, strict=True):
        if name == "request_id":
            ids = (pa.array(part[order]).cast(pa.string()) for part in (pair, arm))
            columns.append(pc.binary_join_element_wise(*ids, "-"))
        elif type_ == pa.string():
            texts, which = words.get(name, ([""], arm * 0))
            columns.append(pa.array(texts).take(pa.array(which[order])))
        else:
            columns.append(pa.array(numbers[name][order], type_))
    return pa.table(columns, schema=SAMPLES)


if __name__ == "__main__":
    main()
