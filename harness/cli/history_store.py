"""history add, list: what is in it."""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path
from typing import Any

from harness.cli.command import Commands, add
from harness.cli.console import stderr, stdout
from harness.cli.history_options import add_commit, add_place, history_of, tell_damaged
from harness.errors import UsageError
from harness.history.arrow import rows_with
from harness.history.entry import measures_of
from harness.history.fingerprint import in_words
from harness.history.series import in_words as measured_in_words
from harness.report.words import one_line
from harness.run.history import entry, is_history, open_history


def add_commands(actions: Commands) -> None:
    keep = add(
        actions, "add", _add, "add runs to the history; the same run twice counts once",
        "triton-canary history add reports/20260101T120000Z-fp8-canary --commit 1a2b3c4 --branch main\n"
        "  triton-canary history add reports/*-nightly --history s3://ci-cache/llm\n"
        "  triton-canary history add other-job/.triton-canary/history",
    )  # fmt: skip
    keep.add_argument(
        "runs", nargs="+", metavar="RUN",
        help="the folder of a run, a recording as `judge` takes it, or another history, whose runs are added",
    )  # fmt: skip
    add_place(keep)
    add_commit(keep)
    keep.add_argument(
        "--branch", default="", metavar="NAME", help="its branch (default: as CI says, else what is checked out)"
    )

    show = add(
        actions, "list", _list, "show the runs of the history, the newest first",
        "triton-canary history list --most 20",
    )  # fmt: skip
    add_place(show)
    show.add_argument("--branch", default="", metavar="NAME", help="only runs of this branch (default: all)")
    show.add_argument("--most", type=_count, default=40, metavar="N", help="so many at most; 0: all (default 40)")
    show.add_argument("--json", action="store_true", help="one JSON document on stdout, with the figures")


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number from 0 up, found {text}")
    return int(text)


def _add(args: argparse.Namespace) -> int:
    history = history_of(args)
    others = [run for run in args.runs if run.startswith("s3://") or is_history(Path(run))]
    paths = [Path(run) for run in args.runs if run not in others]
    if missing := next((path for path in paths if not path.exists()), None):
        raise UsageError(f"{missing}: no such file or folder")
    entries = [entry(path, os.environ, commit=args.commit, branch=args.branch) for path in paths]
    new, damaged = history.add(entries, time.time_ns() // 1000, said=bool(args.commit or args.branch))
    tell_damaged(damaged)
    merged = 0
    for other in others:
        count, bad = history.merge(open_history(other))
        merged += count
        tell_damaged(bad)
    for one in new:
        if one.unfit:
            stderr().print(one_line(f"{one.name} is kept, and does not count: {one.unfit}"), markup=False)
    already = len(entries) - len(new)
    told = [f"{len(new) + merged} added to {history.place.where}"]
    told += [f"{already} there already"] if already else []
    stdout().print("; ".join(told), markup=False)
    return 0


def _list(args: argparse.Namespace) -> int:
    history = history_of(args)
    contents = history.read()
    tell_damaged(contents.damaged)
    found = rows_with(contents.table, "branch", args.branch) if args.branch else contents.table
    found = found.sort_by([("started_utc", "descending"), ("run", "ascending")])
    shown = (found.slice(0, args.most) if args.most else found).to_pylist()
    if args.json:
        print(json.dumps({"history": args.history, "runs": [_document(row) for row in shown]}, indent=2))
        return 0
    lines = [("started", "commit", "branch", "verdict", "run", "")]
    for row in shown:
        note = f"does not count: {row['unfit']}" if row["unfit"] else ""
        lines.append((row["started_utc"][:16], row["commit"][:10], row["branch"], row["verdict"], row["name"], note))
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    for line in lines:
        # Text goes through `one_line`: names come from elsewhere, and steer no terminal.
        told = "  ".join(one_line(cell).ljust(width) for cell, width in zip(line, widths, strict=True))
        stdout().print(told.rstrip(), markup=False)
    stdout().print(f"{len(shown)} of {found.num_rows} runs in {history.place.where}", markup=False)
    return 0


def _document(row: dict[str, Any]) -> dict[str, Any]:
    measures = measures_of(row["measures"])
    figures = [
        {
            "metric": one.metric, "stage": one.stage, "unit": one.unit, "effect_unit": one.effect_unit,
            **{name: _known(row[name][place]) for name in ("value", "baseline", "effect", "low", "high")},
        }
        for place, one in enumerate(measures)
    ]  # fmt: skip
    definition, fingerprint = json.loads(row["definition"]), json.loads(row["fingerprint"])
    return {
        "run": row["run"],
        **{name: row[name] for name in ("name", "started_utc", "commit", "branch", "verdict")},
        "counts": not row["unfit"],
        "unfit": row["unfit"],
        "series": row["series"],
        "measured": measured_in_words(definition),
        "fingerprint": fingerprint,
        "fingerprint_words": in_words(fingerprint),
        "figures": figures,
    }


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None  # NaN is unknown, and JSON has none
