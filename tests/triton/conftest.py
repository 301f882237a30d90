"""One real Triton for all of these tests; each begins with version 1 of `tiny` READY and nothing else."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import httpx
import pytest

from harness.embedded import EmbeddedServer, build_repository
from harness.triton import Control
from tests.processes import command_line, family
from tests.triton.held import HELD_MODEL

MODEL = "tiny"
GOOD, BAD, HELD = 2, 3, 4  # HELD: see held.py


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    builds = {1: {}, GOOD: {}, BAD: {"load_fails": True}, HELD: {}}
    build_repository(folder, {MODEL: builds})
    (folder / MODEL / str(HELD) / "model.py").write_text(HELD_MODEL)
    config = folder / MODEL / "config.pbtxt"
    text = config.read_text().replace("1, 2, 3, 4", "1")
    # One process a version: these tests load it dozens of times.
    config.write_text(re.sub(r"count: \d+", "count: 1", text))
    return folder


@pytest.fixture(scope="session")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(repository, tmp_path_factory.mktemp("log") / "triton.log") as running:
        yield running.start({MODEL: [1]})


@pytest.fixture(params=["grpc", "http"])
def url(server: EmbeddedServer, request: pytest.FixtureRequest) -> str:
    return server.grpc_url if request.param == "grpc" else server.http_url


@pytest.fixture
def control(url: str, repository: Path) -> Iterator[Control]:
    with Control(url) as control:
        control.set_versions(MODEL, [1], repository=repository)
        yield control


@pytest.fixture
def http(server: EmbeddedServer, repository: Path) -> Iterator[httpx.Client]:
    """Triton's own API, as somebody without this package would call it."""
    with Control(server.http_url) as control:
        control.set_versions(MODEL, [1], repository=repository)
    with httpx.Client(base_url=f"{server.http_url}/v2", timeout=60) as client:
        yield client


def stubs(server: EmbeddedServer, version: int) -> set[int]:
    """The processes that serve a version."""
    return {child.pid for child in family(server.pid) if f"/{MODEL}/{version}/model.py" in command_line(child)}


class Prober:
    """Asks one version again and again from a thread of its own, and counts."""

    BODY: ClassVar = {"inputs": [{"name": "INPUT", "shape": [16], "datatype": "FP32", "data": [1.0] * 16}]}

    def __init__(self, server: EmbeddedServer, version: int) -> None:
        self.answered, self.failed = 0, []
        self._url = f"{server.http_url}/v2/models/{MODEL}/versions/{version}/infer"
        self._stop = threading.Event()
        self._enough = threading.Condition()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Prober:
        self._thread.start()
        self.more(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def more(self, answers: int) -> None:
        """Wait for that many further answers."""
        with self._enough:
            goal = self.answered + answers
            assert self._enough.wait_for(lambda: self.answered >= goal, timeout=60), self.failed[:3]

    def _ask(self) -> None:
        with httpx.Client(timeout=30) as client:
            while not self._stop.is_set():
                response = client.post(self._url, json=self.BODY)
                with self._enough:
                    if response.status_code == 200:
                        self.answered += 1
                    else:
                        self.failed.append(response.text)
                    self._enough.notify_all()


@pytest.fixture
def prober(server: EmbeddedServer) -> Callable[[int], Prober]:
    return lambda version: Prober(server, version)
