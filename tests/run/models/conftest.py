"""Real Tritons with the tiny model: one that each test gets with version 1 READY, and ones of a test's own."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.embedded import EmbeddedServer, build_repository
from harness.embedded import server as embedded_server
from harness.embedded.repository import compile_models
from harness.run.models import Rules, Site, open_site
from harness.triton import Control

MODEL = "tiny"
GOOD, BAD, SLOW, LATE = 2, 3, 4, 5
QUICK = Rules(window_s=0.2)
BUILDS: dict[int, Any] = {1: {}, GOOD: {}, BAD: {"load_fails": True}, SLOW: {"load_s": 20.0}, LATE: {"load_s": 3.0}}
ENSEMBLE = """name: "chain"
platform: "ensemble"
max_batch_size: 0
input [ { name: "INPUT" data_type: TYPE_FP32 dims: [ 16 ] } ]
output [ { name: "OUTPUT" data_type: TYPE_FP32 dims: [ 16 ] } ]
ensemble_scheduling { step [ {
  model_name: "tiny" model_version: -1
  input_map { key: "INPUT" value: "INPUT" }
  output_map { key: "OUTPUT" value: "OUTPUT" }
} ] }
"""


def repository_in(folder: Path, builds: dict[int, Any]) -> Path:
    """One process a version; config.pbtxt says version 1."""
    build_repository(folder, {MODEL: builds})
    config = folder / MODEL / "config.pbtxt"
    text = re.sub(r"versions: \[[^]]*\]", "versions: [1]", config.read_text())
    config.write_text(re.sub(r"count: \d+", "count: 1", text))
    return folder


def urls_of(servers: Sequence[EmbeddedServer]) -> list[str]:
    return [server.grpc_url for server in servers]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    folder = repository_in(tmp_path_factory.mktemp("models"), BUILDS)
    (folder / "chain" / "1").mkdir(parents=True)
    (folder / "chain" / "config.pbtxt").write_text(ENSEMBLE)
    with EmbeddedServer(folder, tmp_path_factory.mktemp("log") / "server.log") as running:
        yield running.start({MODEL: [1]})


@pytest.fixture
def server(shared: EmbeddedServer) -> Iterator[EmbeddedServer]:
    config = shared.repository / MODEL / "config.pbtxt"
    text = config.read_text()
    with Control(shared.grpc_url) as control:
        control.set_versions(MODEL, [1])
    yield shared
    config.write_text(text)


@pytest.fixture
def control(server: EmbeddedServer) -> Iterator[Control]:
    with Control(server.grpc_url) as control:
        yield control


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def site(server: EmbeddedServer, tmp_path: Path, said: list[str]) -> Iterator[Site]:
    with open_site([server.grpc_url], None, server.repository, say=said.append, state=tmp_path / "state") as site:
        yield site


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[EmbeddedServer]]:
    """Three servers, each with a repository of its own; version 2 of the last one fails to load."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                EmbeddedServer(
                    repository_in(tmp_path_factory.mktemp("models"), {1: {}, GOOD: {"load_fails": number == 2}}),
                    tmp_path_factory.mktemp("log") / "server.log",
                )
            ).start({MODEL: [1]})
            for number in range(3)
        ]


@pytest.fixture
def three(fleet: list[EmbeddedServer]) -> list[EmbeddedServer]:
    """The fleet, version 1 READY everywhere."""
    for running in fleet:
        with Control(running.grpc_url) as control:
            control.set_versions(MODEL, [1])
    return fleet


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    repository = tmp_path_factory.mktemp("scratch") / "models"
    repository.mkdir()
    with EmbeddedServer(repository, tmp_path_factory.mktemp("log") / "server.log") as running:
        yield running.start()


@pytest.fixture
def place(scratch: EmbeddedServer, tmp_path: Path, said: list[str]) -> Iterator[Callable[..., Site]]:
    """place(builds, *serve) makes the repository of a server anew; the versions `serve` (or 1) serve."""
    with ExitStack() as stack:

        def make(builds: dict[int, Any], *serve: int) -> Site:
            shutil.rmtree(scratch.repository.parent / ".triton-canary-staging", ignore_errors=True)
            with Control(scratch.grpc_url) as control:
                control.unload(MODEL)
                shutil.rmtree(scratch.repository / MODEL, ignore_errors=True)
                repository_in(scratch.repository, builds)
                for version in builds:
                    compile_models(scratch.repository / MODEL / str(version))
                control.set_versions(MODEL, serve or [1], repository=scratch.repository)
            url = scratch.grpc_url
            return stack.enter_context(
                open_site([url], None, scratch.repository, say=said.append, state=tmp_path / "state")
            )

        yield make


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Callable[..., EmbeddedServer]]:
    """Start a server of the test's own: own(name, builds) serves version 1."""
    started: list[EmbeddedServer] = []

    def start(name: str, builds: dict[int, Any], load: Sequence[int] = (1,)) -> EmbeddedServer:
        repository = repository_in(tmp_path / name / "models", builds)
        running = EmbeddedServer(repository, tmp_path / name / "server.log")
        started.append(running)
        return running.start({MODEL: list(load)} if load else {})

    yield start
    for running in started:
        running.stop()


@pytest.fixture
def start_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., EmbeddedServer]]:
    """Start a Triton anew at the same address, as an orchestrator would; it loads what its arguments name."""
    started: list[EmbeddedServer] = []

    def again(old: EmbeddedServer, *arguments: str) -> EmbeddedServer:
        ports = old._ports
        old.stop()
        monkeypatch.setattr(embedded_server, "free_ports", lambda *_: ports)
        running = EmbeddedServer(old.repository, old.log, arguments=arguments)
        started.append(running)
        return running.start()

    yield again
    for running in started:
        running.stop()


class Clients:
    """Asks again and again, naming `version` or none, from a thread of its own."""

    BODY = {"inputs": [{"name": "INPUT", "shape": [16], "datatype": "FP32", "data": [1.0] * 16}]}  # noqa: RUF012

    def __init__(self, server: EmbeddedServer, version: int | None = None) -> None:
        named = f"/versions/{version}" if version else ""
        self._url = f"{server.http_url}/v2/models/{MODEL}{named}/infer"
        self._stop = threading.Event()
        self._answered = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Clients:
        self._thread.start()
        assert self._answered.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        with httpx.Client(timeout=30) as client:
            while not self._stop.is_set():
                if client.post(self._url, json=self.BODY).status_code == 200:
                    self._answered.set()
