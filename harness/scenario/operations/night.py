"""night-batch, as its file describes it."""

from __future__ import annotations

import math
import re
from datetime import datetime, time, timedelta, tzinfo
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator, model_validator

from harness.scenario.fields import (
    DAY_S,
    MODEL,
    ControlUrl,
    Duration,
    Factor,
    MemoryLimit,
    Section,
    Share,
    Wrong,
    between,
)
from harness.scenario.operations.base import Operation
from harness.scenario.operations.load import SentLoad
from harness.scenario.operations.metered import Metered
from harness.scenario.places import PlaceConfig, from_file
from harness.units import format_duration, format_factor, format_percent, found

SWITCH_S = 120.0
"""Left for a switch, beside what is measured: a load waits for the model to be initialised anew."""
CLOCK = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
MOST_DELAY_S = 60.0


def _clock(value: Any) -> Any:
    if not isinstance(value, str) or not re.fullmatch(CLOCK, value):
        raise ValueError(f'expected a time of day such as "22:00", found {found(value)}')
    return value


TimeOfDay = Annotated[str, BeforeValidator(_clock), WithJsonSchema({"type": "string", "pattern": CLOCK})]


class Times(Section):
    """When dusk and dawn are."""

    dusk: TimeOfDay = Field(description='when the night\'s setting begins: "22:00"')
    dawn: TimeOfDay = Field(description='when the day\'s setting is put back: "06:00"')
    zone: str | None = Field(None, description="time zone such as Europe/Berlin; otherwise this machine's")

    @model_validator(mode="after")
    def _fits(self) -> Times:
        if self.dusk == self.dawn:
            raise Wrong("expected another time than dusk", "dawn")
        if self.zone is not None:
            try:
                ZoneInfo(self.zone)
            except (ZoneInfoNotFoundError, ValueError, OSError) as error:
                raise Wrong(f"expected a time zone such as Europe/Berlin, found {found(self.zone)}", "zone") from error
        return self


def next_time(now: datetime, of_day: str, zone: tzinfo | None = None) -> datetime:
    """The first moment after `now` (aware) at which clocks in `zone` show `of_day`; None is this machine's zone.

    Where clocks skip it, the moment an hour later; where they show it twice, the first.
    """
    wanted, today = time.fromisoformat(of_day), now.astimezone(zone).date()
    days = (datetime.combine(today + timedelta(days=day), wanted, zone) for day in range(-1, 3))
    return next(moment for moment in (day.astimezone(zone) for day in days) if moment.timestamp() > now.timestamp())


def _length_s(at: Times) -> float:
    """From dusk to dawn, in a night in which no clock is changed."""
    dusk, dawn = (datetime.combine(datetime.min, time.fromisoformat(moment)) for moment in (at.dusk, at.dawn))
    return (dawn - dusk).total_seconds() % DAY_S


class BatchSetting(Section):
    """How the dynamic batcher waits for more requests."""

    delay_s: Duration = Field(alias="max_queue_delay", description="the longest that a request waits: 0s, 500us, 20ms")
    preferred: Annotated[tuple[int, ...], Field(strict=False)] | None = Field(
        None, alias="preferred_batch_size", description="sizes that are sent at once: [16]; otherwise left as they are"
    )

    @model_validator(mode="after")
    def _fits(self) -> BatchSetting:
        between(self.delay_s, 0.0, MOST_DELAY_S, "max_queue_delay")
        for index, size in enumerate(self.preferred or ()):
            if size < 1:
                raise Wrong(f"expected a whole number from 1 up, found {size}", "preferred_batch_size", index)
        return self

    @property
    def delay_us(self) -> int:
        """In microseconds, as Triton counts it."""
        return round(self.delay_s * 1e6)

    @property
    def words(self) -> str:
        """`max_queue_delay 20ms, preferred_batch_size [16]`."""
        sizes = f", preferred_batch_size {list(self.preferred)}" if self.preferred is not None else ""
        return f"max_queue_delay {format_duration(self.delay_s)}{sizes}"


class Separate(Section):
    """Option B: batch jobs have a deployment of their own, and nobody's setting is switched."""

    model: str = Field(min_length=1, pattern=MODEL, description="the batch deployment's model: the night's setting")
    version: int | None = Field(None, ge=1, description="the version that is asked; without one the highest")
    url: ControlUrl | None = Field(None, description="its own server; otherwise the one of the real-time model")


class NightLimits(Section):
    """What the night has to bring, and what it may cost."""

    gain: Share = Field(0.2, description="batch jobs get at least this much more done than with the day's setting")
    latency: Factor | None = Field(
        None,
        description="the most that real-time requests may take longer for it (p95): 5x; without it, it is shown",
    )
    drift: Share = Field(
        0.25, description="how far the measurements with the day's setting may lie apart, before and after"
    )
    back: Share = Field(0.25, description="at dawn real-time requests take at most this much longer than before dusk")
    errors: Share = Field(0.01, description="of the requests outside the switches; in a switch none may fail")
    memory: MemoryLimit | None = Field(
        None, description="the most that a peak of it may be, in the switches, too: 90% of what there is, or 40GiB"
    )


class NightPlace(PlaceConfig, Metered):
    """A Triton, the model repository that it reads, and how its memory is read."""


