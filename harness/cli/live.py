"""`--live` of the commands that run something: the report in a browser while it goes on."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.cli.console import stderr


def add_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--live", nargs="?", type=_port, const=0, metavar="PORT",
        help="serve the report while it grows, on 127.0.0.1 only: at PORT, or at a free one, which is printed",
    )  # fmt: skip


@contextmanager
def following(args: argparse.Namespace) -> Iterator[Callable[[Path], None]]:
    """Tell what this gives the folder of the run; when the block has ended, whoever looks gets the report.

    Raises UsageError where the port cannot be had.
    """
    if args.live is None:
        yield lambda _: None
        return
    from harness.run.live import LivePage

    with LivePage(args.live) as live:
        console = stderr()
        console.print(f"live: {live.address}", markup=False, soft_wrap=True)
        yield live.begin
        live.end()
        if live.note:
            console.print(live.note, markup=False)


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) < 1 << 16:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text}: expected a port, 0 to 65535, or nothing (the scenario comes before it)")
