"""How much load: one value, or a sweep over several."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from harness.scenario.fields import Level, Levels, Section, Wrong
from harness.units import format_level

MOST_IN_FLIGHT = 10_000
MOST_RATE = 1_000_000.0
MOST_STAGES = 100


class Leg(NamedTuple):
    """What one section plans for one stage: a rate or a number in flight, and where a ramp leads."""

    duration_s: float
    rate: float | None = None
    in_flight: int | None = None
    rate_to: float | None = None
    in_flight_to: int | None = None

    @classmethod
    def of(cls, duration_s: float, level: Level, to: Level | None = None) -> Leg:
        if isinstance(level, int):
            return cls(duration_s, in_flight=level, in_flight_to=None if to is None else int(to))
        return cls(duration_s, rate=level, rate_to=to)


class SweepConfig(Section):
    """The same stage at one load after another: values that are listed, or from one to another."""

    rate: Levels | None = Field(None, description="open loop: a list such as [10/s, 20/s, 40/s]")
    in_flight: Levels | None = Field(None, description="closed loop: a list such as [1, 2, 4, 8]")
    from_: Level | None = Field(None, alias="from", description="the first value: a rate, or a number in flight")
    to: Level | None = Field(None, description="the last value")
    count: int | None = Field(None, ge=2, le=MOST_STAGES, description="how many values, both ends included")
    spacing: Literal["geometric", "linear"] = Field(
        "geometric", description="geometric: each a constant factor above the one before; linear: a constant step"
    )

    @model_validator(mode="after")
    def _fits(self) -> SweepConfig:
        spaced = [self.from_, self.to, self.count]
        given = [self.rate is not None, self.in_flight is not None, any(part is not None for part in spaced)]
        if sum(given) != 1:
            raise Wrong("give rate, in_flight, or from, to and count (such as from: 10/s, to: 160/s, count: 5)")
        if given[2]:
            for key, value in zip(("from", "to", "count"), spaced, strict=True):
                if value is None:
                    raise Wrong("is missing", key)
            same_kind(self.from_, self.to, "to")
        elif self.spacing != "geometric":
            raise Wrong("only between from and to; a list says its values", "spacing")
        for key, kind in (("rate", float), ("in_flight", int)):
            for index, level in enumerate(getattr(self, key) or ()):
                if not isinstance(level, kind):
                    raise Wrong(_other_kind(level), key, index)
        values = self.values()
        for level in values:
            within_limits(level)
        if len(set(values)) < len(values):
            key = "count" if given[2] else "rate" if given[0] else "in_flight"
            twice = next(level for index, level in enumerate(values) if level in values[:index])
            raise Wrong(f"{format_level(twice)} comes twice; each value once", key)
        return self

    def values(self) -> tuple[Level, ...]:
        """In the order in which they are run."""
        listed = self.rate or self.in_flight
        if listed:
            return listed
        assert self.from_ is not None
        assert self.to is not None
        assert self.count is not None
        first, last, steps = self.from_, self.to, self.count - 1
        if self.spacing == "linear":
            between_ends = [first + (last - first) * i / steps for i in range(1, steps)]
        else:
            between_ends = [first * (last / first) ** (i / steps) for i in range(1, steps)]
        if isinstance(first, int):
            return (first, *(round(value) for value in between_ends), last)
        # Six digits: what a person would write, and what is shown.
        return (first, *(float(f"{value:.6g}") for value in between_ends), last)


def same_kind(first: Level | None, other: Level | None, *at: str | int) -> None:
    """Raises Wrong at `at` where one is a rate and the other a number in flight."""
    if isinstance(first, int) != isinstance(other, int) and other is not None:
        raise Wrong(_other_kind(other), *at)


def within_limits(level: Level, *at: str | int) -> None:
    """Raises Wrong at `at` for a load that no machine can carry."""
    if isinstance(level, int) and level > MOST_IN_FLIGHT:
        raise Wrong(f"expected at most {MOST_IN_FLIGHT} in flight, found {level}", *at)
    if level > MOST_RATE:
        raise Wrong(f"expected at most {MOST_RATE:.0f}/s", *at)


def _other_kind(level: Level) -> str:
    expected = "a rate such as 10/s" if isinstance(level, int) else "a number in flight such as 8"
    return f"expected {expected}, as the other values are, found {format_level(level)}"
