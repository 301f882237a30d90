"""The memory of a server's machine, as far as it is in reach."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.run.machine import HOST, look, of_values, visible
from harness.telemetry import Value

GIB = 2.0**30
LISTEN = (
    "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"
)


def nvml(device: str, metric: str, gib: float) -> Value:
    return Value("nvml", device, f"gpu.memory.{metric}", gib * GIB, "bytes")


def card(device: str, used: float, total: float) -> list[Value]:
    return [nvml(device, "used", used), nvml(device, "free", total - used), nvml(device, "total", total)]


def test_each_device_by_itself_and_who_holds_what() -> None:
    found = of_values(
        [
            *card("gpu10", 1, 24), *card("gpu0", 70, 80), nvml("gpu0:llm/1", "process", 60),
            nvml("gpu0:pid77", "process", 9), Value("host", HOST, "memory.available", 5 * GIB, "bytes"),
            Value("host", HOST, "memory.total", 8 * GIB, "bytes"),
            Value("process", "server", "memory.rss", 2 * GIB, "bytes"),
            Value("process", "llm/1", "memory.rss", 1 * GIB, "bytes"),
        ]
    )  # fmt: skip
    assert found.free == {"gpu0": 10 * GIB, "gpu10": 23 * GIB, HOST: 5 * GIB}
    assert found.total == {"gpu0": 80 * GIB, "gpu10": 24 * GIB, HOST: 8 * GIB}
    assert found.used == {"gpu0": 70 * GIB, "gpu10": 1 * GIB, HOST: 2 * GIB}
    assert found.held["llm/1"] == {"gpu0": 60 * GIB, HOST: 1 * GIB}
    assert found.gpus == ("gpu0", "gpu10")


def test_a_partitioned_gpu_is_left_out() -> None:
    found = of_values([*card("gpu0", 1, 80), *card("gpu0/mig1", 1, 10), *card("gpu1", 2, 80)])
    assert set(found.free) == {"gpu1"}
    assert found.gpus == ("gpu0", "gpu1")


def test_the_servers_own_order_of_gpus() -> None:
    assert of_values([*card("gpu0", 0, 8), *card("gpu1", 0, 8)], (1, 0)).gpus == ("gpu1", "gpu0")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2,0", (2, 0)), ("GPU-bb", (1,)), ("", None), ("MIG-x", None), ("GPU-", None)],
)
def test_what_cuda_shows_to_the_server(text: str, expected: tuple[int, ...] | None) -> None:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": text}
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            assert visible(process.pid, ["GPU-aa-1", "GPU-bb-2"]) == expected
        finally:
            process.kill()
    assert visible(None, []) is None


def test_a_server_elsewhere_is_not_looked_at() -> None:
    assert "192.0.2.1" in look("grpc://192.0.2.1:8001").unknown
    assert look("grpc://192.0.2.1:8001", os.getpid()).free[HOST] > 0, "its process is here, so it is"


@pytest.mark.parametrize("name", ["ssh", "docker-proxy", "triton"])
def test_a_forwarded_port_is_another_machine(tmp_path: Path, name: str) -> None:
    """Both are Python; what it is called is all that can be seen of it."""
    program = tmp_path / name
    program.symlink_to(Path(sys.executable).resolve())
    with subprocess.Popen([program, "-c", LISTEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            found = look(f"grpc://127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.kill()
    if name != "triton":
        assert f"forwarded by {name}" in found.unknown
    else:
        assert found.unknown == ""
        assert 0 < found.used[HOST] < found.total[HOST]
