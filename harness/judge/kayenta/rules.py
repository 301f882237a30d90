"""The rules of Kayenta's judge NetflixACAJudge-v1.0 on points, with its own defaults; written anew after its source.

A metric is High where the lower end of the 98 % Mann-Whitney interval lies above a quarter of the estimated shift and
the ratio of means is at least `allowed_increase`; Low mirrors it. Shift and estimate have one unit, so this is
z > 4/3 * 2.33 = 3.10, and no margin in any sense: the smallest difference will do, if it is seen often enough.
Outliers are kept, as by default there.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.judge.columns import Floats
from harness.judge.kayenta.mann_whitney import Shift, shift
from harness.judge.statistics.distributions import normal_isf
from harness.types import CanaryClass, CanaryLabel

NAME = "NetflixACAJudge-v1.0"
LEVEL = 0.98
TOLERANCE = 0.25
ENOUGH_Z = normal_isf((1 - LEVEL) / 2) / (1 - TOLERANCE)
PASS, MARGINAL = 95.0, 75.0
"""Of the score: the values that Spinnaker's own guide starts with."""
TOO_MUCH_NODATA = 0.5
NOISE = 1e-5

Direction = Literal["increase", "decrease", "either"]
Missing = Literal["remove", "replace"]


@dataclass(frozen=True, slots=True)
class Config:
    """How a metric is classified. `critical`: a High or Low (or no data) gives the whole canary a score of 0.

    `required`: no data counts against the group (`mustHaveData`). `missing`: what is done with NaN. The ratio of means
    has to reach `allowed_increase`, or `critical_increase`, for High or for a critical High.
    """

    direction: Direction = "either"
    critical: bool = False
    required: bool = False
    missing: Missing = "remove"
    allowed_increase: float = 1.0
    allowed_decrease: float = 1.0
    critical_increase: float = 1.0
    critical_decrease: float = 1.0


@dataclass(frozen=True, slots=True)
class Classified:
    """`ratio`: of the means, candidate to baseline, NaN where one of them is 0. `shift` is None where no test was made.

    `critical`: this answer alone decides, unless it is Pass.
    """

    label: CanaryLabel
    ratio: float = math.nan
    shift: Shift | None = None
    critical: bool = False
    reason: str = ""


def classify(baseline: Floats, candidate: Floats, config: Config, noise: np.random.Generator) -> Classified:
    """The label of one metric. An error of the test is a label, too, as it is there."""
    one, two = (_cleaned(points, config.missing) for points in (baseline, candidate))
    if not len(one) or not len(two):
        return _nothing(config)
    if len(one) == len(two) and np.array_equal(np.sort(one), np.sort(two)):
        return Classified("Pass", 1.0, reason="both arms' points are identical")
    if one.min() == one.max() and two.min() == two.max():
        if one[0] == two[0]:
            return Classified("Pass", 1.0, reason="every point of both arms is the same")
        one, two = (points + noise.standard_normal(len(points)) * NOISE * points[0] for points in (one, two))
    try:
        found = shift(two, one, LEVEL)
    except ValueError as error:
        return Classified("Error", reason=str(error))
    ratio = _ratio(one, two)
    bound = TOLERANCE * abs(found.estimate)
    if config.direction != "decrease" and found.low > bound and not ratio < config.allowed_increase:
        return Classified("High", ratio, found, config.critical and not ratio < config.critical_increase)
    if config.direction != "increase" and found.high < -bound and not ratio > config.allowed_decrease:
        return Classified("Low", ratio, found, config.critical and not ratio > config.critical_decrease)
    return Classified("Pass", ratio, found)


def _cleaned(points: Floats, missing: Missing) -> Floats:
    known = np.isfinite(points)
    return points[known] if missing == "remove" else np.where(known, points, 0.0)


def _nothing(config: Config) -> Classified:
    if config.missing == "replace":
        return Classified("Pass", 1.0, reason="no data, which passes where what is missing is replaced")
    if config.required and not config.critical:
        return Classified("NodataFailMetric", 1.0, reason="no data, and data is required")
    return Classified("Nodata", 1.0, critical=config.critical, reason="no data")


def _ratio(one: Floats, two: Floats) -> float:
    below, above = float(one.mean()), float(two.mean())
    return math.nan if below == 0 or above == 0 else above / below


@dataclass(frozen=True, slots=True)
class Score:
    """`score` of 100 and what it comes to. A group in which nothing counted is None. `reason`: why it is 0 at once."""

    score: float
    classification: CanaryClass
    groups: dict[str, float | None]
    reason: str = ""


def score(metrics: Sequence[tuple[str, str, Classified]], weights: dict[str, float] | None = None) -> Score:
    """Of (metric, group, answer). Groups without a weight share what is left of 100; Error counts nowhere."""
    labels: dict[str, list[CanaryLabel]] = defaultdict(list)
    for _, group, found in metrics:
        labels[group].append(found.label)
    groups = {group: _group(found) for group, found in labels.items()}
    decisive = [f"{name} is {f.label} and critical" for name, _, f in metrics if f.critical and f.label != "Pass"]
    nodata = sum(found.label == "Nodata" for _, _, found in metrics)
    if decisive:
        return Score(0.0, "fail", groups, decisive[0])
    if not metrics:
        return Score(0.0, "fail", groups, "there is no metric")
    if nodata >= TOO_MUCH_NODATA * len(metrics):
        return Score(0.0, "fail", groups, f"{nodata} of {len(metrics)} metrics have no data, which is half or more")
    given = weights or {}
    without = [group for group in groups if group not in given]
    share = (100 - sum(given.values())) / len(without) if without else 0.0
    total = sum((100.0 if s is None else s) * given.get(group, share) / 100 for group, s in groups.items())
    total = round(total, 2)
    return Score(total, "pass" if total >= PASS else "marginal" if total >= MARGINAL else "fail", groups)


def _group(labels: Sequence[CanaryLabel]) -> float | None:
    counted = [label for label in labels if label not in ("Nodata", "Error")]
    return 100.0 * counted.count("Pass") / len(counted) if counted else None
