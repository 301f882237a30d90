"""The dynamic batcher's setting on a real Triton: changed for every version, proven, undone, lent and given back."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.embedded import EmbeddedServer, build_repository
from harness.errors import LoadMismatch, UnsafeChange, UsageError
from harness.run.models import Site, held, load, open_site, restore, settings, tune
from harness.triton import Batching, Control
from tests.run.conftest import CANARY, canary
from tests.waiting import until

pytestmark = pytest.mark.triton

DAY, NIGHT = 0, 20_000


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    folder = tmp_path_factory.mktemp("tuned")
    build_repository(folder / "models", {"batching": {1: "fp16", 2: "same"}, "tiny": {1: "fp16"}})
    for config in (folder / "models").glob("*/config.pbtxt"):
        config.write_text(re.sub(r"count: \d+", "count: 1", config.read_text()))
    with EmbeddedServer(folder / "models", folder / "server.log") as server:
        yield server.start({"batching": [1, 2], "tiny": [1]})


@pytest.fixture
def server(running: EmbeddedServer) -> EmbeddedServer:
    with Control(running.grpc_url) as control:
        control.set_versions("batching", [1, 2])
        control.set_batching("batching", Batching({"preferred_batch_size": [16]}))
    return running


@pytest.fixture
def site(server: EmbeddedServer, tmp_path: Path) -> Iterator[Site]:
    with open_site([server.grpc_url], repository=server.repository, state=tmp_path / "state") as site:
        yield site


def served(server: EmbeddedServer) -> dict[int, Batching]:
    """What another connection reads, over the other protocol."""
    with Control(server.http_url) as control:
        return control.batching("batching")


def delays(server: EmbeddedServer) -> dict[int, int]:
    return {version: setting.delay_us for version, setting in served(server).items()}


def test_every_version_that_serves_gets_it_and_an_undo_puts_the_old_one_back(
    site: Site, server: EmbeddedServer
) -> None:
    config = (server.repository / "batching" / "config.pbtxt").read_bytes()
    done = tune(site, "batching", NIGHT, [8, 16])
    assert done.called == (server.grpc_url,)
    assert {v: (s.delay_us, s.preferred) for v, s in served(server).items()} == {
        1: (NIGHT, (8, 16)),
        2: (NIGHT, (8, 16)),
    }
    assert tune(site, "batching", NIGHT).called == (), "it is so already"
    assert (server.repository / "batching" / "config.pbtxt").read_bytes() == config
    (restored,) = restore(site, "batching", undo=True)
    assert restored.done
    assert served(server) == dict.fromkeys((1, 2), Batching({"preferred_batch_size": [16]}))
    with pytest.raises(UsageError, match="undone already"):
        restore(site, "batching", undo=True)


@pytest.mark.slow
def test_after_a_restart_of_the_model_restore_brings_the_last_setting(site: Site, server: EmbeddedServer) -> None:
    tune(site, "batching", NIGHT)
    with Control(server.grpc_url) as control:
        control.unload("batching")
        control.set_versions("batching", [1, 2], repository=server.repository)
    assert delays(server) == {1: DAY, 2: DAY}, "config.pbtxt keeps the day's setting"
    restore(site, "batching")
    assert delays(server) == {1: NIGHT, 2: NIGHT}
    assert restore(site, "batching")[0].done == ()


@pytest.mark.parametrize(
    ("model", "delay_us", "preferred", "expected"),
    [
        ("tiny", NIGHT, None, "max_batch_size is 0, so Triton forms no batches"),
        ("batching", NIGHT, [32], "preferred batch size 32 is above its max_batch_size, 16"),
        ("nobody", NIGHT, None, "serves no version"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_sent(
    site: Site, server: EmbeddedServer, model: str, delay_us: int, preferred: list[int] | None, expected: str
) -> None:
    with pytest.raises(UsageError, match=expected):
        tune(site, model, delay_us, preferred)
    assert delays(server) == {1: DAY, 2: DAY}


def test_versions_with_settings_of_their_own_are_not_levelled(site: Site, server: EmbeddedServer) -> None:
    def differ(control: Control, model: str) -> dict[int, Batching]:
        return {1: Batching(None), 2: Batching({})}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Control, "batching", differ)
        with pytest.raises(UsageError, match="version 1: no dynamic batching; version 2: max_queue_delay 0 ms"):
            tune(site, "batching", NIGHT)


def test_a_probe_that_is_not_answered_puts_the_old_setting_back(site: Site, server: EmbeddedServer) -> None:
    def mute(control: Control, model: str, version: int | None) -> None:
        raise LoadMismatch("does not answer a probe")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Control, "probe", mute)
        with pytest.raises(LoadMismatch):
            tune(site, "batching", NIGHT)
    assert delays(server) == {1: DAY, 2: DAY}
    assert restore(site, "batching")[0].done == (), "the journal has nothing left to undo"


def test_an_ensemble_that_depends_on_it_is_asked_about(site: Site) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Control, "dependents", lambda control, model: ("chain",))
        with pytest.raises(UnsafeChange, match="chain"):
            tune(site, "batching", NIGHT)


def lend_and_fail(site: Site) -> None:
    with held(site, "batching") as hold:
        hold.lend(NIGHT)
        raise UsageError("cut off")


@pytest.mark.slow
def test_a_hold_gives_back_at_its_end_and_when_it_is_cut_off(site: Site, server: EmbeddedServer) -> None:
    with held(site, "batching") as hold:
        hold.lend(NIGHT)
        assert delays(server) == {1: NIGHT, 2: NIGHT}
    assert delays(server) == {1: DAY, 2: DAY}
    with pytest.raises(UsageError, match="cut off"):
        lend_and_fail(site)
    assert delays(server) == {1: DAY, 2: DAY}
    assert restore(site, "batching")[0].done == ()


DUSK = """
import sys, time
from pathlib import Path
from harness.run.models import held, open_site
with open_site([sys.argv[1]], state=Path(sys.argv[2])) as site, held(site, "batching") as hold:
    hold.lend(20_000)
    print("night", flush=True)
    time.sleep(600)