class NightBatch(Operation):
    """Batch jobs by night with a longer queue delay, real time by day; or a deployment for each."""

    kind: Literal["night-batch"]
    target: NightPlace = Field(description="where the model serves")
    model: str = Field(min_length=1, pattern=MODEL, description="the model's name in the repository")
    version: int | None = Field(None, ge=1, description="the version that is asked; without one the highest")
    day: BatchSetting = Field(description="the day's setting: what serves now, and what is put back")
    night: BatchSetting = Field(description="the night's setting")
    realtime: SentLoad = Field(description="the load of the day, which has to be answered soon")
    batch: SentLoad = Field(description="the load of the night, of which as much as possible is to be done")
    phase_s: Duration = Field(30.0, alias="phase", description="how long each measurement lasts")
    warm_up_s: Duration = Field(2.0, alias="warm_up", description="of each measurement, not counted")
    at: Times | None = Field(None, description="wait for these times; without them dusk and dawn follow at once")
    separate: Separate | None = Field(None, description="option B, measured beside option A under the same two loads")
    limits: NightLimits = Field(default_factory=NightLimits, description="what the night must bring, and may cost")
    seed: int = Field(1, ge=0, lt=2**31, description="fixes the requests")

    @field_validator("target", mode="after")
    @classmethod
    def _from_file(cls, value: NightPlace, info: ValidationInfo) -> NightPlace:
        return from_file(value, "target", info)

    @model_validator(mode="after")
    def _fits(self) -> NightBatch:
        between(self.phase_s, 2.0, 3600.0, "phase")
        between(self.warm_up_s, 0.0, 3600.0, "warm_up")
        if self.day == self.night:
            raise Wrong("expected another setting than the day's, found the same", "night")
        if self.at is not None and _length_s(self.at) < self.night_s:
            shown = format_duration(_length_s(self.at))
            least = format_duration(math.ceil(self.night_s))
            raise Wrong(f"a night of {shown} is too short: what is measured in it takes {least}", "at", "dawn")
        if self.separate is not None:
            if self.at is not None:
                raise Wrong("two deployments have no dusk and no dawn: nothing is switched; remove at", "at")
            if self.separate.url is not None and self.embedded:
                raise Wrong("the embedded server serves both; remove url", "separate", "url")
            if self.separate.model == self.model and self.separate.url is None:
                raise Wrong("expected another model than the real-time one, or its own url", "separate", "model")
        return self

    @property
    def embedded(self) -> bool:
        return self.target.server is not None

    @property
    def urls(self) -> tuple[str, ...]:
        """Where it is called, if that is no embedded server."""
        return () if self.target.url is None else (self.target.url,)

    @property
    def night_s(self) -> float:
        """How long a night has to be: batch jobs twice, then real time, each to its last answer; and the switch."""
        last_s = max(self.realtime.timeout_s, self.batch.timeout_s)
        return 3 * (self.warm_up_s + self.phase_s + last_s) + SWITCH_S

    @property
    def zone(self) -> tzinfo | None:
        """Where dusk and dawn are told; None is this machine's own zone."""
        return ZoneInfo(self.at.zone) if self.at is not None and self.at.zone is not None else None

    @property
    def steps(self) -> tuple[str, ...]:
        place = "start a Triton with the model" if self.embedded else f"check that {self.model} has the day's setting"
        memory = [] if self.limits.memory is None else [self.target.reads(self.limits.memory, self.urls)]
        phases = self._two if self.separate is not None else self._switched
        return (f"{place}: {self.day.words}", *memory, *phases)

    @property
    def _switched(self) -> tuple[str, ...]:
        seconds, limits = format_duration(self.phase_s), self.limits
        wait = {"dusk": "", "dawn": ""}
        if self.at is not None:
            zone = f" ({self.at.zone})" if self.at.zone else ""
            wait = {"dusk": f"wait for {self.at.dusk}{zone}; ", "dawn": f"wait for {self.at.dawn}{zone}; "}
        paid = f", at most {format_factor(limits.latency)}" if limits.latency is not None else ""
        return (
            f"day: {self.realtime.words} for {seconds}, the latency of the day",
            f"{wait['dusk']}dusk: {self.batch.words} for {seconds} with the day's setting",
            f"switch to {self.night.words} under that load, in the journal until dawn: no request may fail",
            f"night: the same load for {seconds}: at least {format_percent(limits.gain)} more done; then "
            f"{self.realtime.words}, the latency paid (p95{paid})",
            f"{wait['dawn']}dawn: switch back under {self.realtime.words}; the day's setting is read from the server, "
            f"and the latency is back (at most {format_percent(limits.back)} longer)",
            f"once more {self.batch.words} for {seconds} with the day's setting: the gain counts against both",
        )

    @property
    def _two(self) -> tuple[str, ...]:
        assert self.separate is not None
        seconds = format_duration(self.phase_s)
        both = f"{self.realtime.words} beside {self.batch.words}"
        return (
            f"one deployment, day's setting: {both} for {seconds}",
            f"option A: the same with {self.night.words}, switched under load, and back again",
            f"option B: real time to {self.model}, batch jobs to {self.separate.model}, for {seconds}",
            "one deployment, day's setting, once more: what is said of B holds against both",
            "compare what batch jobs get done and what real-time requests wait, in A and in B",
        )
