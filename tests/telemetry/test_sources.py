"""Host, processes and Triton's metrics page; the page is a live server's where the test is marked so."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from operator import ge
from pathlib import Path

import httpx
import psutil
import pytest

from harness.embedded import EmbeddedServer, build_repository
from harness.telemetry import Host, Page, Process, SourceUnavailable, Value, gpus, hardware, sources
from tests.waiting import until


def by_name(values: list[Value]) -> dict[tuple[str, str], tuple[float, str]]:
    assert len({(v.device, v.metric) for v in values}) == len(values)
    return {(v.device, v.metric): (v.value, v.unit) for v in values}


def test_host() -> None:
    host = Host()
    first = by_name(host.read())
    assert first["host", "memory.total"] == (psutil.virtual_memory().total, "bytes")
    assert 0 < first["host", "memory.available"][0] <= first["host", "memory.total"][0]
    assert ("host", "cpu.utilization") not in first
    busy = psutil.cpu_times()
    while sum(psutil.cpu_times()) - sum(busy) < 0.2:
        pass
    second = by_name(host.read())
    assert 0 < second["host", "cpu.utilization"][0] <= 1
    assert set(second) >= set(first)


CHILD = "import sys; block = b'x' * 50_000_000; print('ready', flush=True); sys.stdin.read()"
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}, "/repository/tiny/2/model.py"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
print(child.stdout.readline().decode().strip(), flush=True)
sys.stdin.readline()
child.communicate()
print("alone", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def family() -> Iterator[subprocess.Popen[str]]:
    """A process with a child that looks like a Python-backend stub; a line on its stdin ends the child."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.communicate()


def test_process_with_its_children(family: subprocess.Popen[str]) -> None:
    assert family.stdout is not None
    assert family.stdin is not None
    assert family.stdout.readline() == "ready\n"
    process = Process(family.pid, "server")
    both = by_name(process.read())
    assert both["server", "processes"] == (2, "1")
    assert both["tiny/2", "processes"] == (1, "1")
    assert both["server", "memory.rss"][0] > both["tiny/2", "memory.rss"][0] > 50_000_000
    assert both["server", "cpu.time"][0] >= both["tiny/2", "cpu.time"][0] > 0
    family.stdin.write("\n")
    family.stdin.flush()
    assert family.stdout.readline() == "alone\n"
    alone = by_name(process.read())
    assert alone["server", "processes"] == (1, "1")
    assert alone["server", "memory.rss"][0] < 50_000_000
    assert alone["server", "cpu.time"][0] >= both["server", "cpu.time"][0]
    assert ("tiny/2", "memory.rss") not in alone
    family.communicate()
    with pytest.raises(SourceUnavailable, match=f"server: process {family.pid} cannot be read"):
        process.read()


def test_sources_that_fit_the_place(tmp_path: Path) -> None:
    here = "http://127.0.0.1:8002/metrics"

    def names(pid: int | None, *pages: str) -> list[str]:
        found = sources(pages, pid)
        for source in found:
            source.close()
        return [source.name for source in found]

    assert names(1, here) == ["host", "process", here]
    assert names(None) == ["host"]

    def reads_gpus(pid: int | None, *known: str) -> bool:
        return gpus(tmp_path, 0, known, pid) is not None

    assert reads_gpus(1, here)
    assert reads_gpus(None, "http://localhost:8002/metrics")
    assert reads_gpus(None)
    assert reads_gpus(None, "grpc://127.0.0.1:8001", f"http://{socket.gethostname()}:8000")
    for elsewhere in (["http://triton.example:9400/metrics"], ["grpc://127.0.0.1:8001", "grpc://triton.example:8001"]):
        assert not reads_gpus(None, *elsewhere), "this machine's GPUs say nothing of a server that is on another"


def test_hardware() -> None:
    found = hardware()
    assert found["threads"] == psutil.cpu_count()
    assert found["memory_bytes"] == psutil.virtual_memory().total
    assert found["cpu"]
    assert found["kernel"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    folder: Path = tmp_path_factory.mktemp("triton")
    build_repository(folder / "models", {"tiny": {1: {}}})
    with EmbeddedServer(folder / "models", folder / "triton.log") as running:
        yield running.start({"tiny": [1]})


@pytest.mark.triton
def test_live_server(server: EmbeddedServer) -> None:
    metrics, process = Page(server.metrics_url, timeout_s=60), Process(server.pid, "server")
    before = by_name(metrics.read())
    body = {"inputs": [{"name": "INPUT", "shape": [16], "datatype": "FP32", "data": [1.0] * 16}]}
    url = f"{server.http_url}/v2/models/tiny/versions/1/infer"
    for _ in range(5):
        httpx.post(url, json=body, timeout=60).raise_for_status()
    # Each takes 5 ms by the model's settings.
    least = {"request_success": 5, "count": 5, "executions": 5, "compute_infer_duration": 0.025}

    def grown() -> list[float]:
        now, keys = by_name(metrics.read()), [("tiny/1", f"inference.{name}") for name in least]
        return [now[key][0] - before[key][0] for key in keys]

    # Triton counts a request just after it has answered it.
    until(lambda: all(map(ge, grown(), least.values())), "the five requests are counted")
    *counts, spent_s = grown()
    assert counts == [5, 5, 5]
    assert 0.025 <= spent_s < 5
    after = by_name(metrics.read())
    assert after["tiny/1", "inference.pending_requests"] == (0, "1")
    assert after["server", "memory.total"] == (psutil.virtual_memory().total, "bytes")
    read = by_name(process.read())
    assert read["tiny/1", "memory.rss"][0] > 0
    assert read["server", "memory.rss"][0] > read["tiny/1", "memory.rss"][0]
    metrics.close()
