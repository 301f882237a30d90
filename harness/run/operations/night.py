"""night-batch: the night's setting is lent from dusk to dawn, under load; or two deployments beside one (option B)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from harness.embedded import reference_build
from harness.errors import UsageError, WorldError
from harness.judge.operations.night import (
    AGAIN,
    BATCH,
    DAWN,
    DAY,
    DUSK,
    NIGHT,
    PAID,
    REALTIME,
    SEPARATE,
    SHARED,
    SHARED_AGAIN,
    SHARED_DAWN,
    SHARED_DUSK,
    SHARED_NIGHT,
    SWITCH_DAWN,
    SWITCH_DUSK,
)
from harness.run.models import Hold, held, settings
from harness.run.operations.clock import Clock
from harness.run.operations.course import Course, Place
from harness.run.operations.loads import Asked, driving, during, measure
from harness.run.operations.memory import Meter, metered, plain
from harness.scenario import NightBatch, next_time
from harness.triton import Batching
from harness.types import Arm


def observe(course: Course, clock: Clock | None = None) -> None:
    """The day's setting is what the server has now. However this ends, it has it again."""
    scenario = course.scenario
    assert isinstance(scenario, NightBatch)
    course.note(
        model=scenario.model,
        limits={
            **{key: getattr(scenario.limits, key) for key in type(scenario.limits).model_fields},
            "memory": plain(scenario.limits.memory),
        },
        switches=[],
        seen={},
        **({"separate": scenario.separate.model} if scenario.separate else {}),
    )
    version = scenario.version or 1
    models = {scenario.model: {version: reference_build(scenario.model) if scenario.embedded else ""}}
    if scenario.embedded and scenario.separate is not None:
        other = scenario.separate
        models[other.model] = {other.version or 1: reference_build(other.model)}
    place, t0_ns = course.open_place(scenario.target, models), time.monotonic_ns()
    limit = scenario.limits.memory
    with metered(course, scenario.target, place.server, scenario.urls, t0_ns, limit) as meter:
        night = _Night(course, scenario, place, clock or Clock(), t0_ns, meter)
        night.check()
        if scenario.separate is None:
            night.switched()
        else:
            night.compared()


