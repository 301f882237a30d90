"""serve, doctor: this machine's Triton, and what else it has."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from harness.cli.command import Commands, add
from harness.cli.screen import stderr, stdout


def add_commands(commands: Commands) -> None:
    serve = add(
        commands, "serve", _serve, "start the embedded Triton with demonstration models, in the foreground",
        "triton-canary serve --model smollm2:1=fp16 --model smollm2:2=fp8",
    )  # fmt: skip
    serve.add_argument(
        "--model", action="append", default=[], metavar="NAME:VERSION[=BUILD]",
        help="a version to build and load; repeatable; default smollm2:1=fp16",
    )  # fmt: skip
    serve.add_argument("--dir", type=Path, help="where the model repository and the log go; default: a temporary folder")
    add(commands, "doctor", _doctor, "what this machine has: Triton, models, GPU", "triton-canary doctor")


def _serve(args: argparse.Namespace) -> int:
    raise SystemExit("filled in when embedded lands")


def _doctor(args: argparse.Namespace) -> int:
    raise SystemExit("filled in when embedded lands")
