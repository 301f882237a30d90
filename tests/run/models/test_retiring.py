"""A version goes: nobody asks it, it leaves the servers, its directory leaves the repository. Killed at every step."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from harness.embedded import EmbeddedServer
from harness.errors import CanaryError, UnsafeChange, UsageError, WorldError
from harness.run.models import Site, open_site, restore, retire
from harness.run.models import remains as remains_module
from harness.run.models.history import history
from harness.store import Manifest
from harness.store.retired import is_retired
from tests.run.models.conftest import GOOD, MODEL, QUICK, Clients

pytestmark = pytest.mark.triton
Make = Callable[..., Site]

DRIVER = """
import os, signal, sys
from pathlib import Path
from harness.run.models import Rules, open_site, retire

url, repository, state, archive, left = sys.argv[1:5] + [int(sys.argv[5])]
fsync = os.fsync

def counted(descriptor):
    global left
    fsync(descriptor)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

os.fsync = counted
with open_site([url], None, Path(repository), state=Path(state)) as site:
    retire(site, "tiny", 1, window_s=0.0, then="archive", archive=Path(archive), rules=Rules(probe=False))
"""


@pytest.fixture
def site(place: Make) -> Site:
    """Versions 1 and 2 serve, and config.pbtxt names both."""
    made = place({1: {}, GOOD: {}}, 1, GOOD)
    config = home(made).with_name("config.pbtxt")
    config.write_text(config.read_text().replace("versions: [1]", "versions: [1, 2]"))
    return made


def home(site: Site, version: int = 1) -> Path:
    assert site.repository is not None
    return site.repository / MODEL / str(version)


def ready(site: Site) -> tuple[int, ...]:
    return site.servers[0].loaded(MODEL)


def whole(folder: Path, wanted: Manifest) -> bool:
    return folder.is_dir() and not wanted.differences(folder)


def test_unloaded_and_kept(site: Site) -> None:
    done = retire(site, MODEL, 1, window_s=0.3, rules=QUICK)
    assert ready(site) == (GOOD,)
    assert home(site).is_dir()
    assert [seen.requests for seen in done.watched] == [0]
    assert done.place == home(site)
    again = retire(site, MODEL, 1, window_s=60)
    assert (again.done, again.changed) == ((), None)


def test_archived(site: Site, tmp_path: Path) -> None:
    wanted = Manifest.of_folder(home(site), MODEL, 1)
    done = retire(site, MODEL, 1, window_s=0, then="archive", archive=tmp_path / "archive")
    assert not home(site).exists()
    assert done.place == tmp_path / "archive" / MODEL / "1"
    assert whole(done.place, wanted)
    assert ready(site) == (GOOD,)
    assert "versions: [2]" in home(site).with_name("config.pbtxt").read_text(), "a restart must not look for it"
    assert retire(site, MODEL, 1, window_s=60, then="archive", archive=tmp_path / "archive").done == ()


@pytest.mark.slow
def test_undone_from_the_archive(site: Site, tmp_path: Path) -> None:
    wanted = Manifest.of_folder(home(site), MODEL, 1)
    retire(site, MODEL, 1, window_s=0, then="archive", archive=tmp_path / "archive")
    assert is_retired(home(site))
    restore(site, MODEL, undo=True)
    assert whole(home(site), wanted)
    assert not is_retired(home(site))
    assert ready(site) == (1, GOOD)
    assert "versions: [1, 2]" in home(site).with_name("config.pbtxt").read_text()


@pytest.mark.slow
def test_removed(site: Site) -> None:
    retire(site, MODEL, 1, window_s=0, then="remove")
    assert not home(site).exists()
    assert ready(site) == (GOOD,)
    with pytest.raises(WorldError, match="was removed and cannot be brought back"):
        restore(site, MODEL, undo=True)
    assert ready(site) == (GOOD,)


def test_refused_while_anybody_asks(site: Site, scratch: EmbeddedServer) -> None:
    before = site.servers[0].index()
    with (
        Clients(scratch, version=1),
        pytest.raises(UnsafeChange, match=r"version 1 is still asked on .* 1?\d+ request"),
    ):
        retire(site, MODEL, 1, window_s=600)
    assert site.servers[0].index() == before
    assert site.journal.entries() == []
    with Clients(scratch, version=GOOD):
        retire(site, MODEL, 1, window_s=0.5)
    assert ready(site) == (GOOD,)


@pytest.mark.slow
def test_refused_when_somebody_changes_it_meanwhile(site: Site) -> None:
    control = site.servers[0]
    site.say = lambda line: control.set_versions(MODEL, [GOOD]) if "watching" in line else None
    counts = control.counts
    answers = [counts(MODEL)]
    control.counts = lambda _model: answers.pop() if answers else counts(MODEL)  # type: ignore[method-assign]
    with pytest.raises(UnsafeChange, match="was not READY all the time"):
        retire(site, MODEL, 1, window_s=60)
    assert ready(site) == (GOOD,)


def test_the_last_version_stays(place: Make) -> None:
    site = place({1: {}, GOOD: {}})
    with pytest.raises(UnsafeChange, match="version 1 is the only READY one"):
        retire(site, MODEL, 1, window_s=60)
    with pytest.raises(UsageError, match="serves on no server"):
        retire(site, MODEL, 7, window_s=60)
    assert ready(site) == (1,)


@pytest.mark.slow
def test_every_server_of_a_fleet_is_watched(three: list[EmbeddedServer], tmp_path: Path) -> None:
    """Version 1 is asked on the second server only; both serve 1 and 2."""
    urls = [running.grpc_url for running in three[:2]]
    with open_site(urls, state=tmp_path) as site:
        for control in site.servers:
            control.set_versions(MODEL, [1, GOOD])
        with Clients(three[1], version=1), pytest.raises(UnsafeChange, match=f"still asked on {urls[1]}"):
            retire(site, MODEL, 1, window_s=600)
        assert set(site.loaded(MODEL).values()) == {(1, GOOD)}
        retire(site, MODEL, 1, window_s=0.2)
        assert set(site.loaded(MODEL).values()) == {(GOOD,)}


@pytest.mark.slow
def test_another_version_in_the_archive_is_refused_beforehand(site: Site, tmp_path: Path) -> None:
    there = tmp_path / "archive" / MODEL / "1"
    there.mkdir(parents=True)
    (there / "other").write_text("other")
    with pytest.raises(UsageError, match="is there already and is not the same version"):
        retire(site, MODEL, 1, window_s=0, then="archive", archive=tmp_path / "archive")
    assert ready(site) == (1, GOOD)


@pytest.mark.slow
def test_a_full_archive_is_finished_later(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(remains_module.shutil, "copytree", full)
        with pytest.raises(WorldError, match="No space left"):
            retire(site, MODEL, 1, window_s=0, then="archive", archive=tmp_path / "archive")
    assert not home(site).exists()
    assert history(site.journal.entries(), MODEL).unfinished
    retire(site, MODEL, 1, window_s=0, then="remove")
    assert history(site.journal.entries(), MODEL).unfinished == ()


@pytest.mark.slow
def test_what_was_begun_to_be_removed_is_not_said_to_be_archived(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(remains_module.shutil, "rmtree", fail)
        with pytest.raises(WorldError, match="cannot be removed"):
            retire(site, MODEL, 1, window_s=0, then="remove")
    with pytest.raises(UsageError, match="nothing whole is left to archive"):
        retire(site, MODEL, 1, window_s=0, then="archive", archive=tmp_path / "archive")
    retire(site, MODEL, 1, window_s=0, then="remove")
    assert history(site.journal.entries(), MODEL).unfinished == ()


def kill_at(site: Site, step: int, archive: Path) -> bool:
    """Retire version 1 in a process that is killed after its `step`-th fsync; False where it came to its end."""
    arguments = [site.servers[0].url, str(site.repository), str(site.journal.folder), str(archive), str(step)]
    done = subprocess.run([sys.executable, "-c", DRIVER, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode in (-9, 0), done.stderr
    return done.returncode == -9


def check(site: Site, wanted: Manifest) -> None:
    """Whatever was killed: the other version serves, and version 1 is whole in the repository or not there at all."""
    assert GOOD in ready(site)
    site.servers[0].probe(MODEL, GOOD)
    assert not home(site).exists() or whole(home(site), wanted)


@pytest.mark.parametrize(("step", "then"), [pytest.param(2, "restore", marks=pytest.mark.slow), (9, "finish")])
def test_killed_at_a_step(site: Site, tmp_path: Path, step: int, then: str) -> None:
    wanted = Manifest.of_folder(home(site), MODEL, 1)
    assert kill_at(site, step, tmp_path / "archive")
    end(site, wanted, tmp_path / "archive", then)


def end(site: Site, wanted: Manifest, archive: Path, then: str) -> None:
    check(site, wanted)
    if then == "finish":
        retire(site, MODEL, 1, window_s=0, then="archive", archive=archive)
        assert ready(site) == (GOOD,)
        assert not home(site).exists()
        assert whole(archive / MODEL / "1", wanted)
    else:
        # Killed after the last line of the journal, it is a retirement that came to its end.
        restore(site, MODEL, undo=history(site.journal.entries(), MODEL).last is not None)
        assert ready(site) == (1, GOOD)
        assert whole(home(site), wanted)
        assert not is_retired(home(site))
        assert "versions: [1, 2]" in home(site).with_name("config.pbtxt").read_text()
    assert history(site.journal.entries(), MODEL).unfinished == ()


@pytest.mark.slow
@pytest.mark.parametrize(("then", "stride"), [("finish", 1), ("restore", 3)])
def test_killed_at_every_step(place: Make, tmp_path: Path, then: str, stride: int) -> None:
    for step in count(1, stride):
        site = place({1: {}, GOOD: {}}, 1, GOOD)
        config = home(site).with_name("config.pbtxt")
        config.write_text(config.read_text().replace("versions: [1]", "versions: [1, 2]"))
        state, archive = tmp_path / f"state-{step}", tmp_path / f"archive-{step}"
        wanted = Manifest.of_folder(home(site), MODEL, 1)
        with open_site([site.servers[0].url], None, site.repository, state=state) as its_own:
            if not kill_at(its_own, step, archive):
                break
            try:
                end(its_own, wanted, archive, then)
            except (AssertionError, CanaryError) as error:
                raise AssertionError(f"killed at fsync {step}, then {then}: {error}") from error
    assert step > 15, "every line of the journal is a step, and every rename"
