"""One simulated history, or one check: what happened, by column. None: not asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import ruptures

from harness.history.changes import change_points, scale_of
from harness.history.checking import check
from harness.history.scales import floor_of, stretched
from harness.history.walking import LEAST, walk
from harness.types.history import Change
from tests.campaigns.study_history.worlds import NOISE, Floats, World, heavy, normal, outliers

Happened = dict[str, Any]
METRICS, SMALLEST = 10, 0.05
CHECKED = {"normal": normal, "heavy tails": heavy, "5 % outliers": outliers}


def followed(world: World, seed: int) -> Happened:
    """A history analysed after every run. A change counts as found once an analysis of the runs until then tells it."""
    values, at = world.draw(seed)
    scale = scale_of("s", values)
    alarms = walk(stretched(values, scale), floor_of(values, scale))
    early = [alarm for alarm in alarms if alarm.found < at]
    end = change_points(values)
    happened: Happened = {"false": bool(early), "false at the end": bool(end) if not world.step else None}
    happened["told"] = len(end)
    if not world.step:
        return happened
    night, change = _first(values, at, world.within, [alarm.found for alarm in alarms])
    hit = change is not None
    happened |= {"hit": hit, "runs": night - at + 1 if hit else None, "exact": None, "near": None, "covered": None}
    happened |= {"exact at the end": None, "near at the end": None, "covered at the end": None, "back": None}
    if change is None:
        return happened
    happened |= {"exact": change.at == at, "near": abs(change.at - at) <= 1, "covered": change.low <= at <= change.high}
    if end:
        last = min(end, key=lambda one: abs(one.at - at))
        happened |= {"exact at the end": last.at == at, "near at the end": abs(last.at - at) <= 1}
        happened["covered at the end"] = last.low <= at <= last.high
    if world.back:
        over = at + world.back
        happened["back"] = any(over <= one.found < over + EDGE_BACK and abs(one.at - over) <= 2 for one in end)
    return happened


EDGE_BACK = 15
"""Runs within which the way back is to be found."""


def _first(values: Floats, at: int, within: int, told: list[int]) -> tuple[int, Change | None]:
    """The first night from `at` on whose analysis tells a change that it has found since."""
    for night in range(at, min(at + within, len(values))):
        if any(at <= found <= night for found in told):
            new = [one for one in change_points(values[: night + 1]) if one.found >= at]
            if new:
                return night, new[-1]
    return -1, None


def peer(world: World, seed: int) -> Happened:
    """ruptures.Pelt as it is often set: l2, penalty 3 ln n, scaled by median|dx| / 0.954; after every run."""
    values, at = world.draw(seed)
    logs = np.log(values)
    happened: Happened = {"false": None, "hit": None, "exact": None, "near": None}
    if not world.step:
        nights = [bool(_pelt(logs[:night])) for night in range(LEAST, len(logs) + 1)]
        return happened | {"false": any(nights), "false at the end": nights[-1]}
    for night in range(at + 1, at + world.within + 1):
        if found := [place for place in _pelt(logs[:night]) if place > at - LEAST]:
            return happened | {"hit": True, "exact": found[-1] == at, "near": abs(found[-1] - at) <= 1}
    return happened | {"hit": False}


def _pelt(logs: Floats) -> list[int]:
    scale = float(np.median(np.abs(np.diff(logs)))) / 0.954
    fitted = ruptures.Pelt("l2", min_size=2, jump=1).fit(logs / scale)
    return [int(place) for place in fitted.predict(pen=3 * np.log(len(logs)))[:-1]]


def checked(noise: str, repeats: int, seed: int) -> Happened:
    """A run of ten metrics against 30 runs before; then the same with one metric 10 % higher."""
    rng = np.random.default_rng([seed, repeats, *noise.encode()])
    drawn = [100 * np.exp(NOISE * CHECKED[noise](rng, 30 + repeats)) for _ in range(METRICS)]
    found = [_check(values[:30], values[30:]) for values in drawn]
    return {
        "red": "fail" in found,
        "unclear": found[0] == "inconclusive",
        "red at +10 %": _check(drawn[0][:30], 1.1 * drawn[0][30:]) == "fail",
        "red alone at +10 %": _check(drawn[0][:30], 1.1 * drawn[0][30:], metrics=1) == "fail",
    }


def _check(history: Floats, now: Floats, metrics: int = METRICS) -> str:
    return check("p50", "s", history, now, worse="higher", smallest=SMALLEST, metrics=metrics).outcome
