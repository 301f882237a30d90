"""The load over time, as a figure needs it: requests a second of each arm, in the bins of the page."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.report.requests import ANSWERED, SCORED, Requests
from harness.report.requests.spread import Floats

_LEAST_BINS = 2  # fewer tell nothing of time


@dataclass(frozen=True, eq=False)
class Load:
    """Requests a second of one arm, those that score among them: `sent`, and of these `answered`, at the moments `at`;
    NaN between stages.
    """

    arm: str
    at: Floats
    sent: Floats
    answered: Floats


def loads(data: Requests) -> tuple[Load, ...]:
    """Of every arm that was asked anything; () where there are no bins to count in."""
    widths = np.concatenate([np.diff(edges) for edges in data.edges] or [np.empty(0)])
    if len(widths) < _LEAST_BINS:
        return ()
    at = _parted([(edges[:-1] + edges[1:]) / 2 for edges in data.edges], [edges[-1] for edges in data.edges])
    cuts = np.cumsum([len(edges) - 1 for edges in data.edges])[:-1]
    gap = [float("nan")] * len(data.edges)
    found = []
    for arm in data.arms:
        sent, answered = data.counts(arm) / widths, data.counts(arm, ANSWERED, SCORED) / widths
        found.append(Load(arm, at, _parted(np.split(sent, cuts), gap), _parted(np.split(answered, cuts), gap)))
    return tuple(found)


def _parted(stages: list[Floats], ends: list[float]) -> Floats:
    """The stages end to end, each with its end behind it: there the line breaks."""
    return np.concatenate([np.append(stage, end) for stage, end in zip(stages, ends, strict=True)])
