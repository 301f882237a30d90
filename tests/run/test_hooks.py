"""Commands of the user: journaled, their failures in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from harness.errors import WorldError
from harness.run import hooks
from harness.run.hooks import HOOK, LOG, run_hook
from harness.run.journal import Journal, read
from tests.processes import gone
from tests.waiting import until


def test_it_runs_in_the_journal_and_knows_its_run(tmp_path: Path) -> None:
    code = "import os, pathlib; pathlib.Path(os.environ['TRITON_CANARY_RUN'], 'done').write_text('x'); print('said')"
    run_hook(Journal(tmp_path), "start green", [sys.executable, "-c", code], undo=["stop", "green"])
    assert (tmp_path / "done").exists()
    assert "said" in (tmp_path / LOG).read_text()
    (entry,) = read(tmp_path)
    assert (entry.action, entry.target, entry.before, entry.state) == (HOOK, "start green", ["stop", "green"], "done")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ([sys.executable, "-c", "print('no quota'); raise SystemExit(3)"], "ended with exit code 3: no quota"),
        (["/does/not/exist"], "cannot be run: No such file or directory"),
    ],
)
def test_a_failure_is_one_line_and_stays_in_the_journal(tmp_path: Path, command: list[str], said: str) -> None:
    with pytest.raises(WorldError) as caught:
        run_hook(Journal(tmp_path), "scale up", command)
    assert str(caught.value).startswith("scale up: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert read(tmp_path)[0].state == "failed"


def test_one_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "TIMEOUT_S", 0.2)
    with pytest.raises(WorldError, match="did not end within"):
        run_hook(Journal(tmp_path), "scale up", [sys.executable, "-c", "import time; time.sleep(600)"])


def test_with_one_that_hangs_ends_what_it_had_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = tmp_path / "pid"
    children: list[psutil.Process] = []

    class Popen(subprocess.Popen):
        """The time that it has begins once it has started another one."""

        def wait(self, timeout: float | None = None) -> int:
            if not children:
                until(lambda: pid.exists() and pid.read_text() != "", "another one is there")
                children.append(psutil.Process(int(pid.read_text())))
            return super().wait(timeout)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    monkeypatch.setattr(hooks, "TIMEOUT_S", 0.2)
    code = (
        "import pathlib, subprocess, sys, time; "
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
        f"pathlib.Path({str(pid)!r}).write_text(str(child.pid)); time.sleep(600)"
    )
    with pytest.raises(WorldError, match="did not end within"):
        run_hook(Journal(tmp_path), "scale up", [sys.executable, "-c", code])
    until(lambda: gone(children[0]), "it has ended, too")
