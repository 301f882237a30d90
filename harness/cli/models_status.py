"""models status: what serves, and what would not survive a restart."""

from __future__ import annotations

import argparse
import json

from rich.table import Table

from harness.cli.command import Commands, add
from harness.cli.console import stdout
from harness.cli.models_options import add_site, site_of
from harness.errors import Unreachable
from harness.run.models import Status, status

REASON_WIDTH = 80


def add_commands(commands: Commands) -> None:
    show = add(
        commands, "status", _status, "show what serves, and what a restart would change; changes nothing",
        "triton-canary models status llm --url grpc://host:8001 --repository /models",
    )  # fmt: skip
    show.add_argument("model", nargs="?", help="only this one")
    show.add_argument("--json", action="store_true", help="one JSON document on stdout")
    add_site(show)


def _status(args: argparse.Namespace) -> int:
    with site_of(args) as site:
        found = status(site, args.model)
    if args.json:
        print(json.dumps(found.document, indent=1))
    else:
        _show(found)
    return Unreachable.exit_code if any(server.error for server in found.servers) else 0


def _show(found: Status) -> None:
    console = stdout()
    for server in found.servers:
        ready = [f"{model.model} {_listed(model.ready)}" for model in server.models if model.ready]
        says = "unreachable" if server.error else "ready" if server.ready else "NOT ready as a whole"
        console.print(f"{server.url}: {says}; READY versions: {'; '.join(ready) or 'none'}", markup=False)
        table = Table("model", "version", "state", "requests", "reason", box=None, pad_edge=False)
        for model in server.models:
            for version in model.versions:
                requests = "" if version.requests is None else str(version.requests)
                table.add_row(model.model, str(version.version), version.state, requests, _short(version.reason))
            if not model.versions:
                table.add_row(model.model, "-", "not loaded", "", "")
        if server.models:
            console.print(table)
    for warning in found.warnings:
        console.print(f"! {warning}", markup=False)


def _short(reason: str) -> str:
    return reason if len(reason) <= REASON_WIDTH else f"{reason[: REASON_WIDTH - 3]}..."


def _listed(versions: tuple[int, ...]) -> str:
    return ", ".join(map(str, versions))
