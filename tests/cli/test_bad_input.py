"""Bad input gets one clear line and exit 2, and nothing was started; an unreachable server is exit 4."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.cli import parser
from tests.run.conftest import SCENARIO, canary

MESSAGES = {
    "an unknown key": (("name: tiny-canary", "name: tiny-canary\nretries: 3"), r":3:1: .*retries"),
    "a rate of zero": (("candidate: 20%, rate: 20/s", "candidate: 20%, rate: 0/s"), r":12:\d+: .*rate"),
    "a split of 110 %": (("candidate: 20%", "candidate: 110%"), r":12:\d+: .*candidate.*110"),
    "a missing prompts file": (("load: {", "load: {prompts: nowhere.jsonl, "), r":6:\d+: .*nowhere\.jsonl"),
    "a version that does not exist": (("version: 2", "version: 0"), r":5:\d+: .*version"),
    "an unknown build": (("build: same", "build: fp4"), r"fp4"),
    "an unknown metric": (("metric: errors", "metric: mistakes"), r":8:\d+: .*mistakes"),
    "broken YAML": (("gates:", "gates: ["), r":\d+:\d+: "),
}


@pytest.mark.parametrize("what", MESSAGES)
def test_one_line_that_names_the_place(tmp_path: Path, what: str) -> None:
    (old, new), expected = MESSAGES[what]
    assert old in SCENARIO
    path = tmp_path / "s.yaml"
    path.write_text(SCENARIO.replace(old, new, 1))
    done = canary("run", path, "--out", tmp_path / "out")
    assert done.code == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert lines[0].startswith("triton-canary: ") or lines[-1].startswith("triton-canary: ")
    assert len(lines) <= 2, "the error, and at most the step that found it"
    assert re.search(expected, done.stderr), done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_set_argument_is_named(tmp_path: Path) -> None:
    done = canary("run", "fp8-canary", "--set", "stages.0.for=never", "--out", tmp_path)
    assert done.code == 2
    assert "--set stages.0.for=never" in done.stderr


def test_an_unknown_scenario_names_those_there_are() -> None:
    done = canary("check", "fp9-canary")
    assert done.code == 2
    assert "fp8-canary" in done.stderr


@pytest.mark.triton
def test_a_version_that_no_server_has_is_wrong_usage(tmp_path: Path, tiny_server: object) -> None:
    url = tiny_server.grpc_url  # type: ignore[attr-defined]
    done = canary("gate", "--baseline", f"{url}/tiny:1", "--candidate", f"{url}/tiny:9", "--out", tmp_path)
    assert done.code == 2, done.stderr
    assert "9" in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_unreachable_server_is_the_worlds_failure_after_a_bounded_wait(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"grpc://127.0.0.1:{taken.getsockname()[1]}"
        begin = time.monotonic()
        done = canary("gate", "--baseline", f"{url}/m:1", "--candidate", f"{url}/m:2", "--out", tmp_path)
    assert done.code == 4, done.stderr
    assert url in done.stderr
    assert time.monotonic() - begin < 120
    assert "Traceback" not in done.stderr


def test_every_command_has_an_example() -> None:
    commands = parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    assert {"run", "gate", "check", "scenarios", "judge", "report", "recover", "serve", "doctor"} <= set(commands)
    for name, command in commands.items():
        assert f"example:\n  triton-canary {name}" in command.format_help(), name


def test_a_command_imports_what_it_needs() -> None:
    """The rooms of a run take as long to import as all that `judge` needs."""
    every = parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    for name in every:
        assert name in parser(name)._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    assert list(parser("judge")._subparsers._group_actions[0].choices) == ["judge", "report"]  # type: ignore[union-attr]
    asked = "import sys, harness.cli; harness.cli.parser('judge'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout.split()
    assert "harness.cli.judging" in loaded
    assert not {"harness.run", "harness.scenario", "harness.load", "scipy.stats", "scipy.optimize"} & set(loaded)


def test_no_colour_where_nobody_reads_it(tmp_path: Path) -> None:
    for name in ("check", "scenarios", "doctor"):
        done = canary(name, *(["fp8-canary"] if name == "check" else []))
        assert done.code == 0
        assert "\x1b" not in done.stdout
