"""run, recover: the commands that touch the world; what `gate` shares with them."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness import scenario
from harness.cli import ci
from harness.cli.command import Commands, add
from harness.cli.console import stderr, stdout
from harness.cli.live import add_option, following
from harness.cli.screen import Screen
from harness.cli.working import TOKEN, token_of
from harness.embedded import runs_on, uses_gpu
from harness.errors import UsageError
from harness.load import DEFAULT_PORT, LOOPBACK, Listen, new_token
from harness.recording import is_operation, read_meta
from harness.report import operation_summary, terminal
from harness.run.checkout_target import Comparison
from harness.run.execute import execute
from harness.run.operations.demonstration import models_of
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
    common(run)
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

    back = add(
        commands, "recover", _recover, "after a crash: put traffic and models back, make the recording whole",
        "triton-canary recover reports/20260101T120000Z-fp8-canary",
    )  # fmt: skip
    back.add_argument("folder", type=Path, help="the folder of the run")


def common(command: argparse.ArgumentParser) -> None:
    """The options of every command that runs something."""
    command.add_argument("--out", type=Path, default=Path("reports"), metavar="DIR", help="default: reports/")
    command.add_argument("--seed", type=int, help="fixes due times, arms and prompts; default: the scenario's")
    command.add_argument("--json", action="store_true", help="print verdict.json on stdout instead of the summary")
    add_option(command)
    ci.options(command)


def _run(args: argparse.Namespace) -> int:
    wanted = scenario.load(args.scenario, args.set, seed=args.seed, url=args.url, workers=args.workers)
    if isinstance(wanted, Operation):
        if args.master is not None:
            raise UsageError(f"{wanted.name} sends its load from here: --master is for scenarios that compare")
        if args.resume is not None:
            raise UsageError(f"{wanted.name} cannot be resumed: run it again, it finds how far things are")
    _say_where(wanted)
    if isinstance(wanted, Operation):
        return _operate(wanted, args)
    return executed(wanted, args, None if args.master is None else _listen(args.master))


def _say_where(wanted: Scenario | Operation) -> None:
    """Where the embedded models run, if a GPU can be of use to them: its speed is another, and so is its arithmetic."""
    if isinstance(wanted, Operation):
        embedded, models = wanted.embedded, models_of(wanted)
    else:
        embedded, models = wanted.target.server is not None, tuple(arm.model for arm in wanted.arms.values())
    if embedded and any(uses_gpu(model) for model in models):
        stderr().print(f"the models run {runs_on()}", markup=False)


def _listen(address: str) -> Listen:
    given = token_of(None)
    listen = Listen.at(address, given or new_token())
    if not given:
        host = "HOST" if listen.host in ("", "0.0.0.0") else listen.host
        command = f"{TOKEN}={listen.token} triton-canary worker --master {host}:{listen.port}"
        stderr().print(f"on each other host: {command}", markup=False, soft_wrap=True)
    return listen


def executed(
    wanted: Scenario, args: argparse.Namespace, listen: Listen | None = None, comparison: Comparison | None = None
) -> int:
    """Runs it, shows what came of it, and tells whom the options name. The exit code."""
    with following(args) as begun, Screen() as screen:
        resume = getattr(args, "resume", None)
        result = execute(wanted, args.out, screen.observe, screen.say, listen, resume, begun, comparison)
    if result.error:
        stderr().print(f"triton-canary: {result.error}", markup=False)
    _show(result.verdict, result.folder, as_json=args.json)
    ci.publish_run(args, result.verdict, result.folder)
    return result.exit_code


def _operate(wanted: Operation, args: argparse.Namespace) -> int:
    console = stderr()
    with following(args) as begun:
        result = operate(wanted, args.out, lambda line: console.print(line, markup=False), begun)
    if result.error:
        console.print(f"triton-canary: {result.error}", markup=False)
    _show(result.verdict, result.folder, as_json=args.json)
    ci.publish_run(args, result.verdict, result.folder)
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
        stdout().print(terminal.summary(verdict, read_meta(folder), folder))
