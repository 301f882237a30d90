"""history check, report: what it says."""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.text import Text

from harness.cli import ci
from harness.cli.command import Commands, add
from harness.cli.console import stderr, stdout
from harness.cli.history_options import add_commit, add_place, add_which, history_of, tell_damaged
from harness.errors import UsageError
from harness.files import atomic_write
from harness.history.entry import Entry
from harness.history.review import Review, review
from harness.history.runs import COLUMNS, series_of
from harness.history.timelines import short
from harness.report import words
from harness.report.history_markdown import WORD, history_markdown
from harness.report.terminal import COLOR
from harness.run.history import entry
from harness.units import parse_points, parse_relative


def add_commands(actions: Commands) -> None:
    ask = add(
        actions, "check", _check, "hold a run, or its repeats, against the last stable segment of the history",
        "triton-canary history check reports/20260101T120000Z-fp8-canary --smallest 5% --add",
    )  # fmt: skip
    ask.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="the folder of a run; several: its repeats")
    add_place(ask)
    add_which(ask)
    ask.add_argument(
        "--smallest", type=_share, default="5%", metavar="SHARE",
        help="the least effect that matters, of what was there (default 5%%)",
    )  # fmt: skip
    ask.add_argument(
        "--points", type=_points, default="1pp", metavar="POINTS",
        help="the same of shares, such as errors, in percentage points (default 1pp)",
    )  # fmt: skip
    ask.add_argument(
        "--alpha", type=_alpha, default="1%", metavar="SHARE",
        help="how often, at most, a run in which nothing changed is called worse, over all metrics (default 1%%)",
    )  # fmt: skip
    ask.add_argument(
        "--metric", action="append", default=[], metavar="NAME", help="only this one; repeatable (default: all)"
    )
    ask.add_argument("--add", action="store_true", help="then add the runs to the history")
    add_commit(ask)
    ask.add_argument("--json", action="store_true", help="one JSON document on stdout")
    ci.options(ask)

    draw = add(
        actions, "report", _report, "a page with a chart for each metric, and what changed between which commits",
        "triton-canary history report -o history.html",
    )  # fmt: skip
    add_place(draw)
    add_which(draw)
    draw.add_argument(
        "-o", "--output", type=Path, default=Path("history.html"), metavar="FILE", help="default history.html"
    )


def _check(args: argparse.Namespace) -> int:
    history = history_of(args)
    if missing := next((path for path in args.runs if not path.exists()), None):
        raise UsageError(f"{missing}: no such file or folder")
    named = [entry(path, os.environ, commit=args.commit) for path in args.runs]
    # A run that is named twice, or a copy of it, is no repeat.
    runs = list({one.run: one for one in named}.values())
    contents = history.read(COLUMNS, runs[0].series)
    tell_damaged(contents.damaged)
    found = series_of(contents.table, ignored=args.ignore, branch=args.branch)
    result = review(
        runs, found[0] if found else None, smallest=args.smallest, points=args.points, alpha=args.alpha,
        ignored=args.ignore, metrics=args.metric,
    )  # fmt: skip
    verdict = result.verdict
    name = f"{runs[0].definition.get('scenario')} history"
    if args.json:
        print(json.dumps(_document(result, runs), indent=2, allow_nan=False))
    else:
        _show(result, runs)
    # What was found is told in any case: a full disk takes nothing from it.
    if args.add:
        history.add(runs, time.time_ns() // 1000, said=bool(args.commit))
    ci.publish(args, verdict, {"scenario": {"name": name}}, lambda: history_markdown(name, verdict), args.runs[0])
    return verdict.exit_code


def _show(result: Review, runs: Sequence[Entry]) -> None:
    console, verdict = stdout(), result.verdict
    head = Text(f"{words.SIGN[verdict.verdict]} {WORD[verdict.verdict]}", style=f"bold {COLOR[verdict.verdict]}")
    repeats = words.one_line(runs[0].name) if len(runs) == 1 else f"{len(runs)} repeats"
    head.append(f"  {repeats} against {result.runs} runs", style="not bold default")
    console.print(head)
    console.print(Text(words.one_line(verdict.reason)))
    if verdict.verdict == "rollback":
        console.print(Text(_between(result.since, _commit(runs))))
    if verdict.needs:
        console.print(Text(f"What it would take: {verdict.needs}"))
    for finding in words.telling(verdict.findings):
        console.print(Text(f"{words.SIGN[finding.outcome]} {finding.outcome:12}  {words.one_line(finding.reason)}"))
    for name, shift in result.known:
        told = f"{name} became worse before, between {shift.after} and {shift.until}, from {shift.began[:10]} on"
        console.print(Text(f"  {words.one_line(told)}", style="dim"))


def _between(since: str, until: str) -> str:
    if since == until:
        return f"Of {words.one_line(until)}, as the run before: nothing is between them that was committed"
    return f"Between {words.one_line(since)} and {words.one_line(until)}"


def _commit(runs: Sequence[Entry]) -> str:
    return short(runs[-1].commit) or runs[-1].name


def _document(result: Review, runs: Sequence[Entry]) -> dict[str, Any]:
    verdict = result.verdict
    return {
        "format": 1,
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "needs": verdict.needs,
        "exit_code": verdict.exit_code,
        "runs": [{"name": run.name, "run": run.run, "commit": run.commit} for run in runs],
        "history": result.runs,
        "since": result.since,
        "findings": [_known(asdict(finding)) for finding in verdict.findings],
        "became_worse_before": [
            {"metric": name, "after": shift.after, "until": shift.until, "began": shift.began,
             "before": shift.change.before, "now": shift.change.after}
            for name, shift in result.known
        ],
    }  # fmt: skip


def _known(value: Any) -> Any:
    """JSON has no infinity, and no number that is none."""
    if isinstance(value, dict):
        return {key: _known(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_known(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _report(args: argparse.Namespace) -> int:
    history = history_of(args)
    contents = history.read(COLUMNS)
    tell_damaged(contents.damaged)
    if not contents.table.num_rows:
        raise UsageError(f"{history.place.where}: there are no runs in this history yet: triton-canary history add RUN")
    # What only this takes: matplotlib, and the search for changes.
    from harness.history.timelines import timelines
    from harness.report.history import history_page

    found = timelines(series_of(contents.table, ignored=args.ignore, branch=args.branch))
    atomic_write(args.output, history_page(found, contents.damaged).encode())
    stderr().print(str(args.output), markup=False)
    return 0


def _share(text: str) -> float:
    return _above_nothing(parse_relative, text)


def _alpha(text: str) -> float:
    found = _above_nothing(parse_relative, text)
    if found >= 0.5:
        raise argparse.ArgumentTypeError(f"expected a share below 50% such as 1%, found {text}")
    return found


def _points(text: str) -> float:
    return _above_nothing(parse_points, text)


def _above_nothing(parse: Callable[[str], float], text: str) -> float:
    try:
        found = parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if not found:
        raise argparse.ArgumentTypeError(f"expected more than nothing, found {text}")
    return found
