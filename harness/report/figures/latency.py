"""Latency: the distribution of each arm, and its quantiles over the run."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from harness.report import words
from harness.report.figures.common import (
    CURVE,
    LINES,
    MARKS,
    TIME_LABEL,
    TimeAxis,
    legend_below,
    new_figure,
    time_scale,
)
from harness.report.requests import Floats, Requests, Spread
from harness.report.svg import COLORS, FAINT, style, to_svg

# Fewer requests than this in a bin say nothing of its quantile.
_ENOUGH = {0.5: 3, 0.9: 8}
_WANTED = 10
"""Bins are as long as it takes to have about so many requests of an arm."""


def distributions(data: Requests, metric: str, stages: Collection[int] | None) -> str:
    """Cumulative share of requests over the metric, an arm a curve. `stages`: those that count, None: all."""
    times = {arm: data.times(metric, arm, stages) for arm in data.arms}
    times = {arm: found for arm, found in times.items() if len(found)}
    if not times:
        return ""
    with style():
        figure, axes = new_figure(2.5)
        for arm, found in times.items():
            shares = np.unique(np.concatenate([np.linspace(0, 1, CURVE), 1 - np.geomspace(1e-3, 0.1, 20)]))
            axes.plot(
                found.quantile(shares), 100 * shares, LINES[arm], color=COLORS[arm], linewidth=1.8, label=arm
            )  # fmt: skip
        for share in (50, 90):
            axes.axhline(share, color=FAINT, linewidth=0.6, linestyle=":")
        time_scale(axes, Spread.of(times.values()), "x")
        axes.set_ylim(0, 101)
        axes.set_yticks([0, 25, 50, 75, 90, 100])
        axes.set_ylabel("requests at most this, %")
        axes.legend(loc="lower right", handlelength=2.6)
        label = f"{words.TITLES[metric]}: distribution of {', '.join(times)}"
        return to_svg(figure, f"dist-{metric}", label)


def over_time(data: Requests, metric: str, time: TimeAxis) -> str:
    """Median and 90th percentile of short bins over the run, with single requests as faint points."""
    binned = {arm: data.over_time(metric, arm) for arm in data.arms}
    binned = {arm: bins for arm, bins in binned.items() if any(len(one.values) for one in bins)}
    if not binned:
        return ""
    stages = list(_stages(data.edges, binned))
    with style():
        figure, axes = new_figure(2.8)
        time.draw(axes)
        for arm in binned:
            points = data.points(metric, arm)
            axes.plot(
                points.at,
                points.value,
                MARKS[arm],
                color=COLORS[arm],
                markersize=2.2,
                alpha=0.3,
                markeredgewidth=0,
            )
            for share, width in ((0.5, 2.0), (0.9, 1.0)):
                middle, level = _quantile_line(stages, arm, share)
                axes.plot(
                    middle, level, LINES[arm], color=COLORS[arm], linewidth=width,
                    marker=MARKS[arm] if share == 0.5 else None, markersize=3.2,
                    label=f"{arm} p{share * 100:.0f}",
                )  # fmt: skip
        time_scale(axes, Spread.of(data.times(metric, arm) for arm in binned), "y")
        axes.set_xlabel(TIME_LABEL)
        legend_below(figure, axes, 2 * len(binned))
        return to_svg(figure, f"time-{metric}", f"{words.TITLES[metric]} over time, p50 and p90 of each arm")


class _Stage(NamedTuple):
    """Edges of its bins, and by arm the times in each."""

    edges: Floats
    times: Mapping[str, Sequence[Spread]]


def _stages(edges: Sequence[Floats], binned: Mapping[str, Sequence[Spread]]) -> Iterator[_Stage]:
    """Each stage; neighbouring bins are put together where they hold few requests."""
    at = 0
    for of in edges:
        bins = len(of) - 1
        mine = {arm: each[at : at + bins] for arm, each in binned.items()}
        at += bins
        most = max(sum(map(len, each)) for each in mine.values())
        parts = min(bins, max(1, most // _WANTED))
        cuts = np.rint(np.linspace(0, bins, parts + 1)).astype(int).tolist()
        yield _Stage(
            of[cuts],
            {arm: [Spread.of(each[low:high]) for low, high in pairwise(cuts)] for arm, each in mine.items()},
        )


def _quantile_line(stages: Sequence[_Stage], arm: str, share: float) -> tuple[Floats, Floats]:
    """The quantile of each bin at its middle; a sole bin spans its stage; thin bins are gaps."""
    x: list[float] = []
    y: list[float] = []
    for edges, times in stages:
        for (begin, end), found in zip(pairwise(edges.tolist()), times[arm], strict=True):
            level = float(found.quantile(share)) if len(found) >= _ENOUGH[share] else np.nan
            middle = (begin + end) / 2
            some = [middle] if len(edges) > 2 else [begin, middle, end]
            x.extend(some)
            y.extend([level] * len(some))
        x.append(float(edges[-1]))
        y.append(np.nan)
    return np.asarray(x), np.asarray(y)
