"""Other hosts on this machine: network namespaces, each with a line of its own to here, and with its own clock."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any, Self

_numbers = itertools.count()


def unavailable() -> str:
    """Why there can be no other host on this machine; "" if there can."""
    if not shutil.which("ip"):
        return "no network namespaces: the command ip (iproute2) is not installed"
    name = f"tc-{os.getpid()}-try"
    tried = _run("ip", "netns", "add", name)
    if tried.returncode:
        return f"no network namespaces: {tried.stderr.strip().splitlines()[-1]}"
    _run("ip", "netns", "del", name)
    return ""


class Host:
    """A network namespace; `here` is this side's address on the line to it. `ahead_s`: by how much its clock is ahead.

    `cut` and `mend` take the line down and up.
    """

    def __init__(self, ahead_s: int = 0) -> None:
        self._number = next(_numbers)
        self.name = f"tc-{os.getpid()}-{self._number}"
        self._line = f"tc{os.getpid() % 100000}n{self._number}"
        net = f"10.{200 + os.getpid() % 50}.{self._number % 250}"
        self.here, self._there = f"{net}.1", f"{net}.2"
        self._ahead_s = ahead_s
        self._workers: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        inside = ("ip", "-n", self.name)
        _must("ip", "netns", "add", self.name)
        _must("ip", "link", "add", self._line, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        _must("ip", "addr", "add", f"{self.here}/24", "dev", self._line)
        _must("ip", "link", "set", self._line, "up")
        _must(*inside, "addr", "add", f"{self._there}/24", "dev", "eth0")
        _must(*inside, "link", "set", "lo", "up")
        _must(*inside, "link", "set", "eth0", "up")
        _must(*inside, "route", "add", "default", "via", self.here)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._workers:
            if process.poll() is None:
                process.kill()
            process.wait()
            assert process.stdout
            process.stdout.close()
        _run("ip", "link", "del", self._line)
        _run("ip", "netns", "del", self.name)

    def cut(self) -> None:
        _must("ip", "link", "set", self._line, "down")

    def mend(self) -> None:
        _must("ip", "link", "set", self._line, "up")

    def worker(self, port: int, token: str, folder: Path) -> subprocess.Popen[str]:
        """`triton-canary worker` on this host, for the run that listens at `port` here."""
        folder.mkdir(exist_ok=True)
        inside = ["ip", "netns", "exec", self.name]
        if self._ahead_s:
            inside += ["unshare", "--time", "--monotonic", str(self._ahead_s), "--fork", "--kill-child"]
        command = [sys.executable, "-m", "harness.cli", "worker", "--master", f"{self.here}:{port}"]
        process = subprocess.Popen(
            [*inside, *command, "--folder", str(folder)],
            env={**os.environ, "TRITON_CANARY_WORKER_TOKEN": token},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._workers.append(process)
        return process


class Forwarder:
    """Lets other hosts reach a port of 127.0.0.1, at `port` of every address of this host that they know."""

    def __init__(self, to_port: int) -> None:
        self._to = ("127.0.0.1", to_port)
        self._server = socket.create_server(("", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._server.accept()[0]
                server = socket.create_connection(self._to)
                for source, sink in ((client, server), (server, client)):
                    source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with ExitStack() as stack, suppress(OSError):
        stack.enter_context(closing(source))
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _must(*command: str) -> Any:
    done = _run(*command)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done
