"""The other tools, each as its own users would run it: one request after the other on so many connections."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer, models

from harness.embedded import EmbeddedServer
from tests.bench.load.figures import Figures, of_process

TOOLS = Path(os.environ.get("PEERS", "build/peers"))
"""Where `peers.sh` has put those that are not on PATH."""
HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Peer:
    """`missing()`: why it cannot run here, "" if it can. `run(server, folder, in_flight, seconds)`."""

    name: str
    wire: str
    missing: Callable[[], str]
    run: Callable[[EmbeddedServer, Path, int, float], Figures]


def perf_analyzer(server: EmbeddedServer, wire: str, folder: Path, load: list[str], seconds: float) -> Figures:
    """Its own throughput and p50; the CPU of its whole life over all requests of its whole life."""
    url = server.http_url if wire == "http" else server.grpc_url
    command = [
        str(TOOLS / "perf_analyzer" / "perf_analyzer"), "-m", "identity", "-i", wire, "-u", url.partition("://")[2],
        *load, "--measurement-interval", str(int(seconds * 1000 / 3)), "-s", "9999", "--max-trials", "3",
    ]  # fmt: skip
    return of_process(
        server, command, folder / "out", _perf_analyzer, {"LD_LIBRARY_PATH": str(TOOLS / "perf_analyzer")}
    )


def _perf_analyzer(text: str) -> tuple[float, float]:
    return _number(r"Throughput: ([\d.]+) infer/sec", text), _number(r"p50 latency: (\d+) usec", text)


def _pa(wire: str) -> Callable[[EmbeddedServer, Path, int, float], Figures]:
    return lambda server, folder, in_flight, seconds: perf_analyzer(
        server, wire, folder, ["--concurrency-range", str(in_flight)], seconds
    )


def _wrk(server: EmbeddedServer, folder: Path, in_flight: int, seconds: float) -> Figures:
    command = [
        "wrk", "-t", "1", "-c", str(in_flight), "-d", f"{round(seconds)}s", "-s", str(HERE / "identity.lua"),
        "--latency", f"{server.http_url}/v2/models/identity/versions/1/infer",
    ]  # fmt: skip

    def read(text: str) -> tuple[float, float]:
        found = re.search(r"50%\s+([\d.]+)(us|ms)", text)
        assert found, text
        return _number(r"Requests/sec:\s+([\d.]+)", text), float(found[1]) * (1000 if found[2] == "ms" else 1)

    return of_process(server, command, folder / "out", read)


def _k6(server: EmbeddedServer, folder: Path, in_flight: int, seconds: float) -> Figures:
    summary = folder / "summary.json"
    command = [
        str(TOOLS / "k6" / "k6"), "run", "--quiet", "--vus", str(in_flight), "--duration", f"{round(seconds)}s",
        "--summary-export", str(summary), "--summary-trend-stats", "med", str(HERE / "identity.js"),
    ]  # fmt: skip

    def read(_: str) -> tuple[float, float]:
        metrics = json.loads(summary.read_text())["metrics"]
        return metrics["http_reqs"]["rate"], metrics["http_req_duration"]["med"] * 1000

    env = {"URL": f"{server.http_url}/v2/models/identity/versions/1/infer", "K6_NO_USAGE_REPORT": "true"}
    return of_process(server, command, folder / "out", read, env)


def _aiperf(server: EmbeddedServer, folder: Path, in_flight: int, seconds: float) -> Figures:
    """It has no KServe client: raw JSON bodies, which must look like a chat. An answer without text is an error to it,
    so it ends with one and gives no figures; what it cost, its start included, can be told all the same.
    """
    words = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    words.save(str(folder / "tokenizer.json"))
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(kind))
    tensor = {"name": "INPUT", "datatype": "FP32", "shape": [16], "data": [0.0] * 16}
    (folder / "bodies.jsonl").write_text(
        json.dumps({"messages": [{"role": "user", "content": "a"}], "inputs": [tensor]})
    )
    command = [
        str(TOOLS / "aiperf" / "bin" / "aiperf"), "profile", "-m", "identity", "--url", server.http_url,
        "--endpoint-type", "raw", "--custom-endpoint", "/v2/models/identity/versions/1/infer",
        "--input-file", str(folder / "bodies.jsonl"), "--custom-dataset-type", "raw_payload",
        "--concurrency", str(in_flight), "--benchmark-duration", str(round(seconds)), "--ui-type", "none",
        "--tokenizer", str(folder), "--output-artifact-dir", str(folder / "artifacts"),
    ]  # fmt: skip
    return of_process(server, command, folder / "out", lambda _: (None, None), must_succeed=False)


def _python(script: str, wire: str) -> Callable[[EmbeddedServer, Path, int, float], Figures]:
    """A Python client in a process of its own, which prints its figures as JSON."""

    def run(server: EmbeddedServer, folder: Path, in_flight: int, seconds: float) -> Figures:
        url = server.http_url if wire == "http" else server.grpc_url
        command = [sys.executable, str(HERE / script), url.partition("://")[2], wire, str(in_flight), str(seconds)]

        def read(text: str) -> tuple[float, float]:
            figures = json.loads(text.splitlines()[-1])
            return figures["rps"], figures["p50_us"]

        return of_process(server, command, folder / "out", read)

    return run


def _file(path: Path) -> Callable[[], str]:
    return lambda: "" if path.is_file() else f"{path} is not there (tests/bench/load/peers.sh)"


def _on_path(tool: str) -> Callable[[], str]:
    return lambda: "" if shutil.which(tool) else f"{tool} is not installed"


PEERS = (
    Peer("perf_analyzer http", "http", _file(TOOLS / "perf_analyzer" / "perf_analyzer"), _pa("http")),
    Peer("perf_analyzer grpc", "grpc", _file(TOOLS / "perf_analyzer" / "perf_analyzer"), _pa("grpc")),
    Peer("wrk", "http", _on_path("wrk"), _wrk),
    Peer("k6", "http", _file(TOOLS / "k6" / "k6"), _k6),
    Peer("AIPerf", "http", _file(TOOLS / "aiperf" / "bin" / "aiperf"), _aiperf),
    Peer("tritonclient http", "http", lambda: "", _python("with_tritonclient.py", "http")),
    Peer("tritonclient grpc", "grpc", lambda: "", _python("with_tritonclient.py", "grpc")),
    Peer("Locust + tritonclient http", "http", lambda: "", _python("with_locust.py", "http")),
    Peer("Locust + tritonclient grpc", "grpc", lambda: "", _python("with_locust.py", "grpc")),
)


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if not found:
        raise RuntimeError(f"no {pattern} in: {text[-500:]}")
    return float(found[1])
