"""A version that takes 300 MiB, on a real Triton: what its load cost decides about the next one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.embedded import EmbeddedServer
from harness.embedded.repository import compile_models
from harness.errors import UnsafeChange
from harness.run.costs import COST, costs
from harness.run.machine import HOST, Machine, look
from harness.run.models import Site, load, open_site, unload
from harness.triton import Control
from tests.run.models.conftest import MODEL, QUICK, repository_in

pytestmark = pytest.mark.triton
MIB = 2**20
BIG = 2
HELD_MIB = 300
BIG_MODEL = f"""from harness.embedded.tiny import TritonPythonModel as Tiny


class TritonPythonModel(Tiny):
    def initialize(self, args):
        super().initialize(args)
        self._held = b"x" * ({HELD_MIB} << 20)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    repository = repository_in(tmp_path_factory.mktemp("models"), {1: {}, BIG: {}})
    (repository / MODEL / str(BIG) / "model.py").write_text(BIG_MODEL)
    compile_models(repository / MODEL / str(BIG))
    with EmbeddedServer(repository, tmp_path_factory.mktemp("log") / "server.log") as running:
        yield running.start({MODEL: [1]})


@pytest.fixture
def free_mib() -> list[float]:
    """What the machine is said to have free; all else is as it is."""
    return [1000.0]


@pytest.fixture
def site(server: EmbeddedServer, tmp_path: Path, said: list[str], free_mib: list[float]) -> Iterator[Site]:
    def small(url: str) -> Machine:
        return replace(look(url), free={HOST: free_mib[0] * MIB})

    with open_site([server.grpc_url], None, server.repository, say=said.append, state=tmp_path, look=small) as site:
        yield site
        if site.loaded(MODEL) != {server.grpc_url: (1,)}:
            unload(site, MODEL, [BIG], rules=QUICK)


def test_a_load_is_measured_and_the_next_one_is_held_against_it(
    site: Site, server: EmbeddedServer, said: list[str], free_mib: list[float]
) -> None:
    free_mib[0] = 200
    load(site, MODEL, [BIG], rules=QUICK)
    assert any("an estimate: what version 1 holds now" in line for line in said), "nothing better was known"
    (cost,) = costs(site.journal.entries(), server.grpc_url, MODEL)
    assert cost.version == BIG
    assert HELD_MIB < cost.amounts[HOST] / MIB < HELD_MIB + 200
    (entry,) = [entry for entry in site.journal.entries() if entry.action == COST]
    assert entry.wanted["used"][HOST] - entry.before["used"][HOST] > HELD_MIB * MIB, "before and after are kept, too"
    unload(site, MODEL, [BIG], rules=QUICK)

    with Control(server.grpc_url) as control:
        before, entries = control.index(), site.journal.entries()
        with pytest.raises(UnsafeChange) as caught:
            load(site, MODEL, [BIG], rules=QUICK)
        assert control.index() == before, "nothing was sent"
    assert site.journal.entries() == entries, "nothing was changed"
    words = str(caught.value)
    assert "version 2 does not fit beside what serves" in words
    assert "measured: the last load of it on this server, 5 % on top as margin), 200 MiB of" in words
    assert "target: {swap: true}" in words
    assert words.endswith("nothing was loaded; to load it all the same: --even-if-it-does-not-fit")

    load(site, MODEL, [BIG], rules=replace(QUICK, unfit=True))
    assert site.loaded(MODEL) == {server.grpc_url: (1, BIG)}


def test_a_machine_that_cannot_be_read_does_not_fail_a_load(server: EmbeddedServer, tmp_path: Path) -> None:
    calls = 0

    def blind(url: str) -> Machine:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise OSError("out of files")
        return Machine(unknown=f"{url}: not known")

    with open_site([server.grpc_url], None, server.repository, state=tmp_path, look=blind) as site:
        load(site, MODEL, [BIG], rules=QUICK)
        assert not [entry for entry in site.journal.entries() if entry.action == COST]
        unload(site, MODEL, [BIG], rules=QUICK)
