"""A Triton and a store that are somebody else's, and a client that names no version."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from harness.embedded import EmbeddedServer, build_repository
from harness.run.embedded_store import build_and_publish
from harness.store import open_store

DEPLOY = """
name: tiny-deploy
target: {{url: "{url}", repository: {repository}}}
store: {{url: {store}}}
baseline: {{model: tiny, version: 1}}
candidate: {{model: tiny, version: 2}}
load: {{timeout: 20s}}
deploy: {{rate: 50/s, within: 100s}}
gates:
  - {{metric: errors, margin: 3pp}}
stages:
  - {{mode: paired, in_flight: 1, for: 4s}}
  - {{mode: split, candidate: 5%, rate: 50/s, for: 4s}}
on_fail: {{route: baseline, unload: candidate}}
"""


@dataclass(frozen=True)
class Place:
    """A Triton that serves version 1 of `tiny`, and a folder as its store, which has version 2."""

    server: EmbeddedServer
    repository: Path
    store: Path
    scenario: Path

    def ready(self) -> list[int]:
        index = httpx.post(f"{self.server.http_url}/v2/repository/index", timeout=30).json()
        return sorted(int(row["version"]) for row in index if row.get("state") == "READY")

    def state(self, version: int) -> str:
        index = httpx.post(f"{self.server.http_url}/v2/repository/index", timeout=30).json()
        return next((str(row["state"]) for row in index if row.get("version") == str(version)), "")


@contextmanager
def place(folder: Path, build: Any = "same") -> Iterator[Place]:
    """`build`: what version 2 is."""
    repository, store = folder / "models", folder / "store"
    build_repository(repository, {"tiny": {1: "fp16"}})
    store.mkdir()
    build_and_publish(open_store(str(store)), "tiny", 2, build)
    with EmbeddedServer(repository, folder / "server.log") as server:
        server.start({"tiny": [1]})
        scenario = folder / "tiny-deploy.yaml"
        scenario.write_text(DEPLOY.format(url=server.grpc_url, repository=repository, store=store))
        yield Place(server, repository, store, scenario)


@dataclass
class Client:
    """Sends `rate` requests a second that name no version; keeps when each was answered, and by which version."""

    url: str
    rate: float = 50.0
    answers: list[tuple[float, int, str]] = field(default_factory=list)

    def __enter__(self) -> Client:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def by(self, version: int) -> list[float]:
        """When that version answered."""
        return [t for t, _, answered in self.answers if answered == str(version)]

    def _run(self) -> None:
        body = {"inputs": [{"name": "INPUT", "datatype": "FP32", "shape": [16], "data": [0.0] * 16}]}
        with httpx.Client(timeout=60) as client:
            began, sent = time.monotonic(), 0
            while not self._stop.wait(max(began + sent / self.rate - time.monotonic(), 0.0)):
                answer = client.post(f"{self.url}/v2/models/tiny/infer", json=body)
                version = answer.json().get("model_version", "") if answer.is_success else ""
                self.answers.append((time.monotonic(), answer.status_code, version))
                sent += 1
