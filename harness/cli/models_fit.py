"""models fit: whether a version fits into memory beside what serves, before it is loaded."""

from __future__ import annotations

import argparse
import json

from rich.table import Table

from harness.cli.command import Commands, add
from harness.cli.console import stdout
from harness.cli.models_options import add_needs, add_site, site_of, version
from harness.run.models import Fit, fits
from harness.run.models.fit import size
from harness.triton import check_on_disk

EXIT = {"fits": 0, "does not fit": 1, "unknown": 3}


def add_commands(commands: Commands) -> None:
    ask = add(
        commands, "fit", _fit, "say whether a version fits into memory beside what serves; loads nothing",
        "triton-canary models fit llm 2 --url grpc://localhost:8001 --repository /models --needs-memory 40GiB\n\n"
        "exit code: 0 it fits, 1 it does not, 3 that is not known",
    )  # fmt: skip
    ask.add_argument("model", help="its name in the repository")
    ask.add_argument("version", type=version, help="the one that would be loaded")
    ask.add_argument("--json", action="store_true", help="one JSON document on stdout")
    add_needs(ask)
    ask.add_argument("--server-pid", type=int, metavar="PID", help="whose memory is looked at, where it is not found")
    add_site(ask)


def _fit(args: argparse.Namespace) -> int:
    with site_of(args) as site:
        if site.repository is not None:
            check_on_disk(site.repository, args.model, [args.version])
        wanted = {control.url: [args.version] for control in site.servers}
        found = list(fits(site, args.model, wanted, stated=args.needs_memory))
    answers = {each.answer for each in found}
    answer = next(each for each in ("does not fit", "unknown", "fits") if each in answers)
    if args.json:
        document = {"model": args.model, "version": args.version, "answer": answer}
        print(json.dumps({**document, "servers": [each.document for each in found]}, indent=1))
    else:
        for each in found:
            _show(each)
    return EXIT[answer]


def _show(found: Fit) -> None:
    console = stdout()
    if found.rows:
        table = Table("device", "needed", "free", "of", "evidence", "answer", box=None, pad_edge=False)
        for row in found.rows:
            table.add_row(row.device, size(row.needed), size(row.free), size(row.total), row.evidence, row.answer)
        console.print(table)
    console.print(found.sentence, markup=False)
