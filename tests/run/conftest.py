"""A canary of the tiny model on a real Triton: seconds instead of minutes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

Background = Callable[..., "subprocess.Popen[str]"]
CANARY = Path(sys.executable).with_name("triton-canary")

SCENARIO = """
name: tiny-canary
target: {server: embedded}
baseline: {model: tiny, version: 1, build: fp16}
candidate: {model: tiny, version: 2, build: same}
load: {timeout: 20s}
gates:
  - {metric: errors, margin: 3pp}
  - {metric: response_time.p50, margin: 20%}
stages:
  - {mode: paired, in_flight: 1, for: 6s}
  - {mode: split, candidate: 20%, rate: 20/s, for: 3s}
  - {mode: split, candidate: 100%, rate: 20/s, for: 3s}
on_fail: {route: baseline, unload: candidate}
on_promote: {keep_baseline: 2s, then: unload}
"""


@dataclass(frozen=True)
class Done:
    """A finished command."""

    code: int
    stdout: str
    stderr: str

    @property
    def verdict(self) -> dict:
        return json.loads(self.stdout)


def canary(*args: object, cwd: Path | None = None) -> Done:
    """The command as a user calls it."""
    done = subprocess.run(
        [str(CANARY), *map(str, args)], capture_output=True, text=True, timeout=560, check=False, cwd=cwd
    )
    return Done(done.returncode, done.stdout, done.stderr)


def journal(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]


def only_folder(out: Path) -> Path:
    (folder,) = out.iterdir()
    return folder


def processes_of(folder: Path) -> list[psutil.Process]:
    """Every process that names the run's folder: server, supervisor, generator; a stub through its parent."""
    found = []
    for process in psutil.process_iter():
        try:
            own = process.pid == os.getpid() or process.name() == "triton-canary"
            if not own and (str(folder) in " ".join(process.cmdline()) or str(folder) in process.cwd()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "tiny-canary.yaml"
    path.write_text(SCENARIO)
    return path


@pytest.fixture
def background() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a command in the background; whatever of it is left at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*args: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [str(CANARY), *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
