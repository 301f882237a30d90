"""The harness's own split: the load generator sends each request where this says."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.errors import UsageError, WorldError
from harness.files import atomic_write
from harness.ingress.port import Drained, Pattern, Split
from harness.types import ArmName

POLL_S = 0.05


class OwnSplit:
    """A split kept in a file, so that it can be read and put back after a crash, and pushed to the generator.

    The file is the state; `push` tells the running generator, if there is one, and `in_flight` asks it.
    """

    SCHEME = "own:"

    def __init__(
        self, path: Path, push: Callable[[float], None] | None = None, in_flight: Callable[[ArmName], int] | None = None
    ) -> None:
        self._path = path
        self._push, self._in_flight = push, in_flight

    @property
    def target(self) -> str:
        return f"{self.SCHEME}{self._path}"

    @property
    def pattern(self) -> Pattern:
        return "random"

    def read(self) -> Split:
        """A candidate's share of 0.0 where none was ever set."""
        try:
            share = float(json.loads(self._path.read_text())["candidate_share"])
        except FileNotFoundError:
            share = 0.0
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise WorldError(f"{self._path}: holds no split: {error}") from error
        return Split(share)

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

    def header(self, values: Mapping[str, ArmName]) -> None:
        if values:
            raise UsageError("the harness's own split routes no header: an arm's own headers say where it goes")

    def drain(self, arm: ArmName, deadline_s: float, *, cut: bool = False) -> Drained:
        """Nothing is cut: the generator ends its requests at their own deadline."""
        del cut
        began = time.monotonic()
        if self._in_flight is None:
            return Drained(None, 0.0)
        while (left := self._in_flight(arm)) > 0 and time.monotonic() - began < deadline_s:
            time.sleep(POLL_S)
        return Drained(left, time.monotonic() - began)

    def close(self) -> None:
        """Nothing is open."""
