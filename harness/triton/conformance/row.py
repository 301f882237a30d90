"""A row: one claim about Triton, what was measured when it was made, and how to measure it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from harness.triton.conformance.site import Site

Facts = Mapping[str, Any]
"""What was measured, by name: plain values that JSON can hold."""

Measure = Callable[["Site"], Facts]
Outcome = Literal["same", "different", "not run"]


class NotRun(Exception):
    """This row cannot be measured here; the message says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """`claim`: what Triton does, a sentence of Markdown. `expected`: the facts that make it true; `measure` may return
    more, which are shown and not compared. `safeguard`: what triton-canary does about it, and so what is to be looked
    at where the claim does not hold. `disturbs`: what a server in use would suffer from measuring it. `own`: it needs a
    server that can be started with arguments of its own. `metrics`: it reads the metrics page.
    """

    name: str
    claim: str
    expected: Facts
    safeguard: str
    measure: Measure
    disturbs: str = ""
    own: bool = False
    metrics: bool = False


@dataclass(slots=True)
class Group:
    """Rows under one heading, in the order in which they are declared."""

    title: str
    rows: list[Row] = field(default_factory=list)

    def row(
        self, *, claim: str, expected: Facts, safeguard: str, disturbs: str = "", own: bool = False,
        metrics: bool = False,
    ) -> Callable[[Measure], Measure]:  # fmt: skip
        """Declares the decorated function as a row; its name is the row's, with dashes."""

        def declare(measure: Measure) -> Measure:
            name = measure.__name__.replace("_", "-")
            self.rows.append(Row(name, claim, expected, safeguard, measure, disturbs, own, metrics))
            return measure

        return declare


@dataclass(frozen=True, slots=True)
class Result:
    """`reason`: why a row was not run, or what stopped its measurement."""

    group: str
    row: Row
    outcome: Outcome
    measured: Facts = field(default_factory=dict)
    reason: str = ""
