"""A sync that is killed leaves no partial version at any moment, and the next one finishes its work."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.store.folders import CONFIG, contents, noise, partial_versions, put_own, put_version

MB = 1_000_000

RUNS = """
import os, select, signal, sys, time
from pathlib import Path
from harness.store import FolderStore, sync

for line in sys.stdin:
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            sync(FolderStore(sys.argv[1]), Path(sys.argv[2]))
            status = 0
        finally:
            os._exit(status)
    if not select.select([os.pidfd_open(child)], [], [], float(line))[0]:
        os.kill(child, signal.SIGKILL)
    end = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(end, time.monotonic() - begun, flush=True)
"""
"""A sync for each line, killed after so many seconds; its exit status, and the seconds it took."""

AT_EVERY_STEP = """
import itertools, os, shutil, signal, sys
from pathlib import Path
from harness.store import FolderStore, sync
from tests.store.folders import contents, partial_versions

STEPS = {"os.rename", "os.mkdir", "os.chmod", "os.remove", "os.rmdir", "os.truncate", "fcntl.flock", "ctypes.dlsym"}

def kill_at(step):
    left = itertools.count(step, -1)
    def hook(event, args):
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        if (event in STEPS or writes) and next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

store, models = FolderStore(sys.argv[1]), Path(sys.argv[2])

def run(step=None):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if step is not None:
                kill_at(step)
            sync(store, models, workers=1)
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def modes():
    return {p.relative_to(models): oct(p.stat().st_mode & 0o777) for p in models.rglob("*")}

os.umask(0o077)
models.mkdir()
assert run() == 0
whole, right = contents(models), modes()
config = "llm/config.pbtxt"
for step in itertools.count():
    shutil.rmtree(models)
    shutil.rmtree(models.parent / ".triton-canary-staging")
    models.mkdir()
    end = run(step)
    assert end in (0, -signal.SIGKILL), (step, end)
    found = contents(models)
    assert partial_versions(models) == [], step
    assert found.items() <= whole.items(), (step, found.keys())
    assert modes().items() <= right.items(), (step, modes())
    assert config not in found or found == whole, (step, "config.pbtxt before the rest")
    assert run() == 0, step
    assert (contents(models), modes()) == (whole, right), (step, modes())
    if end == 0:
        break
print(step)
"""


def test_killed_at_every_step(tmp_path: Path) -> None:
    """Before each call that changes a folder, a file's name or mode, or opens a file to write it."""
    root = tmp_path / "store"
    put_version(root, "llm", 1, {"a.plan": noise(300_000, 1), "sub/b": b"b"})
    put_version(root, "llm", 2, {"a.plan": noise(300_000, 2)})
    put_own(root, "llm", {"config.pbtxt": CONFIG, "tokenizer/x": b"x"})
    done = subprocess.run(
        [sys.executable, "-c", AT_EVERY_STEP, str(root), str(tmp_path / "models")],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout) > 50  # there were as many steps


@pytest.mark.parametrize("size", [20 * MB, pytest.param(200 * MB, marks=pytest.mark.slow)], ids=["20MB", "200MB"])
def test_killed_at_20_random_moments(tmp_path: Path, size: int) -> None:
    """A real process and a real SIGKILL; what a round left is what the next begins with, until it is finished."""
    root, models = tmp_path / "store", tmp_path / "models"
    put_version(root, "llm", 1, {f"{n}.plan": noise(size // 8, n) for n in range(4)})
    put_version(root, "llm", 2, {"model.plan": noise(size // 2, 5)})
    put_own(root, "llm", {"config.pbtxt": CONFIG})
    models.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", RUNS, str(root), str(models)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=Path(__file__).parents[2],
    ) as runs:  # fmt: skip
        whole_s = _run(runs, 600)
        assert whole_s is not None
        whole = contents(models)
        moments, killed, finished = random.Random(3), 0, 0
        _forget(models)
        anew = True
        while killed < 20:
            assert killed + finished < 200, f"{killed} kills in {finished} finished runs"
            took_s = _run(runs, moments.uniform(0, whole_s))
            killed += took_s is None
            assert partial_versions(models) == []
            assert contents(models).items() <= whole.items()
            if took_s is not None:
                finished += 1
                if anew:  # the very first may have taken much longer than those behind it: its caches were cold
                    whole_s = took_s
                assert contents(models) == whole
                _forget(models)
            anew = took_s is not None
        _run(runs, 600)
        assert contents(models) == whole
        runs.communicate()


def _run(runs: subprocess.Popen[str], kill_after_s: float) -> float | None:
    """The seconds that a sync took, or None if it was killed before its end."""
    assert runs.stdin is not None
    assert runs.stdout is not None
    runs.stdin.write(f"{kill_after_s}\n")
    end, took_s = runs.stdout.readline().split()
    assert int(end) in (0, -signal.SIGKILL)
    return float(took_s) if int(end) == 0 else None


def _forget(models: Path) -> None:
    shutil.rmtree(models)
    shutil.rmtree(models.parent / ".triton-canary-staging")
    models.mkdir()
