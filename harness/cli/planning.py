"""check, scenarios: what would happen. They touch nothing."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from harness import scenario
from harness.cli.command import Commands, add
from harness.cli.console import stdout
from harness.cli.foreseeing import Known, known, lines
from harness.embedded import (
    available,
    embedding_available,
    envoy,
    gpu_available,
    haproxy,
    s3_available,
    weights_available,
)
from harness.ingress import open_ingress
from harness.scenario import Description, GateFacts, Operation


def add_commands(commands: Commands) -> None:
    check = add(
        commands, "check", _check, "validate a scenario and show its plan; touches nothing",
        "triton-canary check fp8-canary --set stages.0.for=30s",
    )  # fmt: skip
    check.add_argument("scenario", help="the name of a built-in scenario, or a file")
    check.add_argument("--seed", type=int, help="fixes due times, arms and prompts; default: the scenario's")
    check.add_argument("--set", action="append", default=[], metavar="A.B=V", help="override a value; repeatable")
    check.add_argument(
        "--from", dest="recording", type=Path, metavar="DIR",
        help="an earlier run, or a samples.parquet, by whose noise to say what can be shown; default: the last "
        "calibration's",
    )  # fmt: skip
    add(
        commands,
        "scenarios",
        _scenarios,
        "list the built-in scenarios and what each needs",
        "triton-canary scenarios",
    )


def _check(args: argparse.Namespace) -> int:
    wanted = scenario.load(args.scenario, args.set, seed=args.seed)
    for address in getattr(getattr(wanted, "ingress", None), "control", None) or ():
        open_ingress(address)  # sends nothing, and knows what can be in an address
    facts = scenario.describe(wanted)
    console = stdout()
    console.print(f"{facts.name}: {facts.summary}" if facts.summary else facts.name, markup=False)
    if facts.stages:
        workers = f", {facts.workers} workers" if facts.workers > 1 else ""
        console.print(f"{facts.duration_s:.0f} s of load, {facts.prompts} prompts, seed {facts.seed}{workers}")
        if facts.counted:
            console.print(f"lengths in tokens are those of {facts.counted}", markup=False)
    console.print()
    for number, step in enumerate(facts.steps, 1):
        console.print(f"{number:3}. {step}", markup=False)
    if not facts.gates:
        return 0
    console.print()
    table = Table("gate", "can it be answered?", box=None, pad_edge=False)
    for gate in facts.gates:
        table.add_row(gate.rule, f"{_sign(gate)} {gate.sentence}")
    console.print(table)
    if not isinstance(wanted, Operation):
        _foresee(console, facts, known(wanted, args.recording))
    return 0


def _foresee(console: Console, facts: Description, noise: Known) -> None:
    rows, rests_on = lines(facts, noise)
    if not rows:
        return
    console.print()
    table = Table("gate", "what can it show, in 80 % of such runs?", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if rests_on:
        console.print(rests_on, markup=False)


def _sign(gate: GateFacts) -> str:
    return {True: "yes:", False: "no:", None: "it depends:"}[gate.enough]


def _scenarios(_args: argparse.Namespace) -> int:
    problems = {
        scenario.EMBEDDED_TRITON: available(),
        scenario.LANGUAGE_MODEL: weights_available(),
        scenario.GPU: gpu_available(),
        scenario.EMBEDDING_MODEL: embedding_available(),
        scenario.EMBEDDED_S3: s3_available(),
        scenario.HAPROXY: haproxy.available(),
        scenario.ENVOY: envoy.available(),
    }
    table = Table("scenario", "what", "needs", "here", box=None, pad_edge=False)
    for found in scenario.built_in().values():
        missing = [problems[need] for need in found.needs if problems.get(need)]
        embedded = all(need in problems for need in found.needs)
        here = missing[0] if missing else "yes" if embedded else "with --url"
        table.add_row(found.name, found.summary, "; ".join(found.needs), here)
    stdout().print(table)
    return 0
