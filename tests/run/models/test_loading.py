"""load and unload on a real Triton: checked before, verified after, put back where anything fails."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from harness.embedded import EmbeddedServer
from harness.errors import ChangedMeanwhile, LoadFailed, LoadMismatch, UnsafeChange, UsageError, VersionMissing
from harness.run.models import Rules, Site, load, open_site, restore, unload, unversioned
from harness.run.models import loading as loading_module
from harness.run.models.history import history
from harness.run.signals import Interrupted
from harness.triton import Control
from tests.run.models.conftest import BAD, GOOD, LATE, MODEL, QUICK, Clients
from tests.waiting import until

pytestmark = pytest.mark.triton


def test_versions_join_and_leave(site: Site, control: Control) -> None:
    changed = load(site, MODEL, [GOOD], rules=QUICK)
    assert (changed.before, changed.after) == ({control.url: (1,)}, {control.url: (1, GOOD)})
    assert changed.called == (control.url,)
    assert load(site, MODEL, [GOOD], rules=QUICK).called == (), "it serves already: Triton is asked for nothing"
    assert unload(site, MODEL, [1], rules=QUICK).after == {control.url: (GOOD,)}
    assert control.loaded(MODEL) == (GOOD,)


def test_a_missing_version_changes_nothing(site: Site, control: Control) -> None:
    before = control.index()
    with pytest.raises(VersionMissing, match="version 9 is not in the repository"):
        load(site, MODEL, [9], rules=QUICK)
    assert control.index() == before
    assert site.journal.entries() == []


@pytest.mark.slow
def test_out_of_sight_a_version_that_silently_left_is_put_back(server: EmbeddedServer, tmp_path: Path) -> None:
    """Triton reports success for [1, 2] to [1, 2, 9] where 9 is missing; what else it does shows afterwards."""
    said: list[str] = []
    with open_site([server.grpc_url], state=tmp_path, say=said.append) as site:
        load(site, MODEL, [GOOD], rules=QUICK)
        with pytest.raises(LoadMismatch, match="version 9 is not READY"):
            load(site, MODEL, [9], rules=QUICK)
        assert site.loaded(MODEL) == {server.grpc_url: (1, GOOD)}
        assert history(site.journal.entries(), MODEL).unfinished == ()
    assert any("were not looked at" in line for line in said)


def test_a_failing_load_keeps_what_served(site: Site, control: Control) -> None:
    with pytest.raises(LoadFailed) as caught:
        load(site, MODEL, [BAD], rules=QUICK)
    words = str(caught.value)
    assert "tiny was told to fail in loading" in words
    assert "the server as a whole says not ready" in words
    assert "NOT PUT BACK" not in words
    assert "\n" not in words
    assert control.ready(MODEL, 1)
    assert history(site.journal.entries(), MODEL).unfinished == ()


@pytest.mark.slow
def test_a_load_that_hangs_is_left_and_restored_once_it_has_ended(
    server: EmbeddedServer, control: Control, tmp_path: Path
) -> None:
    with open_site([server.grpc_url], None, server.repository, state=tmp_path, load_timeout_s=0.5) as hasty:
        with pytest.raises(LoadFailed) as caught:
            load(hasty, MODEL, [LATE], rules=QUICK)
        assert "version 5 is still LOADING; READY now: 1" in str(caught.value).partition("NOT PUT BACK")[2]
        assert history(hasty.journal.entries(), MODEL).unfinished
    control.wait_ready(MODEL, LATE, 60)
    with open_site([server.grpc_url], None, server.repository, state=tmp_path) as patient:
        assert restore(patient)[0].after == {server.grpc_url: (1,)}
    assert control.loaded(MODEL) == (1,)


@pytest.mark.slow
def test_a_signal_in_mid_load_puts_back(site: Site, control: Control) -> None:
    ended = threading.Event()

    def interrupt() -> None:
        with Control(control.url) as watching:
            until(lambda: bool(ended.is_set() or watching.index().in_state(MODEL, "LOADING")), "a load")
        if not ended.is_set():
            os.kill(os.getpid(), signal.SIGTERM)

    watcher = threading.Thread(target=interrupt)
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # one that comes after the load must end nobody
    try:
        watcher.start()
        with pytest.raises(Interrupted, match="SIGTERM"):
            load(site, MODEL, [LATE], rules=QUICK)
    finally:
        ended.set()
        watcher.join()
        signal.signal(signal.SIGTERM, before)
    assert control.loaded(MODEL) == (1,)
    assert history(site.journal.entries(), MODEL).unfinished == ()


@pytest.mark.slow
def test_a_version_that_does_not_answer_a_probe_is_put_back(
    site: Site, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = Control.probe

    def mute(self: Control, model: str, version: int | None, *rest: object) -> object:
        if version == GOOD:
            raise LoadMismatch("tiny: version 2 does not answer a probe properly: no output")
        return probe(self, model, version)

    monkeypatch.setattr(Control, "probe", mute)
    with pytest.raises(LoadMismatch, match="no output"):
        load(site, MODEL, [GOOD], rules=QUICK)
    assert control.loaded(MODEL) == (1,)
    load(site, MODEL, [GOOD], rules=Rules(probe=False, window_s=0))
    assert control.loaded(MODEL) == (1, GOOD)


def test_requests_that_a_higher_version_would_take(site: Site, server: EmbeddedServer, control: Control) -> None:
    rules = Rules(window_s=1.0)
    with Clients(server):
        with pytest.raises(UnsafeChange) as caught:
            load(site, MODEL, [GOOD], rules=rules)
        assert control.loaded(MODEL) == (1,)
        words = str(caught.value)
        assert "requests/s reach version 1" in words
        assert "would all go to version 2" in words
        assert "--versioned-clients" in words
        stray = unversioned(control, MODEL, [1, GOOD], 0.5)
        assert stray is not None
        assert stray.arrivals.rate > 1
        assert unversioned(control, MODEL, [1], 60) is None, "no higher version: nothing to watch"
        load(site, MODEL, [GOOD], rules=Rules(versioned_clients=True))
    assert control.loaded(MODEL) == (1, GOOD)


def test_an_ensemble_that_depends_on_it(site: Site, control: Control) -> None:
    control.set_versions("chain", [1])
    try:
        with pytest.raises(UnsafeChange, match=r"chain .* depends on it .*--dependents"):
            load(site, MODEL, [GOOD], rules=QUICK)
        assert control.loaded(MODEL) == (1,)
        load(site, MODEL, [GOOD], rules=Rules(dependents=True, window_s=0))
        assert control.loaded(MODEL) == (1, GOOD)
    finally:
        control.unload("chain")


def test_taking_out_everything_has_to_be_said(site: Site, control: Control) -> None:
    with pytest.raises(UsageError, match="Triton's own unload would take out every one"):
        unload(site, MODEL, rules=QUICK)
    with pytest.raises(UsageError, match="no version would be left"):
        unload(site, MODEL, [1], rules=QUICK)
    assert control.loaded(MODEL) == (1,)
    unload(site, MODEL, everything=True, rules=QUICK)
    assert control.loaded(MODEL) == ()


def test_persist_edits_the_policy_and_nothing_else(site: Site, server: EmbeddedServer) -> None:
    config = server.repository / MODEL / "config.pbtxt"
    config.write_text("# ours\n" + config.read_text())
    before = config.read_text()
    shown = load(site, MODEL, [GOOD], rules=Rules(persist="show", window_s=0))
    assert config.read_text() == before
    assert "+version_policy: { specific { versions: [1, 2] } }" in shown.diff
    load(site, MODEL, [GOOD], rules=Rules(persist="write", window_s=0))
    assert config.read_text() == before.replace("specific: { versions: [1] }", "specific { versions: [1, 2] }")


@pytest.mark.slow
def test_a_read_only_repository_gets_the_diff(
    site: Site, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = os.access
    folder = server.repository / MODEL
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder and access(path, mode))
    changed = load(site, MODEL, [GOOD], rules=Rules(persist="write", window_s=0))
    assert "versions: [1, 2]" in changed.diff
    assert "is read-only" in changed.notes[0]


def test_persist_without_a_repository_is_refused_beforehand(server: EmbeddedServer, tmp_path: Path) -> None:
    with (
        open_site([server.grpc_url], state=tmp_path) as site,
        pytest.raises(UsageError, match="--repository"),
    ):
        load(site, MODEL, [GOOD], rules=Rules(persist="write", window_s=0))


def test_a_second_operator_elsewhere_is_noticed(site: Site, control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between our look and our call, somebody loads version 2: theirs stays, ours is refused."""

    def meanwhile(*_: object) -> list[object]:
        control.set_versions(MODEL, [1, GOOD])
        return []

    monkeypatch.setattr(loading_module, "strays", meanwhile)
    with pytest.raises(ChangedMeanwhile):
        load(site, MODEL, [GOOD], exactly=True, rules=QUICK)
    assert control.loaded(MODEL) == (1, GOOD)
    assert history(site.journal.entries(), MODEL).unfinished == ()


def test_a_second_operator_here_is_kept_out(server: EmbeddedServer, site: Site) -> None:
    with (
        open_site([server.grpc_url], None, server.repository, state=site.journal.folder) as other,
        site.changing(),
        pytest.raises(UsageError, match="somebody on this machine"),
    ):
        load(other, MODEL, [GOOD], rules=QUICK)


def test_default_state_is_shared_by_fleets_that_overlap(
    server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    urls = [server.grpc_url, server.http_url]
    with open_site(urls) as fleet, open_site(urls[:1]) as one, fleet.changing():
        assert fleet.journal.folder != one.journal.folder
        with pytest.raises(UsageError, match="somebody on this machine"):
            unload(one, MODEL, everything=True)
