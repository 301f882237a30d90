"""Versions whose bytecode is not there yet are initialised twice: the prediction against the real server."""

from __future__ import annotations

import os
import py_compile
from pathlib import Path

import pytest

from harness.embedded import EmbeddedServer, build_repository
from harness.triton import Control, will_reinitialise
from tests.processes import command_line, family
from tests.triton.models import constant


@pytest.mark.triton
def test_a_version_without_bytecode_is_initialised_again_by_the_next_load(
    server: EmbeddedServer, repository: Path
) -> None:
    constant(repository, "bare", {1: "[1, 1]", 2: "[2, 2]", 3: "[3, 3]"})
    py_compile.compile(str(repository / "bare" / "2" / "model.py"))
    assert will_reinitialise(repository, "bare", [1, 2]) == (1,)
    with Control(server.grpc_url) as control:
        control.set_versions("bare", [1, 2], repository=repository)
        first, second = pids(server, 1), pids(server, 2)
        control.set_versions("bare", [1, 2, 3])
        assert pids(server, 2) >= second > set()
        assert pids(server, 1) != first
        control.unload("bare")


def test_what_counts_as_bytecode(tmp_path: Path) -> None:
    build_repository(tmp_path, {"tiny": {1: {}, 2: {}}})
    assert will_reinitialise(tmp_path, "tiny", [1, 2]) == ()
    os.utime(tmp_path / "tiny" / "2" / "model.py", (1, 1))
    assert will_reinitialise(tmp_path, "tiny", [1, 2]) == (2,)
    (tmp_path / "tiny" / "1" / "model.py").unlink()
    assert will_reinitialise(tmp_path, "tiny", [1]) == ()
    (tmp_path / "tiny" / "config.pbtxt").write_text('backend: "onnxruntime"\n')
    assert will_reinitialise(tmp_path, "tiny", [2]) == ()


def pids(server: EmbeddedServer, version: int) -> set[int]:
    return {child.pid for child in family(server.pid) if f"/bare/{version}/model.py" in command_line(child)}
