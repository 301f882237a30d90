"""A real HAProxy before Triton: for TLS, which its HTTP does not speak itself, for a token, and to lose patience."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

HAPROXY = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

_CONFIG = """
defaults
  mode {mode}
  timeout connect 5s
  timeout client 60s
  timeout server {patience}
frontend all
  {binds}
  {rules}
  default_backend triton
backend triton
  server one {server}
"""


@contextlib.contextmanager
def proxy(
    folder: Path, server: str, *, mode: str = "http", bind: str = "", rules: str = "", patience: str = "60s"
) -> Iterator[int]:
    """Its port, on 127.0.0.1 and 127.0.0.2. `bind`: what follows the address; `server`: host:port behind it."""
    assert HAPROXY is not None
    sockets = _bound()
    port = sockets[0].getsockname()[1]
    binds = "\n  ".join(f"bind fd@{one.fileno()} {bind}" for one in sockets)
    config = folder / f"haproxy-{port}.cfg"
    config.write_text(_CONFIG.format(mode=mode, binds=binds, rules=rules, server=server, patience=patience))
    log = folder / f"haproxy-{port}.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [HAPROXY, "-db", "-f", config],
            stdout=output,
            stderr=output,
            pass_fds=[one.fileno() for one in sockets],
        ) as run,
    ):
        try:
            for one in sockets:
                one.close()
            deadline = time.monotonic() + 60
            while not _listens(port):
                assert run.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
            yield port
        finally:
            run.kill()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _bound() -> list[socket.socket]:
    """Both addresses with one port, for HAProxy to listen on: a port that it had to bind may be taken by then."""
    while True:
        one, two = socket.socket(), socket.socket()
        one.bind(("127.0.0.1", 0))
        with contextlib.suppress(OSError):
            two.bind(("127.0.0.2", one.getsockname()[1]))
            return [one, two]
        one.close()
        two.close()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    time.sleep(0.02)
    return False
