"""Differences between A and B, and the band in which none matters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from harness.report import words
from harness.report.figures.common import WIDTH, real, short
from harness.report.figures.layout import Room
from harness.report.svg import BAND, COLORS, FAINT, style, to_svg
from harness.types import Finding

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TITLES = {"ratio": "B against A, relative", "pp": "B minus A, percentage points"}
_FURTHEST = 5.0
"""So many margins away an interval becomes an arrow: one that runs away must not flatten all the others."""


def two_sided(findings: Sequence[Finding]) -> str:
    """Effect and interval of each metric; one panel a unit. "" where there is nothing to draw."""
    shown = [one for one in findings if real(one.effect) and real(one.margin) and one.interval is not None]
    panels = [[one for one in shown if one.unit == unit] for unit in dict.fromkeys(one.unit for one in shown)]
    if not panels:
        return ""
    with style():
        heights = [0.75 + 0.4 * len(panel) for panel in panels]
        figure = Figure(figsize=(WIDTH * 1.5, sum(heights)), layout=Room())
        rows = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, panel in zip(rows, panels, strict=True):
            _panel(axes, panel)
        said = {axes: [_said(one) for one in panel] for axes, panel in zip(rows, panels, strict=True)}
        return to_svg(
            figure, "effects", "Difference between A and B of each metric, with its interval and margin", said
        )


def _panel(axes: Axes, panel: Sequence[Finding]) -> None:
    unit = panel[0].unit
    zero = 1.0 if unit == "ratio" else 0.0
    reach = max(_reach(one, zero) for one in panel)
    low, high = zero - reach, zero + reach
    if unit == "ratio":
        axes.set_xscale("log")
        low = 1 / (1 + reach)
    axes.set_xlim(low, high)
    axes.set_ylim(len(panel) - 0.4, -0.6)
    for row, one in enumerate(panel):
        assert one.margin is not None
        assert one.effect is not None
        assert one.interval is not None
        edges = (1 / one.margin, one.margin) if unit == "ratio" else (-one.margin, one.margin)
        axes.fill_betweenx([row - 0.42, row + 0.42], *edges, color=BAND, linewidth=0)
        for edge in edges:
            axes.plot([edge] * 2, [row - 0.42, row + 0.42], color=FAINT, linewidth=0.8)
        left, right = (end if real(end) else at for end, at in zip(one.interval, (low, high), strict=True))
        color = COLORS["pass" if one.outcome == "pass" else "open"]
        axes.plot([max(left, low), min(right, high)], [row, row], color=color, linewidth=2.0)
        for place, off, arrow in ((low, left < low, "<"), (high, right > high, ">")):
            if off:
                axes.plot([place], [row], arrow, color=color, markersize=5, clip_on=False)
        if low <= one.effect <= high:
            axes.plot([one.effect], [row], "o" if one.outcome == "pass" else "D", color=color, markersize=6)
    axes.axvline(zero, color=FAINT, linewidth=0.8)
    axes.set_yticks(range(len(panel)), [short(one.metric) for one in panel])
    axes.tick_params(axis="y", length=0)
    axes.minorticks_off()
    ticks = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(100 * (low - zero), 100 * (high - zero))
    axes.set_xticks([zero + tick / 100 for tick in np.asarray(ticks) if low <= zero + tick / 100 <= high])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: words.on_scale(value, unit)))
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(_TITLES.get(unit, unit))


def _said(one: Finding) -> str:
    return f"{words.effect(one)} ({words.interval(one)}), margin ±{words.margin(one).removeprefix('+')}"


def _reach(one: Finding, zero: float) -> float:
    """How far from no difference there is something to show."""
    assert one.margin is not None
    ends = [abs(end - zero) for end in (*(one.interval or ()), one.effect) if real(end)]
    margin = one.margin - zero
    return 1.15 * max(margin, min(max(ends, default=0.0), _FURTHEST * margin))
