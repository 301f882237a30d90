"""The command `triton-canary`: argv to calls. The only place that prints.

stdout carries the result, stderr the progress. Exit codes: 0 promote or done, 1 rollback, 2 wrong usage or scenario,
3 inconclusive, 4 the world failed.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

from harness import __version__
from harness.errors import CanaryError

# By the module of this package that has them. Only the module of the command that is called is imported: together they
# take twice as long as what `judge` needs.
_COMMANDS = {
    "running": ("run", "recover"),
    "gating": ("gate",),
    "working": ("worker",),
    "planning": ("check", "scenarios"),
    "judging": ("judge", "report"),
    "calibrating": ("calibrate",),
    "models": ("models",),
    "routing": ("route",),
    "conformance": ("conformance",),
    "history": ("history",),
    "machine": ("serve", "doctor"),
}

_EPILOG = """\
examples:
  triton-canary run fp8-canary                        the demonstration, on a real Triton of its own
  triton-canary gate --baseline grpc://host:8001/llm:1 --candidate grpc://host:8001/llm:2 --prompts prompts.jsonl
  triton-canary judge reports/20260101T120000Z-fp8-canary

exit codes: 0 promote or done, 1 rollback, 2 wrong usage or scenario, 3 inconclusive, 4 the world failed
"""


def parser(command: str | None = None) -> argparse.ArgumentParser:
    """Of one command only, if there is such a command; else of all."""
    top = argparse.ArgumentParser(
        prog="triton-canary",
        description="Is v2 at least as good as v1, on this hardware, under this load, and can I prove it?",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"triton-canary {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    mine = [module for module, names in _COMMANDS.items() if command in names]
    for module in mine or _COMMANDS:
        import_module(f"harness.cli.{module}").add_commands(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    args = parser(argv[0] if argv else None).parse_args(argv)
    try:
        return int(args.call(args))
    except CanaryError as error:
        print(f"triton-canary: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("triton-canary: interrupted", file=sys.stderr)
        return 3
    except Exception:  # noqa: BLE001 - a mistake of ours must not look like a rollback
        traceback.print_exc()
        return 4