"""


def test_killed_while_it_holds_restore_gives_back_whatever_was_loaded_since(
    site: Site, server: EmbeddedServer, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", DUSK, server.grpc_url, str(tmp_path / "state")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as lender:
        assert lender.stdout is not None
        assert lender.stdout.readline() == "night\n"
        lender.send_signal(signal.SIGKILL)
    assert delays(server) == {1: NIGHT, 2: NIGHT}
    # Another operator's change in the same night, which keeps its own effect.
    load(site, "batching", [2], exactly=True)
    assert delays(server) == {2: NIGHT}
    done = canary("models", "restore", "batching", "--url", server.grpc_url, "--state", tmp_path / "state")
    assert done.code == 0, done.stderr
    assert "max_queue_delay 0 ms" in done.stdout
    assert delays(server) == {2: DAY}
    assert restore(site, "batching")[0].done == (), "twice is harmless"


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.0, 0.5])
def test_killed_in_the_switch_itself_restore_waits_for_its_end_and_undoes_it(
    server: EmbeddedServer, tmp_path: Path, after_s: float
) -> None:
    """Triton goes on with a load whose caller is gone: what serves meanwhile is not what will serve."""
    day = ("--max-queue-delay", "0s", "--url", server.grpc_url, "--state", str(tmp_path / "before"))
    assert canary("models", "tune", "batching", *day).code == 0, "what another test left behind is no switch of ours"
    where = ("--url", server.grpc_url, "--state", str(tmp_path / "state"))
    command = [str(CANARY), "models", "tune", "batching", "--max-queue-delay", "20ms", *where]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as switch:
        journal = tmp_path / "state" / "journal.jsonl"
        until(lambda: journal.exists() and "models.tune" in journal.read_text(), "the switch")
        time.sleep(after_s)  # wherever in the switch it dies
        switch.kill()
    done = canary("models", "restore", "batching", *where)
    assert done.code == 0, done.stderr
    expected = NIGHT if '"action": "models.change"' in finished(journal) else DAY
    assert delays(server) == {1: expected, 2: expected}


def finished(journal: Path) -> str:
    """The first change's last line, if it came to its end before the kill."""
    lines = [line for line in journal.read_text().splitlines() if '"seq": 1,' in line and '"state": "done"' in line]
    return "".join(lines)


@pytest.mark.slow
def test_by_the_command_as_the_cronjobs_call_it(server: EmbeddedServer, tmp_path: Path) -> None:
    where = ("--url", server.grpc_url, "--state", tmp_path / "state")
    night = canary("models", "tune", "batching", "--max-queue-delay", "20ms", *where)
    assert night.code == 0, night.stderr
    assert "max_queue_delay 20 ms" in night.stdout
    assert "was max_queue_delay 0 ms" in night.stdout
    assert delays(server) == {1: NIGHT, 2: NIGHT}
    day = canary("models", "tune", "batching", "--max-queue-delay", "0s", *where)
    assert day.code == 0, day.stderr
    assert delays(server) == {1: DAY, 2: DAY}
    assert canary("models", "tune", "batching", "--max-queue-delay", "2m", *where).code == 2
    assert canary("models", "tune", "tiny", "--max-queue-delay", "1ms", *where).code == 2


def test_what_was_lent_is_what_the_site_says_it_is(site: Site) -> None:
    assert {str(setting) for setting in settings(site, "batching").values()} == {
        "max_queue_delay 0 ms, preferred batch sizes 16"
    }
