"""What lies in a repository and what serves it, at one moment: so that "untouched" can be shown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import psutil

from harness.run.operations.course import Place
from harness.store.manifest import walk


def snapshot(place: Place, models: Sequence[str] = ()) -> dict[str, Any]:
    """`entries`: names in the repository and in its models. `versions`, `models`: a stamp of each version's files, and
    of each model's own (config.pbtxt and its neighbours). `serving`: of each READY version the request counters and,
    where the server is ours, the processes that serve it.

    `models`: only these; () is all.
    """
    entries, versions, own = [], {}, {}
    for folder in sorted(place.repository.iterdir()):
        if models and folder.name not in models:
            continue
        entries.append(folder.name)
        if not folder.is_dir():
            continue
        children = sorted(folder.iterdir())
        entries += [f"{folder.name}/{child.name}" for child in children]
        for child in children:
            if child.is_dir() and child.name.isdecimal():
                seen = child.stat()
                files = stamp(walk(child))
                versions[f"{folder.name}/{child.name}"] = {"inode": seen.st_ino, "mtime_ns": seen.st_mtime_ns, **files}
        own[folder.name] = stamp((child.name, child) for child in children if child.is_file())
    return {"entries": entries, "versions": versions, "models": own, "serving": _serving(place, models)}


def stamp(files: Iterable[tuple[str, Path]]) -> dict[str, Any]:
    """Inodes and times: a file that was written anew, also with the same bytes, changes it."""
    rows = []
    for path, file in files:
        seen = file.lstat()
        rows.append([path, seen.st_ino, seen.st_size, seen.st_mtime_ns])
    return {"files": len(rows), "stamp": hashlib.sha256(json.dumps(rows).encode()).hexdigest()}


def _serving(place: Place, models: Sequence[str]) -> dict[str, Any]:
    processes = _processes(place)
    known = sorted({model for control in place.site.servers for model in control.index().models})
    return {
        name: {**place.counts(model, version), "processes": None if processes is None else processes.get(name, [])}
        for model in known
        if not models or model in models
        for version in place.ready(model)
        for name in [f"{model}/{version}"]
    }


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
