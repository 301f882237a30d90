"""Latency: the distribution of each arm, and its quantiles over the run."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from harness.report import words
from harness.report.facts import Bools, Floats, Requests
from harness.report.figures.common import (
    CURVE,
    LINES,
    MARKS,
    TIME_LABEL,
    TimeAxis,
    finite,
    legend_below,
    new_figure,
    time_scale,
)  # fmt: skip
from harness.report.svg import COLORS, FAINT, style, to_svg

_POINTS = 300  # single requests drawn per arm
# Fewer requests than this in a bin say nothing of its quantile.
_ENOUGH = {0.5: 3, 0.9: 8}


def distributions(data: Requests, metric: str, chosen: Bools) -> str:
    """Cumulative share of requests over the metric, an arm a curve."""
    values = {arm: finite(data.times[metric][data.of(arm) & chosen]) for arm in data.arms}
    values = {arm: found for arm, found in values.items() if len(found)}
    if not values:
        return ""
    with style():
        figure, axes = new_figure(2.5)
        for arm, found in values.items():
            shares = np.unique(np.concatenate([np.linspace(0, 1, CURVE), 1 - np.geomspace(1e-3, 0.1, 20)]))
            quantiles = np.quantile(found, shares)
            axes.plot(quantiles, 100 * shares, LINES[arm], color=COLORS[arm], linewidth=1.8, label=arm)
        for share in (50, 90):
            axes.axhline(share, color=FAINT, linewidth=0.6, linestyle=":")
        together = np.concatenate(list(values.values()))
        time_scale(axes, together, "x")
        axes.set_ylim(0, 101)
        axes.set_yticks([0, 25, 50, 75, 90, 100])
        axes.set_ylabel("requests at most this, %")
        axes.legend(loc="lower right", handlelength=2.6)
        label = f"{words.TITLES[metric]}: distribution of {', '.join(values)}"
        return to_svg(figure, f"dist-{metric}", label)


def over_time(data: Requests, metric: str, time: TimeAxis) -> str:
    """Median and 90th percentile of short bins over the run, with single requests as faint points."""
    values = data.times[metric]
    seen = {arm: data.of(arm) & np.isfinite(values) & np.isfinite(data.at) for arm in data.arms}
    seen = {arm: mine for arm, mine in seen.items() if mine.any()}
    if not seen:
        return ""
    edges = time.bins(data.at[max(seen.values(), key=np.count_nonzero)])
    with style():
        figure, axes = new_figure(2.8)
        time.draw(axes)
        for arm, mine in seen.items():
            at, value = data.at[mine], values[mine]
            thin = slice(None, None, max(1, -(-len(at) // _POINTS)))
            axes.plot(
                at[thin],
                value[thin],
                MARKS[arm],
                color=COLORS[arm],
                markersize=2.2,
                alpha=0.3,
                markeredgewidth=0,
            )
            for share, width in ((0.5, 2.0), (0.9, 1.0)):
                middle, level = _quantile_line(edges, at, value, share)
                axes.plot(
                    middle, level, LINES[arm], color=COLORS[arm], linewidth=width,
                    marker=MARKS[arm] if share == 0.5 else None, markersize=3.2,
                    label=f"{arm} p{share * 100:.0f}",
                )  # fmt: skip
        time_scale(axes, np.concatenate([values[mine] for mine in seen.values()]), "y")
        axes.set_xlabel(TIME_LABEL)
        legend_below(figure, axes, 2 * len(seen))
        return to_svg(figure, f"time-{metric}", f"{words.TITLES[metric]} over time, p50 and p90 of each arm")


def _quantile_line(edges: Sequence[Floats], at: Floats, value: Floats, share: float) -> tuple[Floats, Floats]:
    """The quantile of each bin at its middle; a sole bin spans its stage; thin bins are gaps."""
    x: list[float] = []
    y: list[float] = []
    for stage in edges:
        place = np.searchsorted(stage, at, side="right") - 1
        place[at == stage[-1]] = len(stage) - 2
        order = np.argsort(place, kind="stable")
        cuts = np.searchsorted(place[order], np.arange(len(stage)))
        for number, (begin, end) in enumerate(pairwise(cuts)):
            level = np.quantile(value[order[begin:end]], share) if end - begin >= _ENOUGH[share] else np.nan
            middle = (stage[number] + stage[number + 1]) / 2
            some = [middle] if len(stage) > 2 else [stage[0], middle, stage[1]]
            x.extend(some)
            y.extend([level] * len(some))
        x.append(stage[-1])
        y.append(np.nan)
    return np.asarray(x), np.asarray(y)
