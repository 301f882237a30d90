"""What a load costs on a real server: its own processes are measured."""

from __future__ import annotations

import os

import pytest

from harness.embedded import EmbeddedServer
from harness.errors import UsageError, WorldError
from harness.run.machine import listening
from harness.run.models import Memory, Site, cycles, open_site
from harness.run.models.memory import find_memory
from harness.triton import Control
from tests.run.models.conftest import GOOD, MODEL, QUICK

pytestmark = pytest.mark.triton
MIB = 2**20


@pytest.mark.slow
def test_a_load_costs_what_its_process_takes(site: Site, server: EmbeddedServer, control: Control) -> None:
    found = cycles(site, MODEL, [GOOD], 2, server_pid=server.pid, rules=QUICK)
    assert len(found.cycles) == 2
    assert 5 < found.cost / MIB < 500
    assert found.trend.grows is None
    assert str(server.pid) in found.what
    assert control.loaded(MODEL) == (1,), "the set is as it was"


def test_the_process_behind_a_port_is_found(site: Site, server: EmbeddedServer) -> None:
    assert listening(server.grpc_url) == server.pid
    assert find_memory(site).read() > 10 * MIB


@pytest.mark.slow
def test_a_failure_leaves_the_set_as_it_was(site: Site, control: Control) -> None:
    looks = 0

    def read() -> float:
        nonlocal looks
        looks += 1
        if looks > 5:
            raise WorldError("the memory cannot be read any more")
        return 1.0

    with pytest.raises(WorldError, match="any more"):
        cycles(site, MODEL, [GOOD], 3, memory=Memory("nothing", read), rules=QUICK)
    assert control.loaded(MODEL) == (1,)


@pytest.mark.parametrize(("versions", "count", "words"), [([1], 3, "serves already"), ([GOOD], 0, "at least 1")])
def test_what_cannot_be_measured(site: Site, versions: list[int], count: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        cycles(site, MODEL, versions, count, memory=Memory("nothing", lambda: 1.0), rules=QUICK)


def test_a_server_elsewhere_needs_its_process() -> None:
    with open_site(["grpc://192.0.2.1:8001"]) as site:
        with pytest.raises(UsageError, match="--server-pid"):
            find_memory(site)
        assert "resident memory" in find_memory(site, os.getpid()).what
