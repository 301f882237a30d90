"""models status|fit|load|unload|retire|tune|restore|sync|publish: versions on servers that are there already."""

from __future__ import annotations

import argparse

from harness.cli import models_change, models_fit, models_status, models_store
from harness.cli.command import Commands, add

_EXAMPLE = """triton-canary models load llm --version 2 --url grpc://host:8001 --repository /models --persist

Triton has no load or unload of one version. The set of versions that shall serve is what is set here: checked before,
verified after, journaled, and brought back by `models restore`."""


def add_commands(commands: Commands) -> None:
    top = add(commands, "models", _none, "load, unload and store versions of models, verified and undoable", _EXAMPLE)
    actions = top.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="command")
    models_status.add_commands(actions)
    models_fit.add_commands(actions)
    models_change.add_commands(actions)
    models_store.add_commands(actions)


def _none(_args: argparse.Namespace) -> int:
    raise AssertionError("argparse asks for a command")
