"""Several servers: in waves, each verified, all of them or none."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.embedded import EmbeddedServer
from harness.errors import LoadFailed
from harness.run.models import Rules, load, open_site, restore, status
from tests.run.models.conftest import GOOD, MODEL, QUICK, urls_of

pytestmark = pytest.mark.triton
Own = Callable[..., EmbeddedServer]


@pytest.mark.parametrize("at_once", ["67%", pytest.param(1, marks=pytest.mark.slow)])
def test_the_first_failure_puts_every_server_back(
    three: list[EmbeddedServer], tmp_path: Path, at_once: int | str
) -> None:
    urls = urls_of(three)
    with open_site(urls, state=tmp_path / "state", max_unavailable=at_once) as site:
        assert [len(wave) for wave in site.waves] == ([1, 1, 1] if at_once == 1 else [2, 1])
        with pytest.raises(LoadFailed) as caught:
            load(site, MODEL, [GOOD], rules=QUICK)
        words = str(caught.value)
        assert words.startswith(f"{urls[2]}: tiny: load of version 2 failed")
        assert f"{urls[0]} has 1 as before" in words
        assert f"{urls[1]} has 1 as before" in words
        assert "NOT PUT BACK" not in words
        assert set(site.loaded(MODEL).values()) == {(1,)}


@pytest.mark.slow
def test_a_wave_is_verified_before_the_next_one_begins(three: list[EmbeddedServer], tmp_path: Path) -> None:
    urls = urls_of(three)
    with open_site([urls[2], urls[0]], state=tmp_path / "state") as site:
        with pytest.raises(LoadFailed):
            load(site, MODEL, [GOOD], rules=QUICK)
        touched = {entry.target for entry in site.journal.entries() if entry.action == "models.set"}
    assert touched == {f"{urls[2]}/{MODEL}"}


@pytest.mark.slow
def test_a_server_that_dies_meanwhile_is_named(
    own: Own, three: list[EmbeddedServer], start_again: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    three = [own("a", {1: {}, GOOD: {}}), *three[1:]]
    urls = urls_of(three)

    def kill_the_first(line: str) -> None:
        if line.startswith("wave 3"):
            os.kill(three[0].pid, signal.SIGKILL)
            assert three[0].wait(60)

    with open_site(urls, state=tmp_path / "state", say=kill_the_first) as site:
        with pytest.raises(LoadFailed) as caught:
            load(site, MODEL, [GOOD], rules=QUICK)
        words = str(caught.value)
        assert "NOT PUT BACK: " in words
        assert urls[0] in words.partition("NOT PUT BACK: ")[2]
        assert f"{urls[1]} has 1 as before" in words
    start_again(three[0], f"--load-model={MODEL}")
    with open_site(urls, state=tmp_path / "state") as site:
        restore(site)
        assert set(site.loaded(MODEL).values()) == {(1,)}


@pytest.mark.slow
def test_servers_that_differ_are_named(three: list[EmbeddedServer], tmp_path: Path) -> None:
    urls = urls_of(three)[:2]
    with open_site(urls[:1], state=tmp_path / "one") as one, open_site(urls, state=tmp_path / "both") as both:
        load(one, MODEL, [GOOD], rules=QUICK)
        warnings = status(both, MODEL).warnings
        assert f"{MODEL}: the servers differ: {urls[0]} has 1, 2; {urls[1]} has 1" in warnings
        load(both, MODEL, [GOOD], rules=Rules(window_s=0))
        assert set(both.loaded(MODEL).values()) == {(1, GOOD)}
        assert not any("differ" in line for line in status(both, MODEL).warnings)


def test_a_server_that_does_not_answer_is_in_the_status(three: list[EmbeddedServer], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"grpc://127.0.0.1:{taken.getsockname()[1]}"
    urls = [nobody, three[0].grpc_url]
    with open_site(urls, state=tmp_path / "state") as site:
        found = status(site)
    assert [bool(server.error) for server in found.servers] == [True, False]
    assert found.servers[1].of(MODEL).ready == (1,)
    assert any(urls[0] in line for line in found.warnings)
