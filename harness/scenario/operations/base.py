"""What the kinds of operation have in common."""

from __future__ import annotations

from abc import abstractmethod

from pydantic import Field

from harness.scenario.fields import NAME, Section


class Operation(Section):
    """An operation as its file describes it."""

    kind: str
    name: str = Field(pattern=NAME, description="letters, digits, dot, dash; names the folder")
    description: str = Field("", description="one line for people")

    @property
    @abstractmethod
    def steps(self) -> tuple[str, ...]:
        """What will be done, in order, for people."""

    @property
    @abstractmethod
    def embedded(self) -> bool:
        """Whether it shows itself on a Triton of its own."""
