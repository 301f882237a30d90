"""Stages: a mode, a load, a time. One section may stand for several stages: steps, sweeps, periods."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from harness.scenario.fields import DAY_S, Burstiness, Duration, Level, Levels, Rate, Section, Share, Wrong, between
from harness.scenario.sections.level import (
    MOST_IN_FLIGHT,
    MOST_STAGES,
    Leg,
    SweepConfig,
    same_kind,
    within_limits,
)
from harness.types import Mode

OpenArrival = Literal["poisson", "constant", "gamma"]
CYCLES, MOST_CYCLES = 3, MOST_STAGES // 4


class StageConfig(Section):
    """One stage, or with steps, a sweep or periods several: a mode, a load, a time."""

    mode: Mode = Field(
        description="paired: every prompt to both at once; interleaved: in random order; split: by share; sequential: "
        "all to one, then to the other, in the order A-B-B-A"
    )
    duration_s: Duration | None = Field(
        None, alias="for", description="how long; of a trace, all of it unless this is shorter"
    )
    in_flight: int | None = Field(
        None, ge=1, le=MOST_IN_FLIGHT, description="closed loop: requests (in paired mode pairs) that are under way"
    )
    rate: Rate | None = Field(None, description="open loop: requests (in paired mode pairs) a second")
    to: Level | None = Field(None, description="a ramp: from rate or in_flight evenly to this by the stage's end")
    steps: Levels | None = Field(
        None,
        min_length=2,
        max_length=MOST_STAGES,
        description="rates or numbers in flight, for equal parts of the time",
    )
    sweep: SweepConfig | None = Field(None, description="the same stage, for its whole time each, at several loads")
    arrival: Literal["poisson", "constant", "gamma", "trace"] | None = Field(
        None, description="with a rate, otherwise load.arrival; trace: when load.trace says, instead of a rate"
    )
    burstiness: Burstiness | None = Field(None, description="with gamma arrivals; otherwise load.burstiness")
    candidate: Share | None = Field(None, description="in split mode: the candidate's share of the requests")
    baseline: Share | None = Field(
        None, description="in split mode: the baseline's share, the rest goes to stable; otherwise all that is left"
    )
    warm_up_s: Duration | None = Field(
        None, alias="warm_up", description="the same load for this long before; nothing of it is judged"
    )
    alone_s: Duration | None = Field(
        None,
        alias="alone",
        description="for this long before, the baseline without the candidate gets the load that both get together: "
        "what the candidate costs it is then known",
    )
    until: Literal["decided"] | None = Field(
        None, description="decided: the stage ends once the judge is sure, either way, and after `for` at the latest"
    )
    cycles: int | None = Field(
        None, ge=1, le=MOST_CYCLES, description="in sequential mode: how often A-B-B-A is repeated within the time; 3"
    )

    @model_validator(mode="after")
    def _fits(self) -> StageConfig:
        if self.duration_s is None and self.arrival != "trace":
            raise Wrong("is missing", "for")
        if self.duration_s is not None:
            between(self.duration_s, 0.001, 7 * DAY_S, "for")
        if self.warm_up_s is not None:
            between(self.warm_up_s, 0.001, DAY_S, "warm_up")
        if self.alone_s is not None:
            between(self.alone_s, 0.001, DAY_S, "alone")
        self._one_load()
        self._two_shares()
        self._in_turn()
        self._compared_throughout()
        return self

    def _one_load(self) -> None:
        more = {"steps": self.steps, "sweep": self.sweep}
        given = [key for key, value in more.items() if value is not None]
        if self.burstiness is not None and self.arrival not in (None, "gamma"):
            raise Wrong(f"only gamma arrivals have it; found arrival: {self.arrival}", "burstiness")
        single = [key for key, value in (("rate", self.rate), ("in_flight", self.in_flight)) if value is not None]
        if self.arrival == "trace":
            for key in (*single, *given, *(["to"] if self.to is not None else [])):
                raise Wrong("a trace has its own times; to replay it faster, use load.speed (such as 2x)", key)
            return
        if given and single:
            raise Wrong(f"give {single[0]} or {given[0]}, not both", given[0])
        if len(given) == 2:
            raise Wrong("give steps or sweep, not both", "sweep")
        if not given:
            one_load(self.in_flight, self.rate)
        if self.to is not None:
            if given:
                raise Wrong(f"a ramp leads from rate or in_flight; {given[0]} has its own values", "to")
            same_kind(self.in_flight if self.rate is None else self.rate, self.to, "to")
            within_limits(self.to, "to")
        for index, level in enumerate(self.steps or ()):
            same_kind((self.steps or ())[0], level, "steps", index)
            within_limits(level, "steps", index)
        if isinstance(self._levels()[0], int):
            for key in ("arrival", "burstiness"):
                if getattr(self, key) is not None:
                    raise Wrong("needs a rate: with in_flight a request leaves when another has ended", key)

    def _two_shares(self) -> None:
        if self.mode == "split" and self.candidate is None:
            raise Wrong("a split needs the candidate's share (such as candidate: 10%)")
        for key in ("candidate", "baseline"):
            if self.mode != "split" and getattr(self, key) is not None:
                raise Wrong(f"only a split has shares; {self.mode} gives both arms the same", key)
        if self.baseline is None:
            return
        if self.baseline == 0:
            raise Wrong("expected a share above 0%: the candidate is compared with the baseline", "baseline")
        if self.share + self.baseline > 1 + 1e-9:
            raise Wrong("candidate and baseline get more than 100% together", "baseline")

    def _in_turn(self) -> None:
        if self.mode != "sequential":
            if self.cycles is not None:
                raise Wrong(f"only a sequential stage has cycles; found mode: {self.mode}", "cycles")
            return
        for key in ("to", "steps", "sweep"):
            if getattr(self, key) is not None:
                raise Wrong("a sequential stage has one load, the same in each of its periods", key)
        if self.arrival == "trace":
            raise Wrong("a sequential stage gives each of its periods the same load; a trace has another", "arrival")

    def _compared_throughout(self) -> None:
        """Raises Wrong for `alone` and `until` where nothing is compared at one load all the time."""
        for key in ("alone_s", "until"):
            if getattr(self, key) is None:
                continue
            name = key.removesuffix("_s")
            if self.mode == "sequential":
                each = (
                    "an arm is alone in each of its periods"
                    if name == "alone"
                    else "it is judged when A-B-B-A is whole"
                )
                raise Wrong(f"not in a sequential stage: {each}", name)
            if self.mode == "split":
                raise Wrong("only in a paired or interleaved stage: those compare both arms with each other", name)
            if self.to is not None or self.arrival == "trace":
                load = "a ramp" if self.to is not None else "a trace"
                raise Wrong(f"needs a load that stays the same through the stage; found {load}", name)

    @property
    def turns(self) -> int:
        """How many periods a sequential stage has; 1 of any other."""
        return 4 * (self.cycles or CYCLES) if self.mode == "sequential" else 1

    @property
    def share(self) -> float:
        """The candidate's share of the requests: 0.5 unless the stage splits."""
        return 0.5 if self.candidate is None else self.candidate

    @property
    def baseline_share(self) -> float | None:
        """None where the baseline gets all that the candidate does not."""
        if self.baseline is None or self.share + self.baseline > 1 - 1e-9:
            return None
        return self.baseline

    @property
    def equal(self) -> bool:
        """Baseline and candidate get as many requests."""
        other = 1 - self.share if self.baseline is None else self.baseline
        return abs(self.share - other) < 1e-9

    def legs(self) -> tuple[Leg, ...]:
        """One for each stage that this section stands for; () for a trace, whose length is not known here."""
        if self.duration_s is None or self.arrival == "trace":
            return ()
        levels = self._levels()
        # Steps and periods share the time, a sweep takes it for each of its values.
        each_s = self.duration_s / (len(levels) if self.steps else self.turns)
        return tuple(Leg.of(each_s, level, self.to) for level in levels) * self.turns

    def _levels(self) -> tuple[Level, ...]:
        if self.sweep is not None:
            return self.sweep.values()
        if self.steps is not None:
            return self.steps
        level = self.in_flight if self.rate is None else self.rate
        assert level is not None
        return (level,)


class DeployConfig(Section):
    """The candidate is brought while the baseline serves: a first stage in which all traffic stays with it."""

    in_flight: int | None = Field(None, ge=1, le=MOST_IN_FLIGHT, description="closed loop: requests that are under way")
    rate: Rate | None = Field(None, description="open loop: requests a second")
    within_s: Duration = Field(300.0, alias="within", description="until the candidate is loaded, at most this long")

    @model_validator(mode="after")
    def _fits(self) -> DeployConfig:
        between(self.within_s, 5.0, DAY_S, "within")
        one_load(self.in_flight, self.rate)
        return self


def one_load(in_flight: int | None, rate: float | None) -> None:
    """Raises Wrong unless the load is given, and in one way."""
    if in_flight is None and rate is None:
        raise Wrong("give rate (such as rate: 1/s) or in_flight (such as in_flight: 1), found neither")
    if in_flight is not None and rate is not None:
        raise Wrong("give rate or in_flight, not both", "in_flight")
    if rate is not None:
        within_limits(rate, "rate")