class _Night:
    def __init__(
        self, course: Course, scenario: NightBatch, place: Place, clock: Clock, t0_ns: int,
        meter: Meter | None = None,
    ) -> None:  # fmt: skip
        self._course, self._scenario, self._place, self._clock = course, scenario, place, clock
        self._t0_ns, self._meter = t0_ns, meter
        arm = Arm(url=place.control.url, model=scenario.model, version=scenario.version)
        self._realtime = Asked(REALTIME, scenario.realtime, arm)
        self._batch = Asked(BATCH, scenario.batch, arm)

    def check(self) -> None:
        """What serves now is the day's setting, or the scenario means another server. Raises UsageError."""
        found = settings(self._place.site, self._scenario.model)
        config = self._place.control.config(self._scenario.model)
        if int(config.get("max_batch_size", 0)) < 1:
            if self._scenario.separate is None:
                raise UsageError(
                    f"{self._scenario.model}: max_batch_size is 0, so Triton's queue delay forms no batches of it: "
                    "give batch jobs a deployment of their own (separate)"
                )
            self._course.note(no_batches="max_batch_size is 0: Triton's queue delay forms no batches of it")
            return
        day, night = self._scenario.day, self._scenario.night
        for url, setting in found.items():
            if setting.delay_us != day.delay_us or day.preferred not in (None, setting.preferred):
                raise UsageError(
                    f"{self._scenario.model}: has {setting} on {url}, which is not the scenario's day ({day.words})"
                )
        self._course.note(
            wanted={
                "day": {url: _plain(setting) for url, setting in found.items()},
                "night": {
                    url: _plain(setting.changed(night.delay_us, night.preferred)) for url, setting in found.items()
                },
            }
        )

    def switched(self) -> None:
        """Option A, from before dusk until after dawn."""
        scenario, (dusk, dawn) = self._scenario, self._times()
        with self._driving("day", self._realtime) as (realtime,):
            self._say(f"day: real time ({scenario.realtime.words})")
            self._measure(DAY, realtime)
        self._wait(dusk)
        if dawn is not None and (left_s := self._clock.left_s(dawn)) < scenario.night_s:
            raise WorldError(
                f"the night is too short: {left_s:.0f} s are left until dawn, and what is measured takes "
                f"{scenario.night_s:.0f} s; nothing was switched"
            )
        with held(self._place.site, scenario.model) as hold:
            with self._driving("night", self._realtime, self._batch) as (realtime, batch):
                self._say(f"dusk: batch jobs ({scenario.batch.words}) with the day's setting")
                self._measure(DUSK, batch)
                self._switch("dusk", hold, SWITCH_DUSK, batch)
                self._say("night: batch jobs, then real time, with the night's setting")
                self._measure(NIGHT, batch)
                self._measure(PAID, realtime)
            self._wait(dawn)
            with self._driving("dawn", self._realtime, self._batch) as (realtime, batch):
                self._switch("dawn", hold, SWITCH_DAWN, realtime, due=dawn)
                self._measure(DAWN, realtime)
                self._see("dawn")
                self._say(f"dawn: batch jobs ({scenario.batch.words}) with the day's setting, once more")
                self._measure(AGAIN, batch)

    def compared(self) -> None:
        """One deployment with either setting, and two; both loads at the same time in each."""
        scenario, other = self._scenario, self._scenario.separate
        assert other is not None
        url = other.url or self._place.control.url
        second = Asked(BATCH, scenario.batch, Arm(url=url, model=other.model, version=other.version))
        with self._driving("shared", self._realtime, self._batch) as both:
            self._say("one deployment: real time and batch jobs with the day's setting")
            self._measure(SHARED, *both)
            if "no_batches" not in self._course.facts:
                with held(self._place.site, scenario.model) as hold:
                    self._switch("dusk", hold, SHARED_DUSK, *both)
                    self._say("option A: the same with the night's setting")
                    self._measure(SHARED_NIGHT, *both)
                    self._switch("dawn", hold, SHARED_DAWN, *both)
                    self._see("dawn")
        with self._driving("separate", self._realtime, second) as both:
            self._say(f"option B: real time to {scenario.model}, batch jobs to {other.model}")
            self._measure(SEPARATE, *both)
        with self._driving("again", self._realtime, self._batch) as both:
            self._say("one deployment with the day's setting, once more")
            self._measure(SHARED_AGAIN, *both)

    def _driving(self, part: str, *asked: Asked) -> Any:
        return driving(self._course, self._scenario.seed, asked, part, self._t0_ns)

    def _measure(self, stage: int, *drives: Any) -> None:
        with self._memory(stage, f"stage {stage + 1}", self._scenario.warm_up_s):
            measure(self._course, drives, stage, self._scenario.warm_up_s, self._scenario.phase_s)

    @contextmanager
    def _memory(self, stage: int, when: str, after_s: float = 0.0) -> Iterator[None]:
        """What is used from so many seconds on until its end, where that has a limit."""
        limit = self._scenario.limits.memory
        if self._meter is None or limit is None:
            yield
            return
        begin_ns = self._meter.now_ns() + round(after_s * 1e9)
        yield
        read = self._meter.facts(begin_ns, self._meter.now_ns(), limit)
        self._course.facts.setdefault("memory", []).append({"stage": stage, "when": when, **read})

    def _switch(self, when: str, hold: Hold, stage: int, *drives: Any, due: datetime | None = None) -> None:
        """`due`: the moment that it was to be at."""
        night = self._scenario.night
        self._say(f"{when}: switching under load")
        late_s = 0.0 if due is None else max(-self._clock.left_s(due), 0.0)

        def change() -> Any:
            return hold.lend(night.delay_us, night.preferred) if when == "dusk" else hold.give_back()

        with self._memory(stage, f"the switch at {when}"):
            done = during(self._course, drives, stage, change)
        self._course.facts["switches"].append(
            {"when": when, "took_s": done.took_s, "late_s": round(late_s, 1), "called": list(done.called)}
        )
        if when == "dusk":
            self._see("night")

    def _see(self, moment: str) -> None:
        """What every server says of every version that serves, by another question than the switch's own."""
        model = self._scenario.model
        self._course.facts["seen"][moment] = {
            control.url: {str(version): _plain(setting) for version, setting in control.batching(model).items()}
            for control in self._place.site.servers
        }
        self._course.save()

    def _times(self) -> tuple[datetime | None, datetime | None]:
        """Dusk, and the dawn that follows it: both from now on the same moments, however long anything takes."""
        at, zone = self._scenario.at, self._scenario.zone
        if at is None:
            return None, None
        dusk = self._clock.next(at.dusk, zone)
        return dusk, next_time(dusk, at.dawn, zone)

    def _wait(self, moment: datetime | None) -> None:
        if moment is not None:
            self._clock.wait(moment, self._say, self._place.check)

    def _say(self, line: str) -> None:
        self._course.say(line)


def _plain(setting: Batching) -> dict[str, Any]:
    return {"section": setting.section, "words": str(setting)}
