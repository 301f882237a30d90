"""What the ladder of a version foretells, for every device that it uses: in shares of the capacity. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.judge.statistics.memory_fit import Fit, Point, fit

Facts = Mapping[str, Any]
SHORT = ("out of memory", "preempted", "queued")
"""Outcomes of a point for which there was too little memory; an engine with a cache of its own preempts, or queues."""
TOO_LONG = "too long"
"""Of a point that was refused before it was tried, because the model takes no context of that length."""
REACHED, SLACK = 0.98, 8
"""Of a point's context, and tokens: an answer that had fewer (a prompt that was cut, an end that came early) proves no
more than it had.
"""


@dataclass(frozen=True)
class LongFits:
    """`by_device`: the fit of each, with its capacity. A share is that of the fullest: they are never averaged."""

    by_device: Mapping[str, tuple[Fit, float]]
    points: int

    @property
    def known(self) -> bool:
        """Whether every device has a fit."""
        return bool(self.by_device)

    def peak(self, context: float, batch: int) -> float:
        return max(one.peak(context, batch) / capacity for one, capacity in self.by_device.values())

    def upper(self, context: float, batch: int) -> float:
        """The upper 99 % prediction bound."""
        return max(one.upper(context, batch) / capacity for one, capacity in self.by_device.values())

    def edge(self, batch: int, share: float = 1.0) -> float:
        """The context at which the expected peak reaches that share."""
        return min(one.edge(batch, share * capacity) for one, capacity in self.by_device.values())

    def safe(self, batch: int, share: float) -> float:
        """The context up to which the upper bound stays within that share."""
        return min(one.safe(batch, share * capacity) for one, capacity in self.by_device.values())

    def largest(self, context: float, share: float, most: int) -> int:
        """The largest batch up to `most` whose upper bound is within that share; 0 where none is."""
        return max((batch for batch in range(1, most + 1) if self.upper(context, batch) <= share), default=0)


def proven(point: Facts) -> int:
    """Up to which context a point shows that it runs: what it was meant for, or what was really there; 0 of none."""
    if point["outcome"] != "ok":
        return 0
    context, tokens = int(point["context"]), int(point["tokens"])
    return context if tokens >= REACHED * context - SLACK else tokens


def long_fits(observations: Facts, name: str) -> LongFits:
    """Of the ladder's points that were answered; a device that was not read in one of them has no fit, so none has."""
    arm = observations["arms"][name]
    capacity: Mapping[str, float] = (arm.get("watched") or {}).get("capacity") or {}
    answered = [point for point in arm["points"] if point["phase"] == "ladder" and point["outcome"] == "ok"]
    found: dict[str, tuple[Fit, float]] = {}
    for device, size in capacity.items():
        points = [
            Point(float(one["tokens"]), int(one["batch"]), float(one["peak"][device]))
            for one in answered
            if device in one["peak"]
        ]
        best = fit(points, size) if len(points) == len(answered) else None
        if best is None:
            return LongFits({}, len(answered))
        found[device] = (best, size)
    return LongFits(found, len(answered))


def limit_share(observations: Facts, name: str) -> float:
    """The limit in shares of the capacity; of a limit in bytes, of the smallest device."""
    limit = observations["limits"]["memory"]
    capacity = (observations["arms"][name].get("watched") or {}).get("capacity") or {}
    if limit["limit_kind"] == "share" or not capacity:
        return float(limit["limit"])
    return min(float(limit["limit"]) / float(size) for size in capacity.values())


def share_of(arm: Facts, point: Facts) -> float | None:
    """The peak of a measured point, of the fullest device; None where one of them was not read."""
    capacity: Mapping[str, float] = (arm.get("watched") or {}).get("capacity") or {}
    if not capacity or any(device not in point["peak"] for device in capacity):
        return None
    return max(float(point["peak"][device]) / size for device, size in capacity.items())
