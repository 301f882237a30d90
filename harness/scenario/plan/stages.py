"""A scenario's stages as they are carried out.

Steps and sweeps become stages of their own, each judged like any other: the first load at which the candidate is worse
ends the run. So do the periods of a sequential stage, which are judged together. Before the first comes the deploy,
before a stage its warm-up and the baseline alone, and behind a last split at 100 % the soak for which the baseline is
kept.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.scenario.sections import Leg, LoadConfig, StageConfig
from harness.types import Arrival, Prompt, StagePlan

if TYPE_CHECKING:
    from harness.scenario.model import Scenario


@dataclass(frozen=True)
class Plan:
    """`prompts`: what PlannedRequest.prompt numbers; () for a model that takes none. `trace_ns`: when the rows of a
    trace are due, at the speed that is asked for; each asks the prompt of its number.
    """

    stages: tuple[StagePlan, ...]
    seed: int
    prompts: tuple[Prompt, ...]
    trace_ns: tuple[int, ...] = ()

    @property
    def duration_s(self) -> float:
        """Seconds of load; starting servers and loading models (also in a deploy stage) come on top."""
        return sum(stage.duration_s for stage in self.stages if stage.purpose != "deploy")


def plan(scenario: Scenario) -> Plan:
    """Everything that a run of the scenario will send, and when. Pure."""
    return Plan(stages(scenario), scenario.seed, scenario.prompts, scenario.trace_ns)


def stages(scenario: Scenario) -> tuple[StagePlan, ...]:
    """In order, with their indices."""
    through = scenario.ingress is not None
    return tuple(
        replace(stage, index=index, routed=through and stage.mode == "split" and stage.purpose != "alone")
        for index, stage in enumerate(_stages(scenario))
    )


def replayed_s(scenario_stages: Sequence[StageConfig]) -> float | None:
    """How much of a trace, in seconds as it is replayed, any stage asks: None is all of it, because a stage replays it
    to its end, or none does and they ask it for prompts only.
    """
    wanted = [stage.duration_s for stage in scenario_stages if stage.arrival == "trace"]
    known = [seconds for seconds in wanted if seconds is not None]
    return max(known) if known and len(known) == len(wanted) else None


def _stages(scenario: Scenario) -> Iterator[StagePlan]:
    """Their indices are all 0."""
    load = scenario.load
    if scenario.deploy is not None:
        deploy = scenario.deploy
        leg = Leg(deploy.within_s, deploy.rate, deploy.in_flight)
        yield StagePlan(
            0, "split", "closed" if leg.rate is None else load.arrival, leg.duration_s, 0.0, leg.in_flight, leg.rate,
            "deploy", burstiness=_burstiness(load, None, load.arrival),
        )  # fmt: skip
    for config in scenario.stages:
        for stage in _of_section(config, load, scenario.due_ns):
            if config.warm_up_s is not None:
                yield _warm_up(stage, config.warm_up_s)
            if config.alone_s is not None:
                yield _alone(stage, config.alone_s)
            last = stage
            yield stage
    keep_s = scenario.on_promote.keep_baseline_s if scenario.on_promote else None
    if keep_s is not None and last.mode == "split" and last.candidate_share == 1:
        yield replace(
            last, duration_s=keep_s, purpose="soak", series=1,
            rate=last.rate if last.rate_to is None else last.rate_to, rate_to=None,
            in_flight=last.in_flight if last.in_flight_to is None else last.in_flight_to, in_flight_to=None,
        )  # fmt: skip


def _of_section(config: StageConfig, load: LoadConfig, due_ns: Sequence[int]) -> Iterator[StagePlan]:
    if config.arrival == "trace":
        yield _replay(config, due_ns)
        return
    legs = config.legs()
    in_turn = config.mode == "sequential"
    for number, leg in enumerate(legs):
        arrival: Arrival = "closed" if leg.rate is None else config.arrival or load.arrival
        share = float("ABBA"[number % 4] == "B") if in_turn else config.share
        yield StagePlan(
            0, config.mode, arrival, leg.duration_s, share, leg.in_flight, leg.rate,
            rate_to=leg.rate_to, in_flight_to=leg.in_flight_to, baseline_share=config.baseline_share,
            burstiness=_burstiness(load, config, arrival), series=1 if in_turn else len(legs),
            period=number + 1 if in_turn else 0, periods=len(legs) if in_turn else 0,
            until_decided=config.until is not None,
        )  # fmt: skip


def _replay(config: StageConfig, due_ns: Sequence[int]) -> StagePlan:
    # To the millisecond after the last row.
    whole_s = (due_ns[-1] // 10**6 + 1) / 1e3
    duration_s = min(config.duration_s or whole_s, whole_s)
    rows = bisect_left(due_ns, math.ceil(duration_s * 1e9))
    return StagePlan(
        0, config.mode, "trace", duration_s, config.share, rate=rows / duration_s, baseline_share=config.baseline_share
    )


def _warm_up(stage: StagePlan, seconds: float) -> StagePlan:
    """The load with which the stage begins; of a trace, its mean rate."""
    arrival: Arrival = "poisson" if stage.arrival == "trace" else stage.arrival
    return replace(
        stage, arrival=arrival, duration_s=seconds, purpose="warm-up", rate_to=None, in_flight_to=None, series=1,
        period=0, periods=0, until_decided=False,
    )  # fmt: skip


def _alone(stage: StagePlan, seconds: float) -> StagePlan:
    """The baseline gets what both arms will: in paired mode every prompt twice at once, as often as there are pairs."""
    each = 2 if stage.mode == "paired" else 1
    return replace(
        stage, mode="split", duration_s=seconds, candidate_share=0.0, purpose="alone", series=1, together=each,
        rate=None if stage.rate is None else stage.rate * each,
        in_flight=None if stage.in_flight is None else stage.in_flight * each, until_decided=False,
    )  # fmt: skip


def _burstiness(load: LoadConfig, config: StageConfig | None, arrival: Arrival) -> float:
    if arrival != "gamma":
        return 1.0
    own = config.burstiness if config else None
    return own or load.burstiness or 1.0
