"""Whether an A/B test has units enough, before anything is sent."""

from __future__ import annotations

import math
from collections import Counter

from harness.types import ArmName, Experiment
from harness.units import format_points

MISSES = 0.05
"""How often any interval may miss (judge.operations.ab.effects.TOGETHER)."""


def too_few(experiment: Experiment, analyse: str, sent: float, margin: float, intervals: int) -> str:
    """For people: that more failures than the margin of errors cannot be ruled out; "" if they can.

    Where no request fails, n units show that the share of units that fail always is below m where (1 - m)^n is as small
    as the chance that one of so many intervals may miss. `sent`: requests, infinite where it is not known.
    """
    needed = math.ceil(math.log(MISSES / 2 / intervals) / math.log1p(-margin))
    worth = _worth(experiment, analyse, sent)
    if worth >= needed:
        return ""
    return (
        f"; errors within {format_points(margin)} take about {needed} units of each arm without any failure, and these "
        f"are worth about {round(worth)}: not enough"
    )


def _worth(experiment: Experiment, analyse: str, sent: float) -> float:
    """Of the smaller arm, by Kish's effective number: so many units that are alike would tell as much."""
    active = list(experiment.activity) or [1.0] * len(experiment.units)
    if experiment.of_prompts:
        counts = Counter(experiment.of_prompts)
        active = [float(counts[number]) for number in range(len(experiment.units))]
    mine: dict[ArmName, list[float]] = {"baseline": [], "candidate": []}
    for arm, how, weight in zip(experiment.arms, experiment.assignments, active, strict=True):
        if how == "hash" or analyse == "all":
            mine[arm].append(weight)
    each = sent / sum(active)
    # Requests come by chance: to the sum of their squares that adds as many as there are.
    worth = [(sum(arm) ** 2 / (sum(one**2 for one in arm) + sum(arm) / each) if arm else 0.0) for arm in mine.values()]
    return min(worth)
