"""What a container or a service may have of the machine's memory: the tightest limit on the way up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.telemetry import Room, memory_room

GIB = 2**30


def group(folder: Path, limit: str, used: int, cache: int, *, version: int = 2) -> None:
    names = ("memory.max", "memory.current", "") if version == 2 else (
        "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{names[2]}inactive_file {cache}\n")


def process(folder: Path, *lines: str) -> Path:
    (folder / "proc" / "7").mkdir(parents=True)
    (folder / "proc" / "7" / "cgroup").write_text("".join(f"{line}\n" for line in lines))
    return folder / "proc"


def test_the_tightest_on_the_way_up(tmp_path: Path) -> None:
    proc, root = process(tmp_path, "0::/machine/pod/container"), tmp_path / "fs"
    group(root / "machine/pod/container", "max", 3 * GIB, 0)
    group(root / "machine/pod", str(8 * GIB), 5 * GIB, 1 * GIB)
    group(root / "machine", str(64 * GIB), 10 * GIB, 0)
    assert memory_room(7, root, proc) == Room(8 * GIB, 4 * GIB)


def test_the_older_version_and_a_path_that_only_the_host_knows(tmp_path: Path) -> None:
    proc, root = process(tmp_path, "4:cpu,cpuacct:/x", "3:memory:/docker/abc", "0::/"), tmp_path / "fs"
    group(root / "memory", str(2 * GIB), 3 * GIB, 0, version=1)
    assert memory_room(7, root, proc) == Room(2 * GIB, 0.0)


@pytest.mark.parametrize("limit", ["max", "9223372036854771712", "?"])
def test_no_limit_is_none(tmp_path: Path, limit: str) -> None:
    proc, root = process(tmp_path, "0::/a", "3:memory:/a"), tmp_path / "fs"
    group(root / "a", limit, 1, 0)
    group(root / "memory" / "a", limit, 1, 0, version=1)
    assert memory_room(7, root, proc) is None
    assert memory_room(8, root, proc) is None, "no such process"


def test_of_a_real_process_it_is_no_more_than_there_is() -> None:
    room = memory_room(os.getpid())
    assert room is None or 0 <= room.free <= room.limit
