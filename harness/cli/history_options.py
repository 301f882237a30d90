"""What the `history` commands have in common."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from harness.cli.console import stderr
from harness.history.fingerprint import PARTS
from harness.history.store import History
from harness.report.words import one_line
from harness.run.history import open_history

FOLDER = ".triton-canary/history"


def add_place(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--history", default=FOLDER, metavar="DIR",
        help=f"a folder, or s3://BUCKET/PREFIX with credentials from the environment (default {FOLDER})",
    )  # fmt: skip


def add_which(command: argparse.ArgumentParser) -> None:
    command.add_argument("--branch", default="", metavar="NAME", help="only runs of this branch (default: all)")
    command.add_argument(
        "--ignore", action="append", default=[], choices=PARTS, metavar="PART",
        help="a part of the fingerprint that begins no new segment, such as triton or driver, because its changes are "
        f"what is tested; repeatable; one of: {', '.join(PARTS)}",
    )  # fmt: skip


def add_commit(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--commit", default="", metavar="SHA",
        help="what was measured (default: as the run says, else $GITHUB_SHA or $CI_COMMIT_SHA, else the checkout)",
    )  # fmt: skip


def history_of(args: argparse.Namespace) -> History:
    return open_history(args.history)


def tell_damaged(lines: Iterable[str]) -> None:
    """Nothing is forgotten in silence."""
    for line in lines:
        stderr().print(one_line(f"warning: {line}"), markup=False)
