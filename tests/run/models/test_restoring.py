"""After a restart, a crash, or a wrong change: back to what the journal knows."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.embedded import EmbeddedServer
from harness.errors import CanaryError, UsageError, WorldError
from harness.run.models import Rules, Site, load, open_site, restore, status, unload
from harness.run.models.history import history
from harness.triton import Control
from tests.run.models.conftest import GOOD, MODEL, QUICK, SLOW
from tests.waiting import until

pytestmark = pytest.mark.triton
PERSIST = Rules(persist="write", window_s=0)


def test_a_restart_that_names_the_model_keeps_what_was_persisted(
    own: Callable[..., EmbeddedServer], start_again: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    server = own("a", {1: {}, GOOD: {}})
    with open_site([server.grpc_url], None, server.repository, state=tmp_path / "state") as site:
        load(site, MODEL, [GOOD], rules=PERSIST)
        os.kill(server.pid, signal.SIGKILL)
        start_again(server, f"--load-model={MODEL}")
        assert site.loaded(MODEL) == {server.grpc_url: (1, GOOD)}
        assert restore(site, MODEL)[0].done == ()


def test_a_restart_that_loads_nothing_is_told_and_restored(
    own: Callable[..., EmbeddedServer], start_again: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    server = own("a", {1: {}, GOOD: {}})
    with open_site([server.grpc_url], None, server.repository, state=tmp_path / "state") as site:
        load(site, MODEL, [GOOD], rules=QUICK)
        drift = [line for line in status(site).warnings if "a restart would serve 1" in line]
        assert len(drift) == 1
        os.kill(server.pid, signal.SIGKILL)
        start_again(server)
        assert site.loaded(MODEL) == {server.grpc_url: ()}
        assert any("1, 2 was the last set loaded from here" in line for line in status(site, MODEL).warnings)
        (restored,) = restore(site)
        assert restored.after == {server.grpc_url: (1, GOOD)}
        assert site.loaded(MODEL) == {server.grpc_url: (1, GOOD)}
        lines = len(site.journal.entries())
        assert restore(site)[0].done == ()
        assert len(site.journal.entries()) == lines, "twice does nothing twice"


@pytest.mark.slow
def test_a_server_that_dies_in_mid_load(
    own: Callable[..., EmbeddedServer], start_again: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    server = own("a", {1: {}, SLOW: {"load_s": 20.0}})
    with open_site([server.grpc_url], None, server.repository, state=tmp_path / "state") as site:
        raised: list[CanaryError] = []

        def go() -> None:
            try:
                load(site, MODEL, [SLOW], rules=QUICK)
            except CanaryError as error:
                raised.append(error)

        operator = threading.Thread(target=go)
        operator.start()
        with Control(server.grpc_url) as control:
            until(lambda: bool(raised or control.index().in_state(MODEL, "LOADING")), "a load")
        os.kill(server.pid, signal.SIGKILL)
        operator.join()
        words = str(raised[0])
        assert raised[0].exit_code == 4
        assert "\n" not in words
        assert "NOT PUT BACK" in words
        assert f"triton-canary models restore {MODEL}" in words
    start_again(server)
    with open_site([server.grpc_url], None, server.repository, state=tmp_path / "state") as site:
        assert any("cut off" in line for line in status(site).warnings)
        assert restore(site)[0].after == {server.grpc_url: (1,)}
        assert history(site.journal.entries(), MODEL).unfinished == ()
        assert not any("cut off" in line for line in status(site).warnings)


def test_an_operator_who_was_killed(site: Site, control: Control) -> None:
    """The journal says begun and nothing else; the server went on and loaded it."""
    served = {"served": {control.url: [1]}}
    site.journal.folder.mkdir(parents=True)
    outer = site.journal.action("models.change", MODEL, before=served, wanted={"served": {control.url: [1, GOOD]}})
    inner = site.journal.action("models.set", f"{control.url}/{MODEL}", before=[1], wanted=[1, GOOD])
    outer.__enter__()
    inner.__enter__()
    kept = site.journal._write
    site.journal._write = lambda _line: None  # type: ignore[method-assign]
    del inner, outer
    site.journal._write = kept  # type: ignore[method-assign]
    control.set_versions(MODEL, [1, GOOD])
    (restored,) = restore(site)
    assert restored.why == "before a change that was cut off"
    assert control.loaded(MODEL) == (1,)
    assert history(site.journal.entries(), MODEL).wanted == {control.url: (1,)}


def test_undo_once(site: Site, server: EmbeddedServer, control: Control) -> None:
    config = server.repository / MODEL / "config.pbtxt"
    before = config.read_text()
    load(site, MODEL, [GOOD], rules=PERSIST)
    assert config.read_text() != before
    (undone,) = restore(site, MODEL, undo=True)
    assert undone.after == {control.url: (1,)}
    assert control.loaded(MODEL) == (1,)
    assert config.read_text() == before
    with pytest.raises(UsageError, match="was undone already"):
        restore(site, MODEL, undo=True)
    assert restore(site, MODEL)[0].done == (), "what serves since the undo is what is wanted"


@pytest.mark.slow
def test_undo_of_an_unload_of_everything(site: Site, control: Control) -> None:
    unload(site, MODEL, everything=True, rules=QUICK)
    restore(site, undo=True)
    assert control.loaded(MODEL) == (1,)


def test_what_the_journal_does_not_know(site: Site) -> None:
    with pytest.raises(UsageError, match="knows no model"):
        restore(site)
    with pytest.raises(UsageError, match="knows nothing of it"):
        restore(site, MODEL)


@pytest.mark.slow
def test_a_dead_server_is_named_and_the_others_are_restored(
    own: Callable[..., EmbeddedServer], three: list[EmbeddedServer], tmp_path: Path
) -> None:
    first, second = own("a", {1: {}, GOOD: {}}), three[0]
    with open_site([first.grpc_url, second.grpc_url], state=tmp_path / "state") as site:
        load(site, MODEL, [GOOD], rules=QUICK)
        with Control(second.grpc_url) as control:
            control.set_versions(MODEL, [1])
            first.stop()
            with pytest.raises(WorldError, match=f"NOT RESTORED: {first.grpc_url}"):
                restore(site)
            assert control.loaded(MODEL) == (1, GOOD)
