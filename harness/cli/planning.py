"""check, scenarios: what would happen. They touch nothing."""

from __future__ import annotations

import argparse

from harness import scenario
from harness.cli.command import Commands, add
from harness.cli.screen import stdout


def add_commands(commands: Commands) -> None:
    check = add(
        commands, "check", _check, "validate a scenario and show its plan; touches nothing",
        "triton-canary check fp8-canary --set stages.0.for=30s",
    )  # fmt: skip
    check.add_argument("scenario", help="the name of a built-in scenario, or a file")
    check.add_argument("--seed", type=int, help="fixes due times, arms and prompts; default: the scenario's")
    check.add_argument("--set", action="append", default=[], metavar="A.B=V", help="override a value; repeatable")
    add(commands, "scenarios", _scenarios, "list the built-in scenarios and what each needs", "triton-canary scenarios")


def _check(args: argparse.Namespace) -> int:
    raise SystemExit("filled in when scenario.describe lands")


def _scenarios(args: argparse.Namespace) -> int:
    raise SystemExit("filled in when scenario.built_in lands")
