"""judge, report: from a recording, offline and as often as one likes.

What only some calls need, a run's rooms and scenarios, is imported by those: it takes longer than to judge most
recordings.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from harness.cli import ci
from harness.cli.command import Commands, add
from harness.cli.console import stderr, stdout
from harness.errors import UsageError
from harness.judge import (
    MOST_SAMPLES,
    Evidence,
    evidence_of,
    evidence_over_time,
    judge,
    judge_operation,
    normalise,
    replay,
    second_opinion,
    verdict_json,
)
from harness.recording import Recording, is_operation, read_meta, read_observations, read_table
from harness.report import draw_opinion, looks_table, operation_summary, render, render_operation, terminal
from harness.report.markdown import markdown
from harness.report.operation import operation_markdown
from harness.types import Gate, Look, Verdict

LEAST_LOOK_S = 1.0


def add_commands(commands: Commands) -> None:
    again = add(
        commands, "judge", _judge,
        "judge a recording again, offline: a run's folder, anybody's samples.parquet, or what another tool recorded",
        "triton-canary judge reports/20260101T120000Z-fp8-canary --json\n"
        "  triton-canary judge samples.parquet --rules rules.yaml --looks 10s --second-opinion kayenta\n"
        "  triton-canary judge --baseline v1/profile_export.jsonl --candidate v2/profile_export.jsonl",
    )  # fmt: skip
    again.add_argument(
        "path", type=Path, nargs="?",
        help="the folder of a run, a samples.parquet, a sketches.parquet with its sums.parquet beside it, or a file of "
        "k6 or Locust in which the words baseline and candidate tell the arms apart",
    )  # fmt: skip
    for arm in ("baseline", "candidate"):
        again.add_argument(
            f"--{arm}", type=Path, metavar="FILE",
            help=f"the {arm}'s run, in place of a path: a samples.parquet, or a file of AIPerf, perf_analyzer, k6 or "
            "Locust",
        )  # fmt: skip
    again.add_argument("--rules", type=Path, help="a YAML file with a `gates:` list, instead of the run's own rules")
    again.add_argument(
        "--looks", metavar="TIME",
        help="look every so often, such as 10s, and stop a stage at the first look that decides; default: once, at the "
        "end",
    )  # fmt: skip
    again.add_argument(
        "--second-opinion", choices=["kayenta"],
        help="what another judge would have said of the same recording, and why; it changes nothing",
    )  # fmt: skip
    again.add_argument("--json", action="store_true", help="print verdict.json on stdout")
    ci.options(again)

    report = add(
        commands, "report", _report, "render the report of a run again",
        "triton-canary report reports/20260101T120000Z-fp8-canary",
    )  # fmt: skip
    report.add_argument("folder", type=Path, help="the folder of a run")
    ci.options(report)


def _judge(args: argparse.Namespace) -> int:
    if args.path is not None and is_operation(args.path) and not (args.baseline or args.candidate):
        return _judge_operation(args)
    recording = _recording(args)
    gates = _rules(args.rules) if args.rules else None
    if args.looks is not None or args.second_opinion:
        evidence = _by_request(recording, gates)
    else:
        evidence = evidence_of(recording, gates)
    looks: Sequence[Look] = ()
    if args.looks is None:
        verdict = judge(evidence)
    else:
        replayed = replay(evidence, _step_ns(args.looks))
        verdict, looks, evidence = replayed.verdict, replayed.looks, replayed.evidence
    if args.path is not None and args.path.is_dir() and not args.rules and args.looks is None:
        # With other rules or looks it is a question about the run, not the run's verdict.
        from harness.run.conclude import write_verdict

        write_verdict(args.path, verdict, recording)
    opinion = second_opinion(evidence, verdict) if args.second_opinion else None
    folder = args.path if args.path is not None and args.path.is_dir() else None
    ci.publish(args, verdict, recording.meta, lambda: markdown(recording, verdict), folder)
    if args.json:
        print(verdict_json(verdict, recording.meta, opinion), end="")
        return verdict.exit_code
    console = stdout()
    console.print(terminal.summary(verdict, recording.meta, None))
    if looks:
        console.print(looks_table(looks))
    if opinion:
        console.print(draw_opinion(opinion))
    return verdict.exit_code


def _rules(path: Path) -> tuple[Gate, ...]:
    from harness import scenario

    return scenario.load_rules(path)


def _by_request(recording: Recording, gates: Sequence[Gate] | None) -> Evidence:
    """What takes requests one by one, however many there are."""
    if recording.sketches is not None:
        raise UsageError("--looks and --second-opinion take samples, and this recording has sketches only")
    evidence = Evidence.of(recording.whole())
    return evidence if gates is None else replace(evidence, gates=normalise(gates))


def _recording(args: argparse.Namespace) -> Recording:
    """Of one path, or of two runs."""
    if args.path is not None and not args.baseline and not args.candidate:
        return Recording.open(args.path, most=MOST_SAMPLES)
    if args.path is None and args.baseline and args.candidate:
        return Recording.of_runs(args.baseline, args.candidate)
    raise UsageError("judge: give a path, or both --baseline FILE and --candidate FILE")


def _step_ns(text: str) -> int:
    """Between two looks; UsageError if it is no duration, or too short for what a look takes."""
    from harness.units import parse_duration

    try:
        step_s = parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--looks {text}: {error}") from error
    if step_s < LEAST_LOOK_S:
        raise UsageError(f"--looks {text}: expected {LEAST_LOOK_S:g}s or more between two looks")
    return round(step_s * 1e9)


def _judge_operation(args: argparse.Namespace) -> int:
    if args.rules:
        raise UsageError(f"{args.path}: is an operation, and operations have no rules to choose")
    if args.looks is not None or args.second_opinion:
        raise UsageError(f"{args.path}: is an operation; --looks and --second-opinion are for runs that compare arms")
    from harness.run.operations.conclude import judge_again

    verdict, meta = judge_again(args.path)
    ci.publish(args, verdict, meta, lambda: operation_markdown(meta, read_observations(args.path), verdict), args.path)
    if args.json:
        print(verdict_json(verdict, meta), end="")
    else:
        stdout().print(operation_summary(verdict, meta, None))
    return verdict.exit_code


def _report_operation(args: argparse.Namespace) -> int:
    folder: Path = args.folder
    observations = read_observations(folder)
    verdict = judge_operation(observations, partial(read_table, folder))
    for path in render_operation(read_meta(folder), observations, verdict, folder):
        stderr().print(str(path), markup=False)
    ci.publish_run(args, verdict, folder)
    return 0


def _report(args: argparse.Namespace) -> int:
    if not args.folder.is_dir():
        raise UsageError(f"{args.folder}: give the folder of a run")
    if is_operation(args.folder):
        return _report_operation(args)
    recording = Recording.open(args.folder, most=MOST_SAMPLES)
    evidence = evidence_of(recording)
    verdict: Verdict = judge(evidence)
    for path in render(recording, verdict, args.folder, evidence_over_time(evidence, verdict)):
        stderr().print(str(path), markup=False)
    ci.publish_run(args, verdict, args.folder)
    return 0
