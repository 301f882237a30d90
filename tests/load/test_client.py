"""The parent's handle where processes end by themselves; little programs stand for Locust's."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.errors import ServerDied, WorldError
from harness.load import Generator, launch
from harness.load.launch import Process
from tests.load.conftest import make_spec

LAST_WORDS = """
import json, os, sys, time
if os.fork() == 0:  # the line comes after the process has gone
    time.sleep(0.5)
    print(json.dumps({"event": "error", "kind": "world", "message": "disk full"}), flush=True)
"""


def running(program: str) -> Process:
    return subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def ended(program: str = "") -> Process:
    process = running(program)
    process.wait()
    return process


def test_a_master_and_a_worker_that_are_gone_end_in_one_error(tmp_path: Path) -> None:
    with Generator(make_spec(tmp_path), tmp_path / "load.log", workers=2) as generator:
        generator._process, generator._local = ended(), [ended(), ended()]
        with pytest.raises(ServerDied, match="ended by itself"):
            generator.events()
        assert generator._local == []


def test_the_last_line_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "launch", lambda *_, **__: ended(LAST_WORDS))
    with Generator(make_spec(tmp_path), tmp_path / "load.log") as generator:
        generator._launch([])
        deadline = time.monotonic() + 60
        with pytest.raises(WorldError, match=r"^disk full$"):
            ask_until(generator, deadline)


def ask_until(generator: Generator, deadline: float) -> None:
    while time.monotonic() < deadline:
        generator.events()
