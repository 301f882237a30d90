"""observations.json: the raw facts of an operation, as far as it came; all that its verdict follows from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import RecordingError
from harness.files import atomic_write

OBSERVATIONS = "observations.json"


def is_operation(folder: Path) -> bool:
    """Whether `folder` is that of an operation, and not of a canary."""
    return (folder / OBSERVATIONS).is_file()


def write_observations(folder: Path, facts: Mapping[str, Any]) -> None:
    """Replaces the file: after a crash it holds the old facts or the new ones. Raises RecordingError."""
    atomic_write(folder / OBSERVATIONS, json.dumps(facts, indent=1, sort_keys=True).encode() + b"\n")


def read_observations(folder: Path) -> dict[str, Any]:
    """Raises RecordingError where there is none, or what there is is no JSON object."""
    path = folder / OBSERVATIONS
    try:
        facts = json.loads(path.read_bytes())
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RecordingError(f"{path}: is not JSON: {error}") from error
    if not isinstance(facts, dict):
        raise RecordingError(f"{path}: expected an object, found {type(facts).__name__}")
    return facts
