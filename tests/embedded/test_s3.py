"""The embedded S3 server: it starts with its bucket, keeps what was stored, and leaves no process behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from harness.embedded import EmbeddedS3, program, s3_available
from harness.embedded import s3 as s3_module
from harness.embedded.s3 import _PORTS
from harness.errors import ServerDied, UsageError
from harness.store.s3 import S3Store
from tests.processes import command_line, family, gone
from tests.waiting import until

pytestmark = pytest.mark.skipif(bool(s3_available()), reason=s3_available())

HARNESS = """
import json, sys
from pathlib import Path
from harness.embedded import EmbeddedS3
server = EmbeddedS3(Path(sys.argv[1]), Path(sys.argv[1]) / "log").start()
print(json.dumps([server._supervisor.pid, server.pid, server._ports]), flush=True)
sys.stdin.read()
server.stop()
"""


def left_sockets(ports: Iterable[int]) -> list[Path]:
    """SeaweedFS puts them there whatever TMPDIR says."""
    return [path for port in ports for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock")]


def test_it_keeps_what_was_stored_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"data")
    for start in (1, 2):
        server = EmbeddedS3(tmp_path / "data", tmp_path / "log" / "s3.log", buckets=("one", "two"))
        assert not server.alive
        with server:
            for name, value in server.environment.items():
                monkeypatch.setenv(name, value)
            server.check()
            processes = family(server._supervisor.pid if server._supervisor else -1)
            assert psutil.Process(server.pid) in processes
            assert left_sockets(server._ports), "so their absence afterwards means something"
            for connection in psutil.Process(server.pid).net_connections():
                assert connection.laddr == () or connection.laddr.ip == "127.0.0.1"
            for secret in (server.environment["AWS_SECRET_ACCESS_KEY"], server.environment["AWS_ACCESS_KEY_ID"]):
                assert not any(secret in command_line(process) for process in processes), "arguments can be read by all"
            for bucket in ("one", "two"):
                store = S3Store(f"s3://{bucket}")
                assert store.list().complete
                if start == 1:
                    store.write("llm/1/x", source)
                assert b"".join(store.read(store.list().files["llm/1/x"])) == b"data"
                store.close()
        assert all(gone(process) for process in processes)
        assert not server.alive
        assert not left_sockets(server._ports)
        server.stop()
    with pytest.raises(ServerDied, match="the embedded S3 died"):
        server.check()


def test_taken_ports_are_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = program.free_ports
    with socket.create_server(("127.0.0.1", 0)) as taken:
        master = _PORTS.index("master.port")  # it is opened first, so the first attempt ends soon
        first = iter([(*real(master), taken.getsockname()[1], *real(len(_PORTS) - master - 1))])
        monkeypatch.setattr(program, "free_ports", lambda count: next(first, None) or real(count))
        with EmbeddedS3(tmp_path / "data", tmp_path / "log"):
            assert next(first, None) is None, "the taken port was tried"


def test_a_server_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = EmbeddedS3._arguments
    monkeypatch.setattr(EmbeddedS3, "_arguments", lambda self: [*real(self), "-no-such-option"])
    server = EmbeddedS3(tmp_path / "data", tmp_path / "log")
    with pytest.raises(ServerDied, match=r"did not start \(exit status 2\): .*no-such-option"):
        server.start()
    assert not server.alive
    monkeypatch.setattr(s3_module, "_binary", lambda: None)
    with pytest.raises(UsageError, match=r"pip install 'triton-canary\[embedded\]'"):
        server.start()


def test_a_kill_leaves_no_process(tmp_path: Path) -> None:
    """Whether the harness is killed or its supervisor; both are tried at once, since each start takes seconds."""
    with ExitStack() as stack:
        started = {
            victim: stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", HARNESS, str(tmp_path / victim)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
            for victim in ("harness", "supervisor")
        }
        for victim, harness in started.items():
            assert harness.stdout is not None
            supervisor, program, ports = json.loads(harness.stdout.readline())
            processes = family(supervisor)
            assert program in [process.pid for process in processes]
            os.kill(harness.pid if victim == "harness" else supervisor, signal.SIGKILL)
            until(lambda: all(gone(process) for process in processes), "the server and its supervisor have ended")  # noqa: B023
            harness.communicate()
            assert left_sockets(ports) == []
