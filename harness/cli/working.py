"""worker: this host sends a share of a run that another host leads."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from harness.cli.command import Commands, add
from harness.cli.console import stderr
from harness.errors import UsageError
from harness.load import join

TOKEN = "TRITON_CANARY_WORKER_TOKEN"


def add_commands(commands: Commands) -> None:
    worker = add(
        commands, "worker", _worker, "send a share of the load of a run on another host (`run --master`)",
        "triton-canary worker --master 10.0.0.7:5557 --token-file token",
    )  # fmt: skip
    worker.description = (
        f"{worker.description} It waits for the run up to five minutes, gets its share of the plan from there, ships "
        "what it records while the run goes on, and ends with it. The channel is not encrypted, and carries prompts "
        "and the headers of the arms: across a network that is not yours alone, put it into a tunnel (ssh -L)."
    )
    worker.add_argument("--master", required=True, metavar="HOST:PORT", help="where the run listens (port 5557)")
    worker.add_argument("--token-file", type=Path, metavar="FILE", help=f"the run's token; default: ${TOKEN}")
    worker.add_argument("--folder", type=Path, metavar="DIR", help="for files until they are shipped; default: /tmp")


def token_of(file: Path | None) -> str:
    """From the file, else from the environment, where no other user sees it; "" if there is none."""
    if file is None:
        return os.environ.get(TOKEN, "").strip()
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot be read: {error}") from error


def _worker(args: argparse.Namespace) -> int:
    token = token_of(args.token_file)
    if not token:
        raise UsageError(f"the run's token is missing: put it into ${TOKEN}, or into a file (--token-file)")
    console = stderr()
    join(args.master, token, lambda line: console.print(line, markup=False), args.folder)
    return 0
