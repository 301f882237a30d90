"""A folder that a run has put into somebody's model repository for a comparison: marked as its own, and taken away."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path

from harness.errors import WorldError

PLACE = "model.place"
"""The journal's word for it; `target` is the folder."""
MARK = "placed.triton-canary.json"
"""In that folder: which run has put it there."""


def mark(run: Path) -> bytes:
    """What the mark holds."""
    return json.dumps({"run": str(run)}).encode() + b"\n"


def placed_in(repository: Path) -> dict[Path, str]:
    """The folders in `repository` that bear a mark, each with the run that has put it there."""
    found = {}
    for path in sorted(repository.glob(f"*/{MARK}")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            found[path.parent] = _owner(path.parent)
    return found


def remove(target: Path, run: Path) -> str:
    """Take `target` away, and say so in a line. Raises WorldError where `run` has not put it there, or it stays."""
    if not target.exists():
        return f"{target.name}: is not in the repository, as before"
    try:
        # A run that died between making the folder and marking it has left it empty.
        if any(target.iterdir()):
            owner = _owner(target)
            if owner != str(run):
                raise WorldError(f"{target}: was put there by {owner}")
        shutil.rmtree(target)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WorldError(f"{target}: cannot be removed: {error}") from error
    return f"{target.name}: removed from the repository, as before"


def _owner(target: Path) -> str:
    return str(json.loads((target / MARK).read_bytes())["run"])
