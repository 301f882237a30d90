"""calibrate: A/A on this rig, or of a recording: how often does the judge err here?"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from harness import scenario
from harness.cli.command import Commands, add
from harness.cli.console import stderr, stdout
from harness.cli.screen import Screen
from harness.errors import UsageError
from harness.judge import normalise
from harness.run.calibrate import calibrate, calibrate_recorded
from harness.run.calibrations import keep
from harness.scenario import Operation, Scenario
from harness.units import parse_duration

RUNS, RESAMPLES, LOOK_S = 20, 100, 5.0


def add_commands(commands: Commands) -> None:
    command = add(
        commands, "calibrate", _calibrate, "measure how often the judge errs on this rig: identical builds, many times",
        "triton-canary calibrate fp8-canary --runs 20 --dir reports/calibration",
    )  # fmt: skip
    command.description = (
        f"{command.description} A scenario is run with its baseline in both arms (what is in --dir already counts), or "
        "the requests of a recorded baseline are dealt to two arms by chance (--from). Published are the rates of "
        "false rollbacks, and of rollbacks and promotions of a candidate that is worse by exactly the margin, with "
        "their 95 % intervals. Later runs on the same target and model report them."
    )
    command.add_argument("scenario", nargs="?", help="a built-in scenario, or a file")
    command.add_argument("--url", help="a Triton that runs already; with --model, instead of a scenario")
    command.add_argument("--model", metavar="NAME:VERSION", help="what is served at --url")
    command.add_argument(
        "--from", dest="recording", type=Path, metavar="DIR", help="a run's folder, or anybody's samples.parquet"
    )
    command.add_argument("--runs", type=int, metavar="N", help=f"repetitions (default {RUNS}; {RESAMPLES} with --from)")
    command.add_argument("--looks", metavar="TIME", help="how often the judge looks (default 5s, with --from rarer)")
    command.add_argument(
        "--dir", type=Path, metavar="DIR", help="where the runs lie; default: reports/calibration-NAME"
    )
    command.add_argument("--out", type=Path, metavar="FILE", help="write the result there, too")
    command.add_argument("--rules", type=Path, help="with --from: a YAML file with a `gates:` list")
    command.add_argument("--set", action="append", default=[], metavar="A.B=V", help="override a value; repeatable")
    command.add_argument("--seed", type=int, help="of the first run; the others count on from it")
    command.add_argument("--prompts", type=Path, help='with --model: JSON lines of {"prompt": "..."}')
    command.add_argument("--margin", action="append", default=[], metavar="METRIC=M", help="with --model: a rule")
    command.add_argument("--for", dest="duration", default="60s", metavar="TIME", help="with --model: of each run")
    command.add_argument("--in-flight", type=int, default=1, metavar="N", help="with --model: pairs in flight")
    command.add_argument("--json", action="store_true", help="print the result as JSON on stdout")


def _calibrate(args: argparse.Namespace) -> int:
    if args.runs is not None and args.runs < 1:
        raise UsageError(f"--runs {args.runs}: expected at least 1")
    looks_s = _seconds(args.looks)
    console = stderr()
    if args.recording is not None:
        if args.scenario or args.model or args.url:
            raise UsageError("--from takes a recording in place of a scenario and of a server")
        rules = normalise(scenario.load_rules(args.rules)) if args.rules else ()
        found = calibrate_recorded(
            args.recording, args.runs or RESAMPLES, looks_s, args.seed or 1,
            lambda line: console.print(line, markup=False), rules,
        )  # fmt: skip
    else:
        wanted = _scenario(args)
        folder = args.dir or Path("reports") / f"calibration-{wanted.name}"
        with Screen() as screen:
            found = calibrate(wanted, folder, args.runs or RUNS, looks_s or LOOK_S, screen.observe, screen.say)
    path = keep(found, args.out)
    if args.json:
        print(json.dumps(found, indent=1, sort_keys=True))
        return 0
    _show(found)
    console.print(f"kept in {path}", markup=False)
    return 0


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--looks {text}: {error}") from error
    if seconds <= 0:
        raise UsageError(f"--looks {text}: expected a duration above 0")
    return seconds


def _scenario(args: argparse.Namespace) -> Scenario:
    if args.rules:
        raise UsageError("--rules is for --from: a scenario has gates of its own")
    if args.scenario:
        if args.model:
            raise UsageError("--model takes the place of a scenario: give one of them")
        wanted = scenario.load(args.scenario, args.set, seed=args.seed, url=args.url)
        if isinstance(wanted, Operation):
            raise UsageError(f"{wanted.name}: is no canary, and only a canary is calibrated")
        return wanted
    if not (args.url and args.model):
        raise UsageError("give a scenario, or --url and --model, or a recording (--from)")
    if args.set:
        raise UsageError("--set is for a scenario; with --model use --for, --in-flight, --margin and --prompts")
    name, _, version = args.model.partition(":")
    if not name or not version.isdecimal() or int(version) < 1:
        raise UsageError(f"--model {args.model}: expected NAME:VERSION such as llm:1")
    # A gate has two versions; the second is put aside before anything runs.
    url = args.url.rstrip("/")
    return scenario.from_gate(
        f"{url}/{name}:{version}", f"{url}/{name}:{int(version) + 1}", prompts=args.prompts, margins=args.margin,
        duration=args.duration, in_flight=args.in_flight, seed=args.seed,
    )  # fmt: skip


def _show(found: Mapping[str, Any]) -> None:
    console, total = stdout(), found["repetitions"]
    rolled = found["verdicts"]["rollback"]
    what = "A/A runs" if found["how"] == "runs" else "A/A pairs made of a recorded baseline"
    console.print(
        f"{found['of']}: {rolled['count']} of {total} {what} were rolled back {_interval(rolled)}", markup=False
    )
    console.print()
    table = Table(box=None, pad_edge=False)
    for name in ("gate", "margin", "rolled back", "at the margin: rolled back", "promoted"):
        table.add_column(name, no_wrap=name == "gate")
    for gate in found["gates"]:
        margin = gate["margin"] if gate["margin"] is not None else gate["limit"]
        unit = " pp" if gate["metric"] == "errors" else " %"
        shown = f"{margin * 100:.3g}{unit}" if gate["margin"] is not None else f"{margin:g}"
        rates = (gate["false_rollback"], gate["rollback_at_margin"], gate["false_promote"])
        table.add_row(gate["metric"], shown, *("–" if one is None else _rate(one) for one in rates))
    console.print(table)
    console.print()
    console.print("at the margin at most 1 % should be rolled back, and 5 % promoted; in brackets 95 %", markup=False)
    console.print(f"not seen by this: {found['cannot_see']}", markup=False)


def _rate(one: Mapping[str, Any]) -> str:
    return f"{one['count']} of {one['of']} {_interval(one)}" if one["of"] else "–"


def _interval(one: Mapping[str, Any]) -> str:
    return f"({one['low'] * 100:.2g} – {one['high'] * 100:.2g} %)"
