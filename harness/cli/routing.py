"""route show|set|rollback: the split at routers that are there already."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from harness.cli.command import Commands, add, duration
from harness.cli.console import stderr, stdout
from harness.errors import WorldError
from harness.run.routing import Moved, Shown, percent, rollback, set_share, show
from harness.run.signals import interruptible
from harness.types import ArmName
from harness.units import parse_share

_EXAMPLE = """triton-canary route rollback envoy+http://127.0.0.1:9901 --drain 10s

ADDRESS says which router, and what it calls the arms (baseline and candidate if it does not say). Quote it:
  haproxy+unix:///run/haproxy/admin.sock?backend=canary&baseline=v1&candidate=v2&headers=/etc/haproxy/experiment.map
  haproxy+tcp://127.0.0.1:9999?backend=canary
  envoy+http://127.0.0.1:9901?key=canary.candidate&baseline=v1&candidate=v2&headers=canary.header
  webhook+https://router.example/split      (a token for it: TRITON_CANARY_INGRESS_TOKEN)"""
_ARMS: tuple[ArmName, ArmName] = ("baseline", "candidate")
_HOW = {"turns": "in turns", "random": "by a draw for each request"}


def add_commands(commands: Commands) -> None:
    top = add(commands, "route", _none, "show and change which version a router's requests go to", _EXAMPLE)
    actions = top.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="command")

    look = add(
        actions, "show", _show, "show what routers say: the split, headers, requests; changes nothing",
        "triton-canary route show envoy+http://127.0.0.1:9901",
    )  # fmt: skip
    _addresses(look)
    look.add_argument("--json", action="store_true", help="one JSON document on stdout")

    change = add(
        actions, "set", _set, "give the candidate a share at every router named",
        "triton-canary route set envoy+http://127.0.0.1:9901 --candidate 10%",
    )  # fmt: skip
    _addresses(change)
    change.add_argument(
        "--candidate", type=_share, required=True, metavar="SHARE", help="the candidate's share, such as 10%% or 0.5%%"
    )

    back = add(
        actions, "rollback", _rollback, "give everything to the baseline at every router named, whatever a run left",
        "triton-canary route rollback 'haproxy+unix:///run/haproxy/admin.sock?backend=canary' --drain 10s --cut",
    )  # fmt: skip
    _addresses(back)
    back.add_argument(
        "--drain", type=duration, metavar="TIME", help="then wait until the candidate has answered what it has"
    )
    back.add_argument("--cut", action="store_true", help="then end what is left, where the router can (HAProxy)")


def _addresses(command: argparse.ArgumentParser) -> None:
    command.add_argument("address", nargs="+", metavar="ADDRESS", help="see triton-canary route --help")


def _show(args: argparse.Namespace) -> int:
    found = show(args.address)
    if args.json:
        print(json.dumps({"routers": [_document(each) for each in found]}, indent=1))
    else:
        for each in found:
            _print(each)
    for each in found:
        if each.error:
            _fail(each.error)
    return WorldError.exit_code if any(each.error for each in found) else 0


def _set(args: argparse.Namespace) -> int:
    with interruptible():
        moved = set_share(args.address, args.candidate)
    return _tell(moved, ["set"], ["--candidate", f"{100 * args.candidate:.6g}%"])


def _rollback(args: argparse.Namespace) -> int:
    drain_s = 0.0 if args.drain is None and args.cut else args.drain
    console = stderr()
    moved = rollback(args.address, lambda line: console.print(line, markup=False), drain_s=drain_s, cut=args.cut)
    options = ["--drain", f"{args.drain:g}s"] if args.drain is not None else []
    return _tell(moved, ["rollback"], [*options, *(["--cut"] if args.cut else [])])


def _tell(moved: Sequence[Moved], command: list[str], options: list[str]) -> int:
    """What is so now on stdout; a line for each router where it is not, with the command that finishes it."""
    for each in moved:
        for line in each.done:
            stdout().print(f"{each.address}: {line}", markup=False)
    for each in moved:
        if each.failures:
            finish = shlex.join(["triton-canary", "route", *command, each.address, *options])
            _fail(f"{'; '.join(each.failures)}; to finish: {finish}")
    return WorldError.exit_code if any(each.failures for each in moved) else 0


def _fail(line: str) -> None:
    stderr().print(f"triton-canary: {line}", markup=False)


def _document(shown: Shown) -> dict[str, Any]:
    said = asdict(shown.split) if shown.split is not None else {"candidate_share": None}
    return {"address": shown.address, "pattern": shown.pattern, **said, "error": shown.error or None}


def _print(shown: Shown) -> None:
    split, console = shown.split, stdout()
    if split is None or shown.pattern is None:
        console.print(f"{shown.address}: does not tell", markup=False)
        return
    how = _HOW[shown.pattern]
    console.print(f"{shown.address}: {percent(split.candidate_share)} to the candidate, {how}", markup=False)
    table = Table("arm", "share", "requests", "in flight", "state", box=None, pad_edge=False)
    for arm in _ARMS:
        share = split.candidate_share if arm == "candidate" else 1 - split.candidate_share
        counts = [str(counted[arm]) if counted is not None else "-" for counted in (split.requests, split.in_flight)]
        table.add_row(arm, percent(share), *counts, "DOWN" if arm in split.down else "")
    console.print(table)
    for value, arm in sorted(split.headers.items()):
        console.print(f"header {value}: to the {arm}", markup=False)


def _share(text: str) -> float:
    """For argparse."""
    try:
        return parse_share(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _none(_args: argparse.Namespace) -> int:
    raise AssertionError("argparse asks for a command")
