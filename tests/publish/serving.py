"""Who takes figures: the real Pushgateway, a real OpenTelemetry collector, servers that answer as a test wants."""

from __future__ import annotations

import gzip
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from harness.embedded.supervised import free_ports

START_S = 30.0


class Asked(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Server:
    """Answers each request with the next of `answers`, (status, body), and the last of them from then on."""

    def __init__(self, url: str, asked: queue.Queue[Asked]) -> None:
        self.url, self.asked = url, asked


@contextmanager
def serving(*answers: tuple[int, bytes]) -> Iterator[Server]:
    waiting, asked = list(answers or [(200, b"")]), queue.Queue[Asked]()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {key.lower(): value for key, value in self.headers.items()}
            body = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
            # noted before the answer goes: who asked looks as soon as it is there
            asked.put(Asked(self.command, self.path, headers, body))
            status, answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_PUT = do_POST  # noqa: N815 - the name is http.server's

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield Server(f"http://127.0.0.1:{server.server_port}", asked)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def running(command: Sequence[str], log: Path, ready: str) -> Iterator[None]:
    """A process, once something answers at the address `ready`."""
    with log.open("wb") as said, subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT) as process:
        try:
            deadline = time.monotonic() + START_S
            while True:
                try:
                    httpx.get(ready, trust_env=False)
                    break
                except httpx.TransportError:
                    assert process.poll() is None, log.read_text()
                    assert time.monotonic() < deadline, log.read_text()
                    time.sleep(0.05)
            yield
        finally:
            process.terminate()
            process.wait()


@contextmanager
def pushgateway(folder: Path) -> Iterator[str]:
    """Its address."""
    program = shutil.which("prometheus-pushgateway") or shutil.which("pushgateway")
    if program is None:
        pytest.skip("needs prometheus-pushgateway (tests/system-packages.sh installs it)")
    url = f"127.0.0.1:{free_ports(1)[0]}"
    command = [program, f"--web.listen-address={url}", "--persistence.file="]  # Debian's would keep what others pushed
    with running(command, folder / "pushgateway.log", f"http://{url}/-/ready"):
        yield f"http://{url}"


@contextmanager
def collector(folder: Path) -> Iterator[tuple[str, queue.Queue[Asked]]]:
    """The address of Rotel, a collector of OpenTelemetry's, and what it sends on to the next."""
    found = find_spec("rotel")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs rotel, an OpenTelemetry collector (make setup installs it on Linux)")
    with serving() as behind:
        http, grpc = (f"127.0.0.1:{port}" for port in free_ports(2))
        command = [
            str(Path(found.submodule_search_locations[0]) / "rotel-agent"), "start", "--disable-batching",
            "--otlp-http-endpoint", http, "--otlp-grpc-endpoint", grpc, "--pid-file", str(folder / "rotel.pid"),
            "--exporter", "otlp", "--otlp-exporter-protocol", "http", "--otlp-exporter-endpoint", behind.url,
        ]  # fmt: skip
        with running(command, folder / "rotel.log", f"http://{http}"):
            yield f"http://{http}", behind.asked


def figures(asked: Asked) -> tuple[dict[str, str], dict[str, tuple[str, dict[tuple[tuple[str, str], ...], float]]]]:
    """Of an OTLP request, read by OpenTelemetry's own classes: the resource, and by name the unit and the points."""
    (ours,) = ExportMetricsServiceRequest.FromString(asked.body).resource_metrics
    resource = {one.key: one.value.string_value for one in ours.resource.attributes}
    found = {}
    for metric in ours.scope_metrics[0].metrics:
        points = {
            tuple((one.key, one.value.string_value) for one in point.attributes): point.as_double
            for point in metric.gauge.data_points
        }
        found[metric.name] = (metric.unit, points)
    return resource, found
