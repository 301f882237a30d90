"""What memory a process may have at most: Linux control groups, as containers and services are limited by them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

_ROOT = Path("/sys/fs/cgroup")
_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_NO_LIMIT = 2**60
"""Version 1 writes that there is none as a number that no machine has."""


class Room(NamedTuple):
    """Bytes. `free`: page cache that can be given back counts as such."""

    limit: float
    free: float


def memory_room(pid: int, root: Path = _ROOT, proc: Path = Path("/proc")) -> Room | None:
    """The tightest of the limits of the process's group and of those above it; None where there is none, or none can be
    read.
    """
    found: list[Room] = []
    with suppress(OSError):
        for line in (proc / str(pid) / "cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if number == "0" or "memory" in controllers.split(","):
                base, names = (root, _V2) if number == "0" else (root / "memory", _V1)
                # In a container the path may be that of the host; its own group is mounted as the root then.
                groups = [PurePosixPath(path.lstrip("/")), *PurePosixPath(path.lstrip("/")).parents]
                found += [room for group in groups if (room := _room(base / group, names)) is not None]
    return Room(min(room.limit for room in found), min(room.free for room in found)) if found else None


def _room(group: Path, names: tuple[str, str, str]) -> Room | None:
    limit_name, used_name, reclaimable_name = names
    try:
        text = (group / limit_name).read_text().strip()
        if not text.isdecimal() or int(text) >= _NO_LIMIT:
            return None
        limit, used = int(text), int((group / used_name).read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return Room(float(limit), float(max(0, limit - used + int(stat.get(reclaimable_name, 0)))))
