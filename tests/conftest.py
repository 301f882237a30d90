"""Fixtures that more than one folder uses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.embedded import EmbeddedServer, build_repository


@pytest.fixture(scope="session")
def tiny_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A Triton that serves versions 1 and 2 of `tiny`; tests that use it change nothing on it."""
    folder = tmp_path_factory.mktemp("tiny-server")
    build_repository(folder / "models", {"tiny": {1: "fp16", 2: "same"}})
    with EmbeddedServer(folder / "models", folder / "server.log") as server:
        server.start(load={"tiny": [1, 2]})
        yield server
