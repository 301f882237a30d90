"""What one run of one tool came to. Requests are counted by the server, whoever sent them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.embedded import EmbeddedServer
from harness.triton import Control
from tests.bench.load.server import MODEL


@dataclass(frozen=True, slots=True)
class Figures:
    """`rps` None: the tool does not say how long it really sent. Times in us; `p50_us` None where it has none."""

    rps: float | None
    cpu_us: float
    p50_us: float | None = None


def served(server: EmbeddedServer) -> int:
    with Control(server.grpc_url) as control:
        return control.counts(MODEL.name)[1].success


def of_process(
    server: EmbeddedServer, command: list[str], log: Path, read: Callable[[str], tuple[float | None, float | None]],
    env: dict[str, str] | None = None, *, must_succeed: bool = True,
) -> Figures:  # fmt: skip
    """A tool that is a process: its CPU by the kernel's count, children included. `read`: stdout to (rps, p50_us).

    Raises RuntimeError with the end of its output where it fails, or nothing was served.
    """
    before = served(server)
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})})
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    requests = served(server) - before
    text = log.read_text(errors="replace")
    if (process.returncode and must_succeed) or not requests:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {text[-500:]}")
    rps, p50_us = read(text)
    return Figures(rps, (usage.ru_utime + usage.ru_stime) / requests * 1e6, p50_us)


@contextmanager
def stopwatch():  # type: ignore[no-untyped-def]
    """Yields a function that gives the seconds since."""
    begin = time.monotonic()
    yield lambda: time.monotonic() - begin
