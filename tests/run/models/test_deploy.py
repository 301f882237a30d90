"""From a store to what serves: only what changed is loaded, and what was cut off is finished by the next sync."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.embedded import EmbeddedServer
from harness.errors import LoadFailed, StoreError, UnsafeChange
from harness.run.models import Rules, Site, load, publish, retire, sync_and_load, unload
from harness.run.models import deploy as deploy_module
from harness.store import FolderStore
from tests.run.models.conftest import GOOD, MODEL, QUICK, Clients, repository_in

pytestmark = pytest.mark.triton


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """Versions 1, 2 and one that fails are published."""
    built = repository_in(tmp_path / "built", {1: {}, GOOD: {}, 3: {"load_fails": True}})
    (tmp_path / "store").mkdir()
    store = FolderStore(f"file://{tmp_path / 'store'}")
    for version in (1, GOOD):
        publish(store, built / MODEL / str(version), MODEL, version, config=built / MODEL / "config.pbtxt")
    return store


@pytest.fixture
def place(place: Callable[..., Site]) -> Site:
    """A server whose repository has nothing but version 1 (the same bytes as the store's), which serves."""
    return place({1: {}})


def ready(place: Site) -> tuple[int, ...]:
    return place.servers[0].loaded(MODEL)


def test_new_versions_join(place: Site, store: FolderStore) -> None:
    done = sync_and_load(place, store, rules=QUICK)
    assert done.result.added == ((MODEL, GOOD),)
    assert ready(place) == (1, GOOD)
    again = sync_and_load(place, store, rules=QUICK)
    assert (again.changed, again.result.changed) == ((), ())


@pytest.mark.slow
def test_the_latest_replaces_what_served(place: Site, store: FolderStore) -> None:
    done = sync_and_load(place, store, load="latest", rules=QUICK)
    assert [changed.after[place.servers[0].url] for changed in done.changed] == [(1, GOOD), (GOOD,)]
    assert ready(place) == (GOOD,)


@pytest.mark.slow
def test_only_files_come_where_nothing_shall_be_loaded(place: Site, store: FolderStore) -> None:
    assert sync_and_load(place, store, load="no").changed == ()
    assert sync_and_load(None, store, place.repository).changed == ()
    assert ready(place) == (1,)


@pytest.mark.slow
def test_unversioned_clients_hold_it_and_the_next_round_goes_on(
    place: Site, scratch: EmbeddedServer, store: FolderStore
) -> None:
    """The files are there after the refusal; the load comes once it is allowed."""

    with Clients(scratch), pytest.raises(UnsafeChange, match="--versioned-clients"):
        sync_and_load(place, store, rules=Rules(window_s=1.0))
    assert ready(place) == (1,)
    done = sync_and_load(place, store, rules=Rules(versioned_clients=True))
    assert done.result.added == ()
    assert ready(place) == (1, GOOD)


def test_a_changed_configuration_is_applied_and_keeps_the_local_policy(
    place: Site, store: FolderStore, tmp_path: Path
) -> None:
    assert place.repository is not None
    sync_and_load(place, store, rules=Rules(persist="write", window_s=0))
    config = place.repository / MODEL / "config.pbtxt"
    assert "versions: [1, 2]" in config.read_text()
    built = tmp_path / "built" / MODEL / "config.pbtxt"
    built.write_text(built.read_text().replace("count: 1", "count: 2"))
    publish(store, built.parent / "1", MODEL, 1, config=built)
    done = sync_and_load(place, store, rules=QUICK)
    assert done.result.configs == (f"{MODEL}/config.pbtxt",)
    assert "count: 2" in config.read_text()
    assert "versions: [1, 2]" in config.read_text()
    assert done.changed[0].called
    assert ready(place) == (1, GOOD)
    assert sync_and_load(place, store, rules=QUICK).changed == ()


@pytest.mark.slow
def test_a_configuration_that_fails_is_put_back(place: Site, store: FolderStore, tmp_path: Path) -> None:
    assert place.repository is not None
    sync_and_load(place, store, rules=QUICK)
    config = place.repository / MODEL / "config.pbtxt"
    before = config.read_text()
    built = tmp_path / "built" / MODEL / "config.pbtxt"
    built.write_text(built.read_text().replace('backend: "python"', 'backend: "nosuch"'))
    publish(store, built.parent / "1", MODEL, 1, config=built)
    for _round in range(2):
        with pytest.raises(LoadFailed):
            sync_and_load(place, store, rules=QUICK)
        assert config.read_text() == before
        assert ready(place) == (1, GOOD)
        for version in (1, GOOD):
            place.servers[0].probe(MODEL, version)


@pytest.mark.slow
def test_a_failing_version_is_tried_again_and_harms_nothing(place: Site, store: FolderStore, tmp_path: Path) -> None:
    sync_and_load(place, store, rules=QUICK)
    publish(store, tmp_path / "built" / MODEL / "3", MODEL, 3)
    for _round in range(2):
        with pytest.raises(LoadFailed, match="version 3 failed"):
            sync_and_load(place, store, rules=QUICK)
        assert ready(place) == (1, GOOD)


def test_killed_between_the_files_and_the_load(
    place: Site, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(deploy_module._Loads, "run", die)
        with pytest.raises(Killed):
            sync_and_load(place, store, rules=QUICK)
    assert ready(place) == (1,)
    done = sync_and_load(place, store, rules=QUICK)
    assert done.result.added == (), "the files came the first time"
    assert ready(place) == (1, GOOD)


@pytest.mark.slow
def test_a_store_that_fails_leaves_no_debt(place: Site, store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StoreError("503")

    with monkeypatch.context() as patched:
        patched.setattr(deploy_module, "sync", fail)
        with pytest.raises(StoreError):
            sync_and_load(place, store, rules=QUICK)
    assert not list(place.journal.folder.glob("sync-*"))


@pytest.mark.slow
def test_a_retired_version_stays_retired(place: Site, store: FolderStore) -> None:
    sync_and_load(place, store, rules=QUICK)
    retire(place, MODEL, 1, window_s=0.2, then="remove")
    done = sync_and_load(place, store, rules=QUICK)
    assert done.result.added == ()
    assert [line for line in done.result.skipped if line.startswith(f"{MODEL}/1: was retired here")]
    assert ready(place) == (GOOD,)


@pytest.mark.slow
def test_a_model_that_serves_nowhere_gets_what_its_policy_says(place: Site, store: FolderStore) -> None:
    load(place, MODEL, [1], rules=QUICK)
    place.servers[0].unload(MODEL)
    sync_and_load(place, store, rules=QUICK)
    assert ready(place) == (1,), "specific: { versions: [1] }"


@pytest.mark.slow
def test_another_models_failure_does_not_load_again_what_an_operator_took_out(
    place: Site, store: FolderStore, tmp_path: Path
) -> None:
    """The failing one is tried again; the other one had its load."""
    broken = repository_in(tmp_path / "broken", {3: {"load_fails": True}}) / MODEL
    config = tmp_path / "broken.pbtxt"
    config.write_text((broken / "config.pbtxt").read_text().replace(MODEL, "other").replace("[1]", "[3]"))
    publish(store, broken / "3", "other", 3, config=config)
    with pytest.raises(LoadFailed):
        sync_and_load(place, store, rules=QUICK)
    assert ready(place) == (1, GOOD)
    unload(place, MODEL, [GOOD], rules=QUICK)
    with pytest.raises(LoadFailed):
        sync_and_load(place, store, rules=QUICK)
    assert ready(place) == (1,)


def test_killed_before_the_older_versions_left(
    place: Site, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(deploy_module._Loads, "_leave", die)
        with pytest.raises(Killed):
            sync_and_load(place, store, load="latest", rules=QUICK)
    assert ready(place) == (1, GOOD)
    sync_and_load(place, store, load="latest", rules=QUICK)
    assert ready(place) == (GOOD,)
