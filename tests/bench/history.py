"""How long `history check` and `history report` take on a history of 100,000 runs, as processes of their own.

    python -m tests.bench.history [--runs 100000] [--series 5] [--metrics 10] [--times 3] [--folder DIR]

Runs of several nightly series, each with as many metrics and as many effects against the baseline (so 20 figures a run
with 10 metrics), 3 % noise, and a few steps. The peer, in the same run: the same figures in SQLite, one row a run and
metric, with an index on what is asked for; timed as a process that reads one series, and all of them, and does nothing
else. One JSON line at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from harness.history.entry import measure_json
from harness.history.place import FolderPlace
from harness.history.table import NUMBERS, SCHEMA, name_of, sorted_table, to_bytes
from harness.run.history import entry
from tests.history.factory import LEVELS, run_folder, started

_PEER = """
import sqlite3, sys, numpy
rows = sqlite3.connect(sys.argv[1]).execute(
    "select metric, started, value, effect from figure" + (" where series = ?" if len(sys.argv) > 2 else "")
    + " order by series, metric, started", sys.argv[2:]).fetchall()
found = {}
for metric, started, value, effect in rows:
    found.setdefault(metric, []).append((value, effect))
print(sum(len(numpy.asarray(one)) for one in found.values()))
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=100_000)
    options.add_argument("--series", type=int, default=5)
    options.add_argument("--metrics", type=int, default=10)
    options.add_argument("--times", type=int, default=3)
    options.add_argument("--folder", type=Path, help="keep the history here, and use it again")
    args = options.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="history-bench-"))
    try:
        told = measure(folder, args)
    finally:
        if args.folder is None:
            shutil.rmtree(folder)
    print(json.dumps(told))


def measure(folder: Path, args: argparse.Namespace) -> dict[str, float]:
    last = _run(folder, 0, args.runs // args.series + 1, args.metrics, {})
    kept, peer = folder / "history", folder / "peer.sqlite"
    if not kept.exists():
        _fill(folder, kept, peer, args)
    page = folder / "history.html"
    history = ["history", "check", str(last), "--history", str(kept)]
    report = ["history", "report", "--history", str(kept), "-o", str(page)]
    key = entry(last, {}, commit="x", branch="x").series
    command = [sys.executable, "-m", "harness.cli"]
    told = {
        "runs": args.runs,
        "figures": 2 * args.metrics * args.runs,
        **_timed("check", [*command, *history], args.times),
        **_timed("report", [*command, *report], args.times),
        **_timed("sqlite_one_series", [sys.executable, "-c", _PEER, str(peer), key], args.times),
        **_timed("sqlite_all", [sys.executable, "-c", _PEER, str(peer)], args.times),
        "page_mb": page.stat().st_size / 1e6,
        "history_mb": sum(file.stat().st_size for file in kept.iterdir()) / 1e6,
        "sqlite_mb": peer.stat().st_size / 1e6,
    }
    told["check_to_sqlite"] = told["check_s"] / told["sqlite_one_series_s"]
    told["report_to_sqlite"] = told["report_s"] / told["sqlite_all_s"]
    return {name: round(value, 3) for name, value in told.items()}


def _timed(name: str, command: list[str], times: int) -> dict[str, float]:
    """Median seconds of the clock, and of the CPUs."""
    walls, cpus = [], []
    for _ in range(times):
        before, begun = os.times(), time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        walls.append(time.perf_counter() - begun)
        after = os.times()
        cpus.append(after.children_user + after.children_system - before.children_user - before.children_system)
        if done.returncode not in (0, 1, 3):
            raise SystemExit(done.stderr)
        sys.stderr.write(f"{name}: {walls[-1]:.2f} s, {cpus[-1]:.2f} s of CPU; {done.stdout[:160]!r}\n")
    return {f"{name}_s": statistics.median(walls), f"{name}_cpu_s": statistics.median(cpus)}


def _names(metrics: int) -> list[str]:
    return [*LEVELS, *(f"quality.score.{number}" for number in range(metrics))][:metrics]


def _run(folder: Path, number: int, night: int, metrics: int, scenario: dict[str, str]) -> Path:
    """The folder of one run of series `number`."""
    values = {name: LEVELS.get(name, 0.9) for name in _names(metrics)}
    place = folder / f"run-{number}"
    if place.exists():
        shutil.rmtree(place)
    base = {name: value or 0.001 for name, value in values.items()}
    return run_folder(folder, night, values, baseline=base, name=place.name, **_scenario(number))


def _scenario(number: int) -> dict[str, object]:
    from tests.history.factory import meta

    about = meta(0)["scenario"]
    return {"scenario": {**about, "name": f"nightly-{number}"}}


def _fill(folder: Path, kept: Path, peer: Path, args: argparse.Namespace) -> None:
    """As after years of `add`: a few packs, large and small, and some single runs."""
    random, place = np.random.default_rng(1), FolderPlace(kept)
    each = args.runs // args.series
    tables = []
    with closing(sqlite3.connect(peer)) as database:
        database.execute("create table figure (series, metric, started, run, value, effect)")
        for number in range(args.series):
            one = entry(_run(folder, number, 0, args.metrics, {}), {}, commit="x", branch="main")
            level = np.asarray([figure.value for figure in one.figures])
            values = level * np.exp(0.03 * random.normal(size=(each, len(level))))
            for at in sorted(random.integers(each // 10, each, 4)):
                values[at:, random.integers(0, len(level), 3)] *= random.choice([0.9, 1.1])
            effects = values / np.where(level == 0, 1, level)
            begun = [started(night) for night in range(each)]
            runs = [f"{number:04x}{night:028x}" for night in range(each)]
            texts = {
                "run": runs, "digest": runs, "name": [f"run {night}" for night in range(each)], "started_utc": begun,
                "commit": [f"{night:040x}" for night in range(each)],
            }  # fmt: skip
            same = {
                "series": one.series, "branch": "main", "verdict": "promote", "unfit": "",
                "definition": json.dumps(one.definition), "fingerprint": json.dumps(one.fingerprint),
                "measures": measure_json(one.measures),
            }  # fmt: skip
            lists = {"value": values, "effect": effects, "low": effects * 0.98, "high": effects * 1.02}
            columns = {**texts, "added_us": list(range(each)), **{name: [text] * each for name, text in same.items()}}
            offsets = pa.array(np.arange(0, values.size + 1, len(level), dtype=np.int32))
            for name in NUMBERS:
                flat = lists.get(name, np.broadcast_to(level, values.shape)).ravel()
                columns[name] = pa.ListArray.from_arrays(offsets, pa.array(flat))
            tables.append(pa.table(columns, schema=SCHEMA))
            names = [measure.name for measure in one.measures]
            database.executemany(
                "insert into figure values (?, ?, ?, ?, ?, ?)",
                (
                    (one.series, name, begun[row], runs[row], values[row, column], effects[row, column])
                    for row in range(each)
                    for column, name in enumerate(names)
                ),
            )
        database.execute("create index asked on figure (series, metric, started)")
        database.commit()
    whole = pa.concat_tables(tables)
    order = random.permutation(len(whole))
    cuts = [0, len(whole) * 3 // 4, len(whole) * 15 // 16, len(whole) - 20, *range(len(whole) - 19, len(whole) + 1)]
    for begin, end in pairwise(cuts):
        part = whole.take(pa.array(order[begin:end]))
        place.put(name_of(part), to_bytes(sorted_table(part)))


if __name__ == "__main__":
    main()
