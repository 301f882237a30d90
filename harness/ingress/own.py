"""The harness's own split: the load generator sends each request where this says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from harness.errors import UsageError
from harness.recording import atomic_write


class OwnSplit:
    """A split kept in a file, so that it can be read and put back after a crash, and pushed to the generator.

    The file is the state; `push` tells the running generator, if there is one.
    """

    SCHEME = "own:"

    def __init__(self, path: Path, push: Callable[[float], None] | None = None) -> None:
        self._path = path
        self._push = push

    @property
    def target(self) -> str:
        return f"{self.SCHEME}{self._path}"

    def read(self) -> float:
        """The candidate's share; 0.0 where none was ever set."""
        try:
            return float(json.loads(self._path.read_text())["candidate_share"])
        except FileNotFoundError:
            return 0.0

    def set(self, candidate_share: float) -> None:
        """Raises UsageError for a share outside 0.0 to 1.0."""
        if not 0.0 <= candidate_share <= 1.0:
            raise UsageError(f"a split gives the candidate between 0 % and 100 %, not {candidate_share:.0%}")
        try:
            if self._push:
                # First: where the disk is full, traffic moves all the same.
                self._push(candidate_share)
        finally:
            atomic_write(self._path, json.dumps({"candidate_share": candidate_share}).encode() + b"\n")
