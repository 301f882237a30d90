"""Dusk and dawn of night-batch, without a server: when it switches, however long anything takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import WorldError
from harness.run.operations import night
from harness.run.operations.clock import Clock
from harness.scenario import NightBatch, load

NIGHT = """
kind: night-batch
name: night
target: {url: "grpc://triton:8001", repository: /models}
model: ranker
day: {max_queue_delay: 0s}
night: {max_queue_delay: 20ms}
realtime: {rate: 20/s, timeout: 10s}
batch: {in_flight: 16, timeout: 10s}
phase: 10s
warm_up: 0s
at: {dusk: "22:00", dawn: "06:00", zone: Europe/Berlin}
"""


class Night:
    """One that only says what it does, and when: `later` is what becomes of the time after a line of that beginning."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, begin: str, later: dict[str, str]) -> None:
        self.time, self.later, self.said = datetime.fromisoformat(begin), later, list[str]()
        path = folder / "night.yaml"
        path.write_text(NIGHT)
        scenario = load(path)
        assert isinstance(scenario, NightBatch)

        @contextmanager
        def held(*_: Any) -> Iterator[Any]:
            done = SimpleNamespace(took_s=1.0, called=["grpc://triton:8001"])
            yield SimpleNamespace(lend=lambda *_: self.say("lent") or done, give_back=lambda: self.say("back") or done)

        @contextmanager
        def driving(_course: Any, _seed: int, asked: Any, *_: Any) -> Iterator[Any]:
            yield list(asked)

        def during(_course: Any, _drives: Any, _stage: int, change: Callable[[], Any]) -> Any:
            return change()

        for name, fake in (("held", held), ("driving", driving), ("during", during), ("measure", lambda *_: None)):
            monkeypatch.setattr(night, name, fake)
        course: Any = SimpleNamespace(say=self.say, facts={"switches": [], "seen": {}}, save=lambda: None)
        control = SimpleNamespace(url="grpc://triton:8001", batching=lambda _: {})
        place: Any = SimpleNamespace(control=control, site=SimpleNamespace(servers=[control]), check=lambda: None)
        self.facts = course.facts
        self.night = night._Night(course, scenario, place, Clock(lambda: self.time, self.sleep), 0)

    def say(self, line: str) -> None:
        self.said.append(f"{self.time:%H:%M:%S} {line}")
        for beginning, moment in self.later.items():
            if line.startswith(beginning):
                self.time = datetime.fromisoformat(moment)

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=max(seconds, 600))

    def when(self, line: str) -> str:
        return next(said.partition(" ")[0] for said in self.said if said.partition(" ")[2].startswith(line))


def test_a_dawn_that_was_missed_is_made_up_for_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured by night ends 30 s after dawn. The next dawn is tomorrow's: until then it would stay night."""
    later = {"night: batch jobs": "2026-01-11T06:00:30+01:00"}
    one = Night(tmp_path, monkeypatch, "2026-01-10T12:00:00+01:00", later)
    one.night.switched()
    assert (one.when("lent"), one.when("back")) == ("22:00:00", "06:00:30")
    assert one.when("2026-01-11 06:00 CET was 30 s ago: no waiting") == "06:00:30"
    assert [switch["late_s"] for switch in one.facts["switches"]] == [0.0, 30.0]


def test_a_day_that_takes_until_after_dusk_does_not_cost_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = {"day: real time": "2026-01-10T22:00:05+01:00"}
    one = Night(tmp_path, monkeypatch, "2026-01-10T21:59:00+01:00", later)
    one.night.switched()
    assert (one.when("lent"), one.when("back")) == ("22:00:05", "06:00:05")


def test_a_machine_that_slept_through_the_night_switches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = {"waiting for": "2026-01-11T05:58:30+01:00"}
    one = Night(tmp_path, monkeypatch, "2026-01-10T12:00:00+01:00", later)
    with pytest.raises(WorldError, match="90 s are left until dawn, and what is measured takes 180 s; nothing was"):
        one.night.switched()
    assert not any("lent" in line for line in one.said)
