"""Every error this package raises on purpose.

    CanaryError                 has `exit_code` and one clear line
      UsageError          (2)   wrong arguments, or a wish that cannot be granted
        ScenarioError     (2)   a scenario file: carries file, line, column, key
        VersionMissing    (2)   a desired model version is not in the repository
        UnsafeChange      (2)   it would harm requests or models that depend on it; says what allows it
      WorldError          (4)   the world failed: unreachable, died, disk full
        Unreachable       (4)   nobody answers at that address within the deadline
        ServerDied        (4)   a process that we started is gone
        LoadFailed        (4)   Triton refused or failed to load a model version
        LoadMismatch      (4)   the repository index is not what was asked for
        ChangedMeanwhile  (4)   somebody else changed the served versions at the same time
        StoreError        (4)   a model store refused, or what it sent is not what its manifest says
        RecordingError    (4)   a recording cannot be written, or cannot be read

A failed *request* is never an exception: it is a Sample with a status.
"""

from __future__ import annotations


class CanaryError(Exception):
    """Base class; `str(error)` is one line for the user."""

    exit_code = 4


class UsageError(CanaryError):
    """Wrong usage: nothing was started."""

    exit_code = 2


class ScenarioError(UsageError):
    """A mistake in a scenario file, at a place that can be named."""

    def __init__(
        self, message: str, *, file: str = "", line: int | None = None, column: int | None = None, key: str = ""
    ) -> None:
        self.file, self.line, self.column, self.key = file, line, column, key
        place = ":".join(str(part) for part in (file, line, column) if part not in (None, ""))
        super().__init__(": ".join(part for part in (place, key, message) if part))


class VersionMissing(UsageError):
    """A model version that was asked for is not in the repository."""


class UnsafeChange(UsageError):
    """A change of what is served that would harm somebody. The message says whom, and which option allows it."""


class WorldError(CanaryError):
    """Something outside this program failed."""


class Unreachable(WorldError):
    """Nobody answered within the deadline."""


class ServerDied(WorldError):
    """A process that this program started has ended by itself."""


class LoadFailed(WorldError):
    """Triton failed to load or unload a model version."""


class LoadMismatch(WorldError):
    """Triton reported success, but the repository index says otherwise."""


class ChangedMeanwhile(WorldError):
    """Somebody else changed the served versions between our look and our call, or after it."""


class StoreError(WorldError):
    """A model store refused, broke off, or sent what is not what its manifest says. The repository is untouched."""


class RecordingError(WorldError):
    """A recording cannot be written (disk full) or read (damaged)."""
