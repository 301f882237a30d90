"""history add|list|check|report: runs over weeks. What changed, when, and between which commits."""

from __future__ import annotations

import argparse

from harness.cli import history_check, history_store
from harness.cli.command import Commands, add

_EXAMPLE = """triton-canary history add reports/20260101T120000Z-fp8-canary --commit 1a2b3c4

A history is a folder (.triton-canary/history if none is named) or s3://BUCKET/PREFIX. It needs no server; several jobs
may add to it at once."""


def add_commands(commands: Commands) -> None:
    top = add(commands, "history", _none, "keep runs, and find what became slower or worse over them", _EXAMPLE)
    actions = top.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="command")
    history_store.add_commands(actions)
    history_check.add_commands(actions)


def _none(_args: argparse.Namespace) -> int:
    raise AssertionError("argparse asks for a command")
