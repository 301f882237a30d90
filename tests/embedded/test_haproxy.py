"""The embedded HAProxy: its start, its end and its names; no Triton is asked."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from harness.assets import scenarios_dir
from harness.embedded import haproxy
from harness.embedded.haproxy import EmbeddedHaproxy
from harness.errors import ServerDied, UsageError
from harness.ingress import open_ingress
from harness.types import ArmName

pytestmark = pytest.mark.skipif(haproxy.available() is not None, reason=str(haproxy.available()))

NOBODY: dict[ArmName, str] = {"baseline": "127.0.0.1:9", "candidate": "127.0.0.1:9"}


def test_it_starts_with_everything_to_the_baseline_and_ends(tmp_path: Path) -> None:
    with EmbeddedHaproxy(tmp_path / "a", NOBODY) as one, EmbeddedHaproxy(tmp_path / "b", NOBODY, grpc=NOBODY) as two:
        for router in (one, two):
            split = open_ingress(router.control).read()
            assert (split.candidate_share, split.headers, split.down) == (0.0, {}, ())
            router.check()
        assert (one.grpc_url, one.control.count("canary_grpc")) == (None, 0)
        assert two.grpc_url is not None
        assert "backend=canary_http,canary_grpc" in two.control
        pid = one.pid
        with pytest.raises(UsageError, match="started already"):
            one.start()
        open_ingress(one.control).set(0.5)
        assert open_ingress(two.control).read().candidate_share == 0.0, "two on a machine are two"
    assert not psutil.pid_exists(pid)
    one.stop()


def test_whatever_its_folder_is_called(tmp_path: Path) -> None:
    for name in ("two words, and; (more) %20#?", "long" * 30):
        with EmbeddedHaproxy(tmp_path / name, NOBODY) as router:
            ingress = open_ingress(router.control)
            ingress.header({"B": "candidate"})
            assert ingress.read().headers == {"B": "candidate"}
            place = Path(router.control.partition("://")[2].partition("?")[0]).parent
            assert place.is_dir()
        assert not place.exists()
        assert (tmp_path / name / "haproxy.log").exists()


def test_a_death_is_told_with_the_last_words(tmp_path: Path) -> None:
    with EmbeddedHaproxy(tmp_path, NOBODY) as router:
        os.kill(router.pid, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while router.alive:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(ServerDied, match=r"HAProxy died \(signal 9\): .*haproxy\.log"):
            router.check()


def test_what_it_cannot_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ingress").mkdir()
    (tmp_path / "ingress" / "haproxy.cfg").write_text("frontend nonsense\n  rubbish\n")
    monkeypatch.setattr(haproxy, "scenarios_dir", lambda: tmp_path)
    with pytest.raises(ServerDied, match=r"did not start \(exit status 1\): .*unknown keyword 'rubbish'"):
        EmbeddedHaproxy(tmp_path / "run", NOBODY).start()


def test_where_there_is_none_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(haproxy, "_binary", lambda: None)
    assert "apt-get install haproxy" in str(haproxy.available())
    with pytest.raises(UsageError, match="not installed"):
        EmbeddedHaproxy(tmp_path, NOBODY).start()


def test_the_example_is_valid_as_it_is_copied(tmp_path: Path) -> None:
    """With the defaults that it has, but for the map's file, which this machine does not have."""
    (tmp_path / "experiment.map").write_text("A baseline\nB candidate\n")
    env = {"PATH": os.environ["PATH"], "CANARY_MAP": str(tmp_path / "experiment.map")}
    command = [str(haproxy._binary()), "-c", "-f", str(scenarios_dir() / "ingress" / "haproxy.cfg")]
    checked = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stdout + checked.stderr
