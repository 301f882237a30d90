"""max_batch_size and lent versions on a real Triton: changed, proven, undone, and given back after a SIGKILL."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.embedded import EmbeddedServer, build_repository
from harness.errors import ChangedMeanwhile, LoadMismatch, UnsafeChange, UsageError
from harness.run.models import Rules, Site, lent_versions, load, max_batch, open_site, restore, set_max_batch, unload
from harness.tensors import Tensor
from harness.triton import Control, Refused
from tests.run.conftest import canary

pytestmark = pytest.mark.triton

RULES = Rules(versioned_clients=True)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    folder = tmp_path_factory.mktemp("batches")
    build_repository(folder / "models", {"batching": {1: "fp16", 2: "same"}})
    config = folder / "models" / "batching" / "config.pbtxt"
    text = re.sub(r"count: \d+", "count: 1", config.read_text())
    config.write_text(text.replace("dynamic_batching {", "dynamic_batching { preferred_batch_size: [ 4, 16 ]"))
    with EmbeddedServer(folder / "models", folder / "server.log") as server:
        yield server.start({"batching": [1, 2]})


@pytest.fixture
def site(running: EmbeddedServer, tmp_path: Path) -> Iterator[Site]:
    config = running.repository / "batching" / "config.pbtxt"
    before = config.read_text()
    with open_site([running.grpc_url], repository=running.repository, state=tmp_path / "state") as found:
        yield found
    config.write_text(before)
    with Control(running.grpc_url) as control:
        control.set_versions("batching", [1, 2], repository=running.repository, refresh=True)


def config_of(site: Site) -> str:
    assert site.repository is not None
    return (site.repository / "batching" / "config.pbtxt").read_text()


def ask(control: Control, rows: int, version: int = 2) -> int:
    values = np.zeros((rows, 64), np.float32)
    answer = control.infer("batching", version, [Tensor("INPUT", "FP32", (rows, 64), values.tobytes())])
    return answer.outputs[0].shape[0]


def test_what_serves_and_what_a_restart_would_load_change_together(site: Site) -> None:
    (control,) = site.servers
    assert ask(control, 16) == 16
    done = set_max_batch(site, "batching", 4, rules=RULES)
    assert dict(done.after) == {control.url: (1, 2)}
    assert max_batch(site, "batching", 1) == max_batch(site, "batching", 2) == 4
    assert "max_batch_size: 4" in config_of(site)
    assert "preferred_batch_size: [ 4 ]" in config_of(site), "Triton refuses larger ones"
    assert ask(control, 4) == 4
    with pytest.raises(Refused, match="batch-size must be <= 4"):
        ask(control, 5)
    # A fresh instance has it, too: an override would be gone.
    unload(site, "batching", everything=True, rules=RULES)
    load(site, "batching", [2], exactly=True, rules=RULES)
    assert max_batch(site, "batching", 2) == 4
    (undone,) = restore(site, "batching", undo=True)
    assert undone.why == "before the last change"


def test_where_it_is_not_as_wanted_everything_is_put_back(site: Site) -> None:
    before = config_of(site)

    def mute(control: Control, model: str, version: int | None) -> None:
        raise LoadMismatch("does not answer a probe")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Control, "probe", mute)
        with pytest.raises(LoadMismatch):
            set_max_batch(site, "batching", 4, rules=RULES)
    assert config_of(site) == before
    assert max_batch(site, "batching", 1) == 16


def test_what_cannot_be_is_refused_before_anything_is_changed(site: Site, running: EmbeddedServer) -> None:
    before = config_of(site)
    with pytest.raises(UsageError, match="a max_batch_size of 0"):
        set_max_batch(site, "batching", 0, rules=RULES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Control, "dependents", lambda control, model: ("chain",))
        with pytest.raises(UnsafeChange, match="chain"):
            set_max_batch(site, "batching", 4, rules=RULES)
    with (
        open_site([running.grpc_url], state=site.journal.folder.parent / "blind") as blind,
        pytest.raises(UsageError, match="say where the repository is"),
    ):
        set_max_batch(blind, "batching", 4, rules=RULES)
    assert config_of(site) == before


@pytest.mark.slow
def test_versions_that_were_lent_come_back_also_from_an_error(site: Site) -> None:
    (control,) = site.servers
    config = config_of(site)
    with lent_versions(site, "batching", rules=RULES):
        unload(site, "batching", everything=True, rules=RULES)
        load(site, "batching", [2], exactly=True, rules=RULES)
        assert control.loaded("batching") == (2,)
    assert control.loaded("batching") == (1, 2)

    def lend_and_fail() -> None:
        with lent_versions(site, "batching", rules=RULES):
            set_max_batch(site, "batching", 4, rules=RULES)
            unload(site, "batching", everything=True, rules=RULES)
            raise UsageError("cut off")

    with pytest.raises(UsageError, match="cut off"):
        lend_and_fail()
    assert control.loaded("batching") == (1, 2)
    assert config_of(site) == config, "nobody asked for a smaller batch of what served before"
    assert max_batch(site, "batching", 1) == 16
    assert restore(site, "batching")[0].done == ()


@pytest.mark.slow
def test_a_smaller_batch_that_is_to_stay_stays_and_so_does_what_somebody_else_wrote(site: Site) -> None:
    (control,) = site.servers
    with lent_versions(site, "batching", rules=RULES) as lent:
        set_max_batch(site, "batching", 8, rules=RULES)
        lent.keep_config()
    assert control.loaded("batching") == (1, 2)
    assert max_batch(site, "batching", 1) == max_batch(site, "batching", 2) == 8
    theirs = f"# mine\n{config_of(site)}"
    with lent_versions(site, "batching", rules=RULES):
        set_max_batch(site, "batching", 4, rules=RULES)
        assert site.repository is not None
        (site.repository / "batching" / "config.pbtxt").write_text(theirs)
    assert config_of(site) == theirs
    assert control.loaded("batching") == (1, 2)


def test_a_load_that_shows_only_at_the_end_is_looked_at_anew(site: Site) -> None:
    """One of our own that was cut off: Triton goes on with it, and what serves is not what was seen a moment before."""
    (control,) = site.servers
    real, calls = Control.set_versions, list[int]()

    def once(self: Control, *arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise ChangedMeanwhile("READY before: none, now: 2")
        return real(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch, lent_versions(site, "batching", rules=RULES):
        unload(site, "batching", everything=True, rules=RULES)
        patch.setattr(Control, "set_versions", once)
    assert len(calls) > 1
    assert control.loaded("batching") == (1, 2)


LEND = """
import sys, time
from pathlib import Path
from harness.run.models import Rules, lent_versions, open_site, set_max_batch, unload
rules = Rules(versioned_clients=True)
with open_site([sys.argv[1]], repository=Path(sys.argv[3]), state=Path(sys.argv[2])) as site:
    with lent_versions(site, "batching", rules=rules):
        set_max_batch(site, "batching", 4, rules=rules)
        unload(site, "batching", everything=True, rules=rules)
        print("alone", flush=True)
        time.sleep(600)
