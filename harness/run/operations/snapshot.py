"""What lies in a repository and what serves it, at one moment: so that "untouched" can be shown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from harness.run.operations.course import Place
from harness.store.manifest import walk


def snapshot(place: Place, models: Sequence[str] = ()) -> dict[str, Any]:
    """`entries`: names in the repository and in its models. `versions`: a stamp of each version's files. `serving`: of
    each READY version the request counters and, where the server is ours, the processes that serve it.

    `models`: only these; () is all.
    """
    entries, versions = [], {}
    for folder in sorted(place.repository.iterdir()):
        if models and folder.name not in models:
            continue
        entries.append(folder.name)
        for child in sorted(folder.iterdir()) if folder.is_dir() else ():
            entries.append(f"{folder.name}/{child.name}")
            if child.is_dir() and child.name.isdecimal():
                versions[f"{folder.name}/{child.name}"] = stamp(child)
    return {"entries": entries, "versions": versions, "serving": _serving(place, models)}


def stamp(folder: Path) -> dict[str, Any]:
    """Inodes and times: a file that was written anew, also with the same bytes, changes it."""
    rows = []
    for path, file in walk(folder):
        seen = file.lstat()
        rows.append([path, seen.st_ino, seen.st_size, seen.st_mtime_ns])
    own = folder.stat()
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    return {"inode": own.st_ino, "mtime_ns": own.st_mtime_ns, "files": len(rows), "stamp": digest}


def _serving(place: Place, models: Sequence[str]) -> dict[str, Any]:
    found = {}
    index = place.control.index()
    processes = _processes(place)
    for model in sorted(index.models):
        if models and model not in models:
            continue
        counts = place.control.counts(model)
        for version in index.ready(model):
            name = f"{model}/{version}"
            own = counts.get(version)
            found[name] = {
                "success": own.success if own else 0,
                "failure": own.failure if own else 0,
                "processes": None if processes is None else processes.get(name, []),
            }
    return found


def _processes(place: Place) -> dict[str, list[str]] | None:
    """Process id and time of start, by MODEL/VERSION, of the Python backend's processes; None on a foreign server."""
    if place.server is None:
        return None
    found: dict[str, list[str]] = {}
    for process in psutil.Process(place.server.pid).children(recursive=True):
        try:
            words, began = process.cmdline(), process.create_time()
        except psutil.Error:
            continue  # it has just ended
        for word in words:
            path = Path(word)
            if path.name == "model.py" and path.is_relative_to(place.repository):
                found.setdefault("/".join(path.relative_to(place.repository).parts[:2]), []).append(
                    f"{process.pid}@{began:.2f}"
                )
    return {name: sorted(processes) for name, processes in found.items()}
