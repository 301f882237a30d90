"""The interface of a router."""

from __future__ import annotations

from typing import Protocol


class Ingress(Protocol):
    """Routes requests to the baseline or the candidate. Shares are 0.0 to 1.0."""

    @property
    def target(self) -> str:
        """A name that finds this router again after a crash."""

    def read(self) -> float:
        """The candidate's share, as the router itself reports it."""

    def set(self, candidate_share: float) -> None:
        """Change the split; returns once it is in force."""
