"""Locust processes: how they are started, and where workers of other hosts find their master."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from harness.assets import locustfiles_dir
from harness.errors import UsageError

DEFAULT_PORT = 5557
"""Locust's own."""
LOOPBACK = "127.0.0.1"
END_S = 10.0
"""For a process that has said that it is through."""

Process = subprocess.Popen[bytes]


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the master awaits workers of other hosts, and the token that they must know."""

    host: str
    port: int
    token: str

    @classmethod
    def at(cls, address: str, token: str) -> Self:
        """Of `HOST:PORT`, `HOST` or `:PORT`. Raises UsageError: no address, or one that cannot be listened on."""
        host, port = split_address(address)
        try:
            with socket.create_server((host, port)):
                pass
        except OSError as error:
            raise UsageError(f"{host}:{port}: cannot be listened on: {error.strerror or error}") from error
        return cls(host, port, token)


def split_address(address: str) -> tuple[str, int]:
    """Host and port; without them 127.0.0.1 and DEFAULT_PORT. Raises UsageError."""
    host, colon, port = address.rpartition(":") if ":" in address else (address, "", "")
    if colon and not (port.isdecimal() and 0 < int(port) < 65536):
        raise UsageError(f"{address}: expected HOST:PORT, with a port from 1 to 65535")
    return host or LOOPBACK, int(port) if colon else DEFAULT_PORT


def alone() -> list[str]:
    """Locust's options of a process that carries all of the load."""
    return ["--users", "1", "--spawn-rate", "1"]


def as_master(workers: int, host: str, port: int) -> list[str]:
    """`port` 0: one of the kernel's choice, which the event "listening" tells."""
    users = ["--users", str(workers), "--spawn-rate", str(workers), "--expect-workers", str(workers)]
    return [*users, "--master", "--master-bind-host", host, "--master-bind-port", str(port)]


def as_worker(host: str, port: int) -> list[str]:
    return ["--worker", "--master-host", host, "--master-port", str(port)]


def launch(
    options: Sequence[str], log: Path, *, locustfile: Path | None = None, hold: tuple[int, ...] = (),
    events: int = subprocess.PIPE,
) -> Process:  # fmt: skip
    """Starts Locust; what it prints goes to the end of `log`. It ends when its stdin, a pipe, is closed."""
    file = locustfile or locustfiles_dir() / "canary.py"
    command = [sys.executable, "-m", "locust", "-f", str(file.resolve()), "--headless", *options]
    command += ["--only-summary", "--loglevel", "WARNING"]
    # Locust takes options from the environment: somebody's own must not reach this run.
    env = {name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")}
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=events,
            stderr=output,
            cwd=log.parent,
            env=env,
            pass_fds=hold,
            start_new_session=True,  # a Ctrl-C at the terminal is the parent's to handle
        )


def tell(process: Process, message: dict[str, Any]) -> None:
    """One line to its stdin. Raises BrokenPipeError or ValueError if nobody reads it any more."""
    assert process.stdin
    process.stdin.write(json.dumps(message).encode() + b"\n")
    process.stdin.flush()


def end(process: Process) -> None:
    """Kills it if it still runs, and closes its pipes. Never raises."""
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe and not pipe.closed:
            try:
                pipe.close()
            except BrokenPipeError:
                continue


def how_ended(process: Process) -> str:
    """In words that go on a sentence: "was killed (SIGKILL)"."""
    code = process.poll()
    if code is not None and code < 0:
        return f"was killed ({signal.Signals(-code).name})"
    return f"ended by itself (exit code {code})"
