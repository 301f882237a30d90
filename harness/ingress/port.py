"""The interface of a router: read the split, set it, route a header, drain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from harness.types import ArmName

Pattern = Literal["turns", "random"]
"""How single requests fall: in turns (a deterministic weighted round robin), or each by a draw of its own."""


@dataclass(frozen=True, slots=True)
class Split:
    """What a router itself reports. Shares are 0.0 to 1.0.

    `headers`: values of the routed header, and the arm that each of them leads to. `requests`: that it gave to each arm
    so far, whoever sent them, from some moment on that lies before the run; `in_flight`: of these, not answered yet.
    `down`: arms that it holds for unable to serve. None: it does not tell.
    """

    candidate_share: float
    headers: Mapping[str, ArmName] = field(default_factory=dict)
    requests: Mapping[ArmName, int] | None = None
    in_flight: Mapping[ArmName, int] | None = None
    down: tuple[ArmName, ...] = ()


@dataclass(frozen=True, slots=True)
class Drained:
    """`left`: requests that were still in flight at the deadline, None where the router does not tell; `cut`: how many
    of those were ended.
    """

    left: int | None
    took_s: float
    cut: int = 0


class Ingress(Protocol):
    """Routes requests to the baseline or the candidate. Every method raises WorldError where the router does not answer
    or does not do as it is told, and UsageError for what it cannot do at all.
    """

    @property
    def target(self) -> str:
        """The address that finds this router again after a crash: `open_ingress(target)`. Holds no secret."""

    @property
    def pattern(self) -> Pattern:
        """How single requests fall."""

    def read(self) -> Split:
        """What the router itself reports; never what was asked of it."""

    def set(self, candidate_share: float) -> None:
        """Change the split; returns once it is in force, and was read back. The same again does nothing."""

    def header(self, values: Mapping[str, ArmName]) -> None:
        """From now on exactly these values of the routed header lead to an arm, whatever the split; {} is none."""

    def drain(self, arm: ArmName, deadline_s: float, *, cut: bool = False) -> Drained:
        """Wait until nothing is in flight at an arm that gets no share, `deadline_s` at most; then end the rest, if
        `cut` is wanted and the router can.
        """

    def close(self) -> None:
        """Let go of connections."""
