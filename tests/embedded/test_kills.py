"""SIGKILL, wherever it strikes, leaves no process; see supervisor.py and guard.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness.embedded import EmbeddedServer, build_repository
from harness.embedded.supervisor import SHARED_MEMORY
from harness.errors import ServerDied
from tests.processes import family, gone
from tests.waiting import until

pytestmark = pytest.mark.triton

HARNESS = """
import json, sys
from pathlib import Path
from harness.embedded import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[1]), Path(sys.argv[2])).start({"tiny": [1]})
print(json.dumps({"supervisor": server._supervisor.pid, "shm": server._shm}), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    build_repository(tmp_path / "models", {"tiny": {1: {"delay_ms": 0}}})
    return tmp_path / "models"


@pytest.fixture
def running(models: Path, tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(models, tmp_path / "triton.log") as server:
        yield server.start({"tiny": [1]})


def parts(server: EmbeddedServer) -> tuple[psutil.Process, psutil.Process, list[psutil.Process]]:
    assert server._supervisor is not None
    supervisor, triton, *stubs = family(server._supervisor.pid)
    assert triton.pid == server.pid
    assert stubs
    return supervisor, triton, stubs


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_the_harness_is_killed(models: Path, tmp_path: Path, number: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HARNESS, str(models), str(tmp_path / "triton.log")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as harness:
        assert harness.stdout is not None
        started = json.loads(harness.stdout.readline())
        processes = family(started["supervisor"])
        assert len(processes) > 2
        assert list(SHARED_MEMORY.glob(f"{started['shm']}*"))
        harness.send_signal(number)
        harness.wait()
        until(lambda: all(gone(p) for p in processes), "everything below the harness is gone")
        assert not list(SHARED_MEMORY.glob(f"{started['shm']}*"))


def test_the_supervisor_is_killed(running: EmbeddedServer) -> None:
    supervisor, triton, stubs = parts(running)
    supervisor.kill()
    until(lambda: all(gone(p) for p in (triton, *stubs)), "Triton and its stubs are gone")
    until(lambda: not running.alive, "the harness knows")
    with pytest.raises(ServerDied, match="died"):
        running.check()
    running.stop()
    assert not list(SHARED_MEMORY.glob(f"{running._shm}*"))


def test_triton_is_killed(running: EmbeddedServer) -> None:
    supervisor, triton, stubs = parts(running)
    assert not running.wait(0)
    triton.kill()
    assert running.wait(60)
    until(lambda: all(gone(p) for p in (supervisor, triton, *stubs)), "supervisor and stubs are gone")
    with pytest.raises(ServerDied, match=r"signal 9.*log: "):
        running.check()
    assert not list(SHARED_MEMORY.glob(f"{running._shm}*"))


def test_a_stopped_triton_is_ended_too(running: EmbeddedServer) -> None:
    """SIGTERM does not reach a stopped process; the grace runs out and SIGKILL does."""
    supervisor, triton, stubs = parts(running)
    os.kill(triton.pid, signal.SIGSTOP)
    running.stop()
    assert all(gone(p) for p in (supervisor, triton, *stubs))
    assert not list(SHARED_MEMORY.glob(f"{running._shm}*"))
