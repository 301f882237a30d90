"""A load over HTTP keeps one of Triton's HTTP threads, and the connections that share it wait until the load ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from harness.embedded import EmbeddedServer
from harness.triton import Control
from tests.triton.conftest import MODEL, SLOW_TO_LOAD

pytestmark = pytest.mark.triton

CONNECTIONS = 32


@pytest.fixture
def connections(server: EmbeddedServer) -> Iterator[list[httpx.Client]]:
    """Open, all of them: each has been answered at the same time as the others."""
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(httpx.Client(base_url=server.http_url, timeout=60)) for _ in range(CONNECTIONS)]
        ask_all(made)
        yield made


def test_open_connections_wait_for_a_load_over_http_and_not_for_one_over_grpc(
    control: Control, server: EmbeddedServer, repository: Path, connections: list[httpx.Client]
) -> None:
    over_http = control.url.startswith("http")
    assert bool(control.caution) is over_http
    answered_meanwhile = []
    # A busy machine may be too slow to ask within one load.
    while len(answered_meanwhile) < (1 if over_http else 5) and not any(answered_meanwhile):
        control.set_versions(MODEL, [1], repository=repository)
        with ThreadPoolExecutor(1) as pool, Control(server.grpc_url) as watching:
            load = pool.submit(control.set_versions, MODEL, [1, SLOW_TO_LOAD], repository=repository)
            while not watching.index().in_state(MODEL, "LOADING"):
                assert not load.done(), load.result()
            ask_all(connections)
            answered_meanwhile.append(bool(watching.index().in_state(MODEL, "LOADING")))
            load.result()
    assert any(answered_meanwhile) is not over_http


def ask_all(connections: list[httpx.Client]) -> None:
    """Returns once each was answered."""
    with ThreadPoolExecutor(len(connections)) as pool:
        answers = list(pool.map(lambda client: client.get("/v2/health/live").status_code, connections))
    assert answers == [200] * len(connections)
