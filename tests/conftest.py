"""Fixtures that more than one folder uses."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from harness.embedded import (
    EmbeddedS3,
    EmbeddedServer,
    available,
    build_repository,
    embedding_available,
    s3_available,
    weights_available,
)


def pytest_configure() -> None:
    """Whoever starts the tests in the background of a script has them ignore Ctrl-C, and so all that they start."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where the real server or the real model cannot be had, what needs it is skipped with the reason."""
    needs = {"triton": available(), "weights": weights_available(), "embedding": embedding_available()}
    for marker, reason in needs.items():
        for item in items:
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def tiny_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A Triton that serves versions 1 and 2 of `tiny`; tests that use it change nothing on it."""
    folder = tmp_path_factory.mktemp("tiny-server")
    build_repository(folder / "models", {"tiny": {1: "fp16", 2: "same"}})
    with EmbeddedServer(folder / "models", folder / "server.log") as server:
        server.start(load={"tiny": [1, 2]})
        yield server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedS3]:
    """A real S3 server with the bucket `models`; its `environment` is what a client needs."""
    if reason := s3_available():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("s3")
    with EmbeddedS3(folder / "data", folder / "s3.log") as server:
        yield server
