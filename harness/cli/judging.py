"""judge, report: from a recording, offline and as often as one likes."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from harness import scenario
from harness.cli.command import Commands, add
from harness.cli.screen import stderr, stdout
from harness.errors import UsageError
from harness.judge import Evidence, judge, judge_operation, normalise, verdict_json
from harness.recording import Recording, is_operation, read_meta, read_observations
from harness.report import operation_summary, render, render_operation, terminal
from harness.run import judge_again, write_verdict
from harness.types import Verdict


def add_commands(commands: Commands) -> None:
    again = add(
        commands, "judge", _judge, "judge a recording again, offline: a run's folder, or anybody's samples.parquet",
        "triton-canary judge reports/20260101T120000Z-fp8-canary --json",
    )  # fmt: skip
    again.add_argument("path", type=Path, help="the folder of a run, or a samples.parquet")
    again.add_argument("--rules", type=Path, help="a YAML file with a `gates:` list, instead of the run's own rules")
    again.add_argument("--json", action="store_true", help="print verdict.json on stdout")

    report = add(
        commands, "report", _report, "render the report of a run again",
        "triton-canary report reports/20260101T120000Z-fp8-canary",
    )  # fmt: skip
    report.add_argument("folder", type=Path, help="the folder of a run")


def _judge(args: argparse.Namespace) -> int:
    if is_operation(args.path):
        return _judge_operation(args)
    recording = Recording.open(args.path)
    evidence = Evidence.of(recording)
    if args.rules:
        evidence = replace(evidence, gates=normalise(scenario.load_rules(args.rules)))
    verdict = judge(evidence)
    if args.path.is_dir() and not args.rules:
        # With other rules it is a question about the run, not the run's verdict.
        write_verdict(args.path, verdict, recording)
    if args.json:
        print(verdict_json(verdict, recording.meta), end="")
    else:
        stdout().print(terminal.summary(verdict, recording.meta, None))
    return verdict.exit_code


def _judge_operation(args: argparse.Namespace) -> int:
    if args.rules:
        raise UsageError(f"{args.path}: is an operation, and operations have no rules to choose")
    verdict, meta = judge_again(args.path)
    if args.json:
        print(verdict_json(verdict, meta), end="")
    else:
        stdout().print(operation_summary(verdict, meta, None))
    return verdict.exit_code


def _report_operation(folder: Path) -> int:
    observations = read_observations(folder)
    for path in render_operation(read_meta(folder), observations, judge_operation(observations), folder):
        stderr().print(str(path), markup=False)
    return 0


def _report(args: argparse.Namespace) -> int:
    if not args.folder.is_dir():
        raise UsageError(f"{args.folder}: give the folder of a run")
    if is_operation(args.folder):
        return _report_operation(args.folder)
    recording = Recording.open(args.folder)
    verdict: Verdict = judge(Evidence.of(recording))
    for path in render(recording, verdict, args.folder):
        stderr().print(str(path), markup=False)
    return 0
