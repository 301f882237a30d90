"""A load over HTTP keeps one of Triton's HTTP threads, and the connections that share it wait until the load ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import httpx
import pytest

from harness.embedded import EmbeddedServer
from harness.triton import Control
from tests.triton.conftest import HELD, MODEL
from tests.triton.held import holding, in_progress

pytestmark = pytest.mark.triton

CONNECTIONS = 32


def test_open_connections_wait_for_a_load_over_http_and_not_for_one_over_grpc(
    control: Control, server: EmbeddedServer, repository: Path
) -> None:
    over_http = control.url.startswith("http")
    assert bool(control.caution) is over_http
    rounds, within_s = (20, 1) if over_http else (1, 30)
    # Triton's threads take connections as it comes: the one that is kept may have none of ours.
    waited = any(wait_for_a_load(control, server, repository, within_s) for _ in range(rounds))
    assert waited is over_http


def wait_for_a_load(control: Control, server: EmbeddedServer, repository: Path, within_s: float) -> bool:
    """Whether a connection is not answered in that time, while a load lasts; afterwards all of them are."""
    control.set_versions(MODEL, [1], repository=repository)
    with opened(server) as connections, ThreadPoolExecutor(1 + CONNECTIONS) as pool:
        with holding(repository, "load"):
            load = in_progress(
                server, MODEL, pool, lambda: control.set_versions(MODEL, [1, HELD], repository=repository)
            )
            asked = [pool.submit(live, client) for client in connections]
            waiting = wait(asked, within_s).not_done
            with Control(server.grpc_url) as watching:
                assert watching.index().in_state(MODEL, "LOADING") == (HELD,)
        assert load.result().after == (1, HELD)
        assert [answer.result() for answer in asked] == [200] * CONNECTIONS
    return bool(waiting)


@contextlib.contextmanager
def opened(server: EmbeddedServer) -> Iterator[list[httpx.Client]]:
    """Open, all of them: each has been answered at the same time as the others."""
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(CONNECTIONS) as pool:
        made = [stack.enter_context(httpx.Client(base_url=server.http_url, timeout=120)) for _ in range(CONNECTIONS)]
        assert list(pool.map(live, made)) == [200] * CONNECTIONS
        yield made


def live(client: httpx.Client) -> int:
    return client.get("/v2/health/live").status_code
