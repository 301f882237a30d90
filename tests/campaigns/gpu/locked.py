"""What requirements.lock pins for another Python, and what this project needs of it."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_ENTRY = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(\S+)\s*(?:;\s*(.*?))?\s*\\?$")


@dataclass(frozen=True)
class Locked:
    """`hashes`: of every file of this version, as pip's --hash has them."""

    name: str
    version: str
    hashes: tuple[str, ...]

    @property
    def requirement(self) -> str:
        """Lines of a requirements file."""
        return " \\\n    ".join([f"{self.name}=={self.version}", *(f"--hash={each}" for each in self.hashes)]) + "\n"


def environment(python: str) -> dict[str, str]:
    """Markers of Linux on x86-64 with that Python, `3.12`."""
    return {
        "implementation_name": "cpython", "os_name": "posix", "platform_machine": "x86_64",
        "platform_python_implementation": "CPython", "platform_system": "Linux", "python_full_version": f"{python}.0",
        "python_version": python, "sys_platform": "linux",
    }  # fmt: skip


def read_lock(file: Path, python: str) -> dict[str, Locked]:
    """By canonical name, what the lock has for that Python. ValueError: a line that is not understood."""
    there = environment(python)
    found: dict[str, Locked] = {}
    for entry in re.split(r"\n(?=\S)", file.read_text().strip()):
        head, *rest = entry.splitlines()
        if head.startswith("#"):
            continue
        match = _ENTRY.match(head)
        if match is None:
            raise ValueError(f"{file}: not understood: {head}")
        name, version, marker = match.groups()
        if marker and not Requirement(f"{name} ; {marker}").marker.evaluate({**there, "extra": ""}):  # type: ignore[union-attr]
            continue
        hashes = tuple(re.findall(r"--hash=(\S+)", "\n".join(rest)))
        found[canonicalize_name(name)] = Locked(canonicalize_name(name), version, hashes)
    return found


def closure(pyproject: Path, python: str) -> list[str]:
    """Canonical names of what the project needs at run time, with the embedded Triton and GPUs, and what those need.

    What each needs is read from this environment, which `make setup` made of the same lock.
    """
    project = tomllib.loads(pyproject.read_text())["project"]
    there = environment(python)
    asked = [*project["dependencies"], *(line for extra in ("embedded", "gpu") for line in _extra(project, extra))]
    todo = [Requirement(line) for line in asked]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        wanted = todo.pop()
        key = (canonicalize_name(wanted.name), frozenset(wanted.extras))
        if key in seen:
            continue
        if wanted.marker and not any(
            wanted.marker.evaluate({**there, "extra": extra}) for extra in ("", *wanted.extras)
        ):
            continue
        seen.add(key)
        try:
            lines = metadata.requires(key[0]) or []
        except metadata.PackageNotFoundError:  # another platform's
            continue
        for line in lines:
            needed = Requirement(line)
            if needed.marker is None or any(
                needed.marker.evaluate({**there, "extra": extra}) for extra in ("", *wanted.extras)
            ):
                needed.marker = None
                todo.append(needed)
    return sorted({name for name, _ in seen})


def _extra(project: dict[str, Any], name: str) -> list[str]:
    lines: list[str] = project["optional-dependencies"][name]
    return lines
