"""One way to declare a command, so that each has a help line and an example."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from harness.units import parse_bytes, parse_duration

Commands = Any
"""argparse's sub-parsers action, which has no public type."""


def add(
    commands: Commands, name: str, call: Callable[[argparse.Namespace], int], help_line: str, example: str
) -> argparse.ArgumentParser:
    """A sub-command whose `--help` ends with an example."""
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help_line,
        description=help_line[0].upper() + help_line[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(call=call)
    return command


def duration(text: str) -> float:
    """Seconds, for argparse."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def amount(text: str) -> float:
    """Bytes, for argparse."""
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
