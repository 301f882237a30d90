"""Dusk and dawn: the next time of day, in the zone that was named, also where clocks are changed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from harness.errors import ServerDied
from harness.run.operations.clock import Clock
from harness.scenario import next_time

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("now", "of_day", "expected"),
    [
        ("2026-01-10T21:59:30+01:00", "22:00", "2026-01-10T21:00:00+00:00"),
        ("2026-01-10T22:00:00+01:00", "22:00", "2026-01-11T21:00:00+00:00"),
        ("2026-01-10T23:30:00+01:00", "06:00", "2026-01-11T05:00:00+00:00"),
        ("2026-01-10T23:30:00+00:00", "00:45", "2026-01-10T23:45:00+00:00"),
        # On 29 March 2026 clocks in Berlin go from 2:00 to 3:00, on 25 October from 3:00 back to 2:00.
        ("2026-03-28T23:00:00+01:00", "06:00", "2026-03-29T04:00:00+00:00"),
        ("2026-03-28T23:00:00+01:00", "02:30", "2026-03-29T01:30:00+00:00"),
        ("2026-10-24T23:00:00+02:00", "02:30", "2026-10-25T00:30:00+00:00"),
        ("2026-10-24T23:00:00+02:00", "06:00", "2026-10-25T05:00:00+00:00"),
    ],
)
def test_the_next_time_of_day(now: str, of_day: str, expected: str) -> None:
    found = next_time(datetime.fromisoformat(now), of_day, BERLIN)
    assert found.astimezone(UTC) == datetime.fromisoformat(expected)


@pytest.fixture
def in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_without_a_zone_it_is_this_machines_also_across_a_change_of_its_clocks(in_new_york: None) -> None:
    now = datetime.fromisoformat("2026-03-07T23:00:00-05:00")  # clocks change at 2:00 that night
    assert next_time(now, "06:00") - now == timedelta(hours=6)


class FakeClock:
    """Time passes when somebody sleeps, and one night in one jump."""

    def __init__(self, start: str, jump_s: float = 0.0) -> None:
        self.time, self.jump_s, self.slept = datetime.fromisoformat(start), jump_s, 0

    def now(self) -> datetime:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept += 1
        self.time += timedelta(seconds=seconds + self.jump_s)


def test_it_waits_until_then_and_looks_after_the_server_meanwhile() -> None:
    fake, said, checked = FakeClock("2026-01-10T21:59:50+01:00"), [], []
    clock = Clock(fake.now, fake.sleep)
    clock.wait(clock.next("22:00", BERLIN), said.append, lambda: checked.append(1))
    assert fake.time == datetime.fromisoformat("2026-01-10T22:00:00+01:00")
    assert len(checked) == fake.slept == 10
    assert said == ["waiting for 2026-01-10 22:00 CET"]


def test_a_machine_that_slept_goes_on_at_once() -> None:
    fake = FakeClock("2026-01-10T12:00:00+01:00", jump_s=20 * 3600)
    clock, said = Clock(fake.now, fake.sleep), []
    dusk = clock.next("22:00", BERLIN)
    clock.wait(dusk, lambda _: None, lambda: None)
    assert fake.slept == 1
    clock.wait(dusk, said.append, lambda: None)
    assert fake.slept == 1
    assert said == ["2026-01-10 22:00 CET was 36001 s ago: no waiting"]


def test_a_server_that_dies_ends_the_wait() -> None:
    fake = FakeClock("2026-01-10T12:00:00+01:00")

    def dead() -> None:
        raise ServerDied("it ended")

    with pytest.raises(ServerDied):
        Clock(fake.now, fake.sleep).wait(datetime.fromisoformat("2026-01-10T22:00:00+01:00"), lambda _: None, dead)