"""


@pytest.mark.slow
def test_killed_while_they_are_lent_restore_gives_them_back(
    site: Site, running: EmbeddedServer, tmp_path: Path
) -> None:
    state, config = tmp_path / "lender", config_of(site)
    command = [sys.executable, "-c", LEND, running.grpc_url, str(state), str(running.repository)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as lender:
        assert lender.stdout is not None
        assert lender.stdout.readline() == "alone\n"
        lender.send_signal(signal.SIGKILL)
    (control,) = site.servers
    assert control.loaded("batching") == ()
    assert "max_batch_size: 4" in config_of(site)
    blind = canary("models", "restore", "batching", "--url", running.grpc_url, "--state", state)
    assert blind.code != 0
    assert "--repository DIR" in blind.stderr
    assert control.loaded("batching") == (1, 2), "users first"
    where = ("--url", running.grpc_url, "--state", state, "--repository", running.repository)
    done = canary("models", "restore", "batching", *where)
    assert done.code == 0, done.stderr
    assert "config.pbtxt: as before the hold" in done.stdout
    assert config_of(site) == config
    assert control.loaded("batching") == (1, 2)
    assert max_batch(site, "batching", 1) == max_batch(site, "batching", 2) == 16
    again = canary("models", "restore", "batching", *where)
    assert again.code == 0, again.stderr
    assert control.loaded("batching") == (1, 2)
