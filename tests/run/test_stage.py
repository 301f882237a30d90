"""How often the judge looks at a stage, on a clock that the test rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.run import stage as staging
from harness.run.folder import RunFolder
from harness.run.stage import HURRY_S, LOOK_S, LOOK_SHARE, Walk
from harness.types import ArmStatus, Finding, StagePlan, StageVerdict

PLAN = StagePlan(0, "paired", "poisson", 300.0, 0.5, rate=50.0)


class Clock:
    """Time passes while the generator is awaited, and while the judge thinks."""

    def __init__(self) -> None:
        self.s = 0.0

    def monotonic_ns(self) -> int:
        return round(self.s * 1e9)


class Load:
    """A generator and what is recorded of it: requests all the time, and the end when the plan has it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.roster = SimpleNamespace(lost=[], records=[])
        self.ended_s: float | None = None
        self.failures: Callable[[float], int] = lambda _: 0

    def stage(self, plan: StagePlan) -> None:
        self._over_s = self._clock.s + plan.duration_s

    def events(self, wait_s: float) -> list[dict[str, Any]]:
        self._clock.s += wait_s
        return [{"event": "stage_done", "index": 0}] if self._clock.s >= self._over_s else []

    def end_stage(self) -> None:
        """What is in flight takes a second more."""
        self.ended_s = self._clock.s
        self._over_s = self._clock.s + 1.0

    def poll(self) -> None: ...

    def evidence(self) -> None: ...

    def arm_status(self, *_: Any) -> ArmStatus:
        return ArmStatus()

    def failed(self, *_: Any) -> int:
        return self.failures(self._clock.s)

    @property
    def seen_ns(self) -> int:
        return self._clock.monotonic_ns()


@pytest.mark.parametrize("cost_s", [0.0, 0.1, 2.0])
def test_looks_take_a_tenth_of_the_time_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cost_s: float) -> None:
    clock = Clock()
    looks: list[float] = []

    def judge_stage(_: Any, index: int, now_ns: int | None = None) -> StageVerdict:
        if now_ns is not None:
            looks.append(now_ns / 1e9)
            clock.s += cost_s
        return StageVerdict(index, "inconclusive" if now_ns is not None else "promote", "all is well", ())

    monkeypatch.setattr(staging, "time", clock)
    monkeypatch.setattr(staging, "judge_stage", judge_stage)
    folder = RunFolder.create(tmp_path, "stage", {"scenario": {"name": "stage"}})
    load: Any = Load(clock)
    plan: Any = SimpleNamespace(stages=(PLAN,))
    walk = Walk(folder, plan, load, load, 0, lambda _: None, 30.0, lambda: None)
    assert walk.stage(PLAN).verdict == "promote"
    assert load.ended_s is None
    gap_s = max(LOOK_S, cost_s / LOOK_SHARE) + cost_s
    assert len(looks) == pytest.approx(PLAN.duration_s / gap_s, rel=0.15)
    assert cost_s * len(looks) <= LOOK_SHARE * PLAN.duration_s


@pytest.mark.parametrize(("cost_s", "looks_more"), [(0.0, True), (0.02, True), (2.0, False)])
def test_a_candidate_that_fails_is_looked_at_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cost_s: float, looks_more: bool
) -> None:
    """But no more of the time is spent on looks than ever."""
    clock = Clock()
    looks: list[float] = []

    def judge_stage(_: Any, index: int, now_ns: int | None = None) -> StageVerdict:
        if now_ns is not None:
            looks.append(now_ns / 1e9)
            clock.s += cost_s
        return StageVerdict(index, "inconclusive" if now_ns is not None else "promote", "all is well", ())

    monkeypatch.setattr(staging, "time", clock)
    monkeypatch.setattr(staging, "judge_stage", judge_stage)
    load: Any = Load(clock)
    load.failures = lambda s: max(0, round(4 * (s - 101))) if s < 121 else 80  # four a second, for 20 s
    folder = RunFolder.create(tmp_path, "stage", {"scenario": {"name": "stage"}})
    plan: Any = SimpleNamespace(stages=(PLAN,))
    Walk(folder, plan, load, load, 0, lambda _: None, 30.0, lambda: None).stage(PLAN)
    during = [at for at in looks if 101 <= at <= 121]
    assert cost_s * len(looks) <= LOOK_SHARE * PLAN.duration_s
    if looks_more:
        assert len(during) >= 20 / HURRY_S / 2
        assert during[0] < 101 + 4 * HURRY_S
        assert len([at for at in looks if 140 <= at <= 160]) <= 20 / LOOK_S + 1, "and no more once it is over"


def test_a_look_that_promotes_ends_the_stage_and_awaits_what_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    looks: list[float] = []

    def judge_stage(_: Any, index: int, now_ns: int | None = None) -> StageVerdict:
        if now_ns is not None:
            looks.append(now_ns / 1e9)
        sure = now_ns is None or now_ns >= 60e9
        return StageVerdict(index, "promote" if sure else "inconclusive", "all is well", ())

    monkeypatch.setattr(staging, "time", clock)
    monkeypatch.setattr(staging, "judge_stage", judge_stage)
    folder = RunFolder.create(tmp_path, "stage", {"scenario": {"name": "stage"}})
    load: Any = Load(clock)
    plan: Any = SimpleNamespace(stages=(PLAN,))
    walk = Walk(folder, plan, load, load, 0, lambda _: None, 30.0, lambda: None)
    assert walk.stage(PLAN).verdict == "promote"
    record = walk.stages[0]
    assert load.ended_s == pytest.approx(looks[-1], abs=1)
    assert record.decided_ns == pytest.approx(looks[-1] * 1e9)
    assert record.end_ns is not None
    assert record.end_ns / 1e9 == pytest.approx(looks[-1] + 1, abs=1), "nothing was cut off"
    assert looks[-1] < 70, "and nobody looked again"


@pytest.mark.parametrize(("failed", "ends"), [(True, True), (False, False)])
def test_requests_that_fail_and_name_nobody_end_a_routed_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failed: bool, ends: bool
) -> None:
    """A candidate that hangs says nothing, not even who it is."""
    clock = Clock()
    said = f"9 requests through the ingress name nobody who had them{', 9 of them failed' if failed else ''}"

    def judge_stage(_: Any, index: int, now_ns: int | None = None) -> StageVerdict:
        return StageVerdict(index, "inconclusive", "", (Finding("validity.attribution", "inconclusive", said),))

    monkeypatch.setattr(staging, "time", clock)
    monkeypatch.setattr(staging, "judge_stage", judge_stage)
    load: Any = Load(clock)
    routed = replace(PLAN, mode="split", routed=True)
    folder = RunFolder.create(tmp_path, "stage", {"scenario": {"name": "stage"}})
    Walk(folder, SimpleNamespace(stages=(routed,)), load, load, 0, lambda _: None, 30.0, lambda: None).stage(routed)  # type: ignore[arg-type]
    assert (clock.s < PLAN.duration_s / 2) == ends
