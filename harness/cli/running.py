"""run, gate, recover: the commands that touch the world."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness import scenario
from harness.cli.command import Commands, add
from harness.cli.console import stderr, stdout
from harness.cli.screen import Screen
from harness.cli.working import TOKEN, token_of
from harness.errors import UsageError
from harness.load import DEFAULT_PORT, LOOPBACK, Listen, new_token
from harness.recording import Recording, is_operation, read_meta
from harness.report import operation_summary, terminal
from harness.run.execute import execute
from harness.run.operations.operate import operate
from harness.run.recover import recover
from harness.scenario import Operation, Scenario
from harness.types import Verdict


def add_commands(commands: Commands) -> None:
    run = add(
        commands, "run", _run, "run a scenario: load, compare, judge, act, report",
        "triton-canary run fp8-canary --set candidate.build=slow --seed 7",
    )  # fmt: skip
    run.add_argument("scenario", help="the name of a built-in scenario (see `scenarios`), or a file")
    run.add_argument("--url", help="use the Triton at this address (grpc://host:8001) instead of an embedded one")
    _common(run)
    run.add_argument(
        "--workers", type=int, metavar="N", help="load workers of each load, each with its share of the plan"
    )
    run.add_argument(
        "--master", nargs="?", const="", metavar="HOST:PORT",
        help="the workers come from other hosts (`triton-canary worker`) and are awaited here, by default at "
        f"{LOOPBACK}:{DEFAULT_PORT}; ${TOKEN}: what they must know, made up and printed where it is not set",
    )  # fmt: skip
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="A.B=V",
        help="override a value of the scenario; repeatable",
    )

    run.add_argument(
        "--resume", type=Path, metavar="DIR",
        help="go on with a run of this scenario that died on servers of yours: what it had completed counts",
    )  # fmt: skip

    gate = add(
        commands, "gate", _gate, "compare two versions that are served already; changes nothing on the server",
        "triton-canary gate --baseline grpc://host:8001/llm:1 --candidate grpc://host:8001/llm:2 "
        "--prompts prompts.jsonl --margin ttft.p50=10% --max memory.peak=90%",
    )  # fmt: skip
    gate.add_argument("--baseline", required=True, metavar="URL", help="scheme://host:port/model[:version]")
    gate.add_argument("--candidate", required=True, metavar="URL", help="the same for the version to be judged")
    gate.add_argument("--prompts", type=Path, help='JSON lines of {"prompt": "..."}; for models with text_input')
    gate.add_argument(
        "--margin", action="append", default=[], metavar="METRIC=M",
        help="a rule, such as ttft.p99=10%% or errors=1pp; repeatable; default: by the kind of model",
    )  # fmt: skip
    gate.add_argument(
        "--max", action="append", default=[], metavar="METRIC=M",
        help="a rule with a limit, such as memory.peak=90%% (of what the GPU has), memory.peak=40GiB or "
        "ttft.p99=500ms; repeatable",
    )  # fmt: skip
    gate.add_argument(
        "--metrics-url", action="append", default=[], metavar="URL",
        help="a metrics page of the servers (Triton's, a DCGM exporter's); without it the memory of another machine is "
        "not known; repeatable",
    )  # fmt: skip
    gate.add_argument("--for", dest="duration", default="60s", metavar="TIME", help="how long (default 60s)")
    gate.add_argument("--in-flight", type=int, default=1, metavar="N", help="pairs in flight (default 1)")
    gate.add_argument("--max-tokens", type=int, default=16, metavar="N", help="output tokens a request (default 16)")
    _common(gate)

    back = add(
        commands, "recover", _recover, "after a crash: put traffic and models back, make the recording whole",
        "triton-canary recover reports/20260101T120000Z-fp8-canary",
    )  # fmt: skip
    back.add_argument("folder", type=Path, help="the folder of the run")


def _common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=Path, default=Path("reports"), metavar="DIR", help="default: reports/")
    command.add_argument("--seed", type=int, help="fixes due times, arms and prompts; default: the scenario's")
    command.add_argument("--json", action="store_true", help="print verdict.json on stdout instead of the summary")


def _run(args: argparse.Namespace) -> int:
    wanted = scenario.load(args.scenario, args.set, seed=args.seed, url=args.url, workers=args.workers)
    if isinstance(wanted, Operation):
        if args.master is not None:
            raise UsageError(f"{wanted.name} sends its load from here: --master is for scenarios that compare")
        if args.resume is not None:
            raise UsageError(f"{wanted.name} cannot be resumed: run it again, it finds how far things are")
        return _operate(wanted, args)
    return _execute(wanted, args, None if args.master is None else _listen(args.master))


def _listen(address: str) -> Listen:
    given = token_of(None)
    listen = Listen.at(address, given or new_token())
    if not given:
        host = "HOST" if listen.host in ("", "0.0.0.0") else listen.host
        command = f"{TOKEN}={listen.token} triton-canary worker --master {host}:{listen.port}"
        stderr().print(f"on each other host: {command}", markup=False, soft_wrap=True)
    return listen


def _gate(args: argparse.Namespace) -> int:
    wanted = scenario.from_gate(
        args.baseline, args.candidate, prompts=args.prompts, margins=args.margin, limits=args.max,
        metrics=args.metrics_url, duration=args.duration, in_flight=args.in_flight, max_tokens=args.max_tokens,
        seed=args.seed,
    )  # fmt: skip
    return _execute(wanted, args)


def _execute(wanted: Scenario, args: argparse.Namespace, listen: Listen | None = None) -> int:
    with Screen() as screen:
        resume = getattr(args, "resume", None)
        result = execute(wanted, args.out, screen.observe, screen.say, listen, resume)
    if result.error:
        stderr().print(f"triton-canary: {result.error}", markup=False)
    _show(result.verdict, result.folder, as_json=args.json)
    return result.exit_code


def _operate(wanted: Operation, args: argparse.Namespace) -> int:
    console = stderr()
    result = operate(wanted, args.out, lambda line: console.print(line, markup=False))
    if result.error:
        console.print(f"triton-canary: {result.error}", markup=False)
    _show(result.verdict, result.folder, as_json=args.json)
    return result.exit_code


def _recover(args: argparse.Namespace) -> int:
    console = stderr()
    verdict, failures = recover(args.folder, lambda line: console.print(line, markup=False))
    for failure in failures:
        console.print(f"NOT PUT BACK: {failure}", markup=False)
    _show(verdict, args.folder, as_json=False)
    return 4 if failures else 0


def _show(verdict: Verdict, folder: Path, *, as_json: bool) -> None:
    if as_json:
        print((folder / "verdict.json").read_text(), end="")
        return
    if is_operation(folder):
        stdout().print(operation_summary(verdict, read_meta(folder), folder))
    else:
        stdout().print(terminal.summary(verdict, Recording.open(folder).meta, folder))
