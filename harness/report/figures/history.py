"""One metric over the runs of a series: values, the level of each segment, changes, and where the machine changed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from harness.report import words
from harness.report.figures.common import WIDTH
from harness.report.svg import BAND, COLORS, INK, style, to_svg
from harness.types.timeline import Curve, Direction, Shift, Span, Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT = 1.75
"""Inches. Margins are fixed, not fitted: a history has many of these, and fitting takes most of the time."""
_LEFT, _RIGHT, _BOTTOM, _TOP = 0.66, 0.12, 0.26, 0.24
_TONE: dict[Direction, str] = {"worse": "fail", "better": "pass", "changed": "open"}
_LABEL_PIXELS = 5.0  # a character of a label
_MOST_LABELS = 40
Align = Literal["left", "center", "right"]


def history(curve: Curve, line: Timeline, key: str) -> str:
    """Inline SVG. `key` is unique on the page."""
    with style():
        figure = Figure(figsize=(WIDTH, HEIGHT))
        figure.subplots_adjust(_LEFT / WIDTH, _BOTTOM / HEIGHT, 1 - _RIGHT / WIDTH, 1 - _TOP / HEIGHT)
        axes = figure.subplots()
        axes.grid(visible=True, axis="y")
        axes.set_xlim(-0.5, max(line.runs - 0.5, 0.5))
        for number, span in enumerate(line.spans):
            if number:
                axes.axvline(span.begin - 0.5, color=INK, linewidth=0.9, linestyle=(0, (2, 2)))
            if number % 2:
                axes.axvspan(span.begin - 0.5, span.end - 0.5, color=BAND, linewidth=0, zorder=0)
        for shift in curve.shifts:
            color = COLORS[_TONE[shift.direction]]
            axes.axvspan(shift.low - 0.5, shift.high + 0.5, color=color, alpha=0.16, linewidth=0, zorder=0.4)
            axes.axvline(shift.at - 0.5, color=color, linewidth=1.2, zorder=0.6)
        runs, values = zip(*curve.points, strict=True) if curve.points else ((), ())
        few = len(runs) <= 120
        axes.plot(
            runs, values, "o" if few else "-", color=COLORS["baseline"], markersize=2.6, linewidth=0.8,
            markeredgewidth=0, label=curve.name,
        )  # fmt: skip
        if curve.hollow:
            axes.plot(
                *zip(*curve.hollow, strict=True), "o", markerfacecolor="none", markeredgecolor=COLORS["open"],
                markersize=3.4, markeredgewidth=0.8, linestyle="none", label="does not count",
            )  # fmt: skip
        for begin, end, level in curve.levels:
            axes.plot([begin - 0.5, end + 0.5], [level, level], color=INK, linewidth=1.5)
        _labels(axes, curve, line)
        axes.xaxis.set_major_locator(FixedLocator([run for run, _ in line.ticks]))
        days = dict(line.ticks)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: days.get(round(value), "")))
        for tick, align in zip(axes.get_xticklabels(), _alignments(len(line.ticks)), strict=True):
            tick.set_horizontalalignment(align)
        axes.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, curve)))
        axes.margins(y=0.12)
        return to_svg(figure, key, label(curve, line))


def shown(value: float, curve: Curve) -> str:
    """A value of the curve in its unit."""
    if not math.isfinite(value):
        return words.NONE
    if curve.of == "effect":
        return words.on_scale(value, curve.unit)
    unit = {"share": "ratio", "tokens": "1"}.get(curve.unit, curve.unit)
    return words.size(value, unit)


def moved(shift: Shift, curve: Curve) -> str:
    """By how much: `+10.2 %`, or in points, or in the metric's unit."""
    change = shift.change
    if change.scale == "ratio":
        return words.percent(change.effect - 1, sign=True)
    if change.scale == "share":
        return words.on_scale(change.effect, "pp")
    sign = "+" if change.effect > 0 else ""
    return sign + shown(change.effect, curve)


def label(curve: Curve, line: Timeline) -> str:
    """Read aloud in place of the drawing."""
    told = [f"{curve.name} over {curve.count} runs of {line.title}, now {shown(curve.latest, curve)}"]
    told += [f"{moved(shift, curve)} from {shift.began[:10]}, {shift.direction}" for shift in curve.shifts[-3:]]
    return "; ".join(told)


def _labels(axes: Axes, curve: Curve, line: Timeline) -> None:
    """Above the axes, the newest first; one for which there is no room is left out, its line is not."""
    wide = (WIDTH - _LEFT - _RIGHT) * 72
    scale = wide / max(line.runs, 1)
    taken: list[tuple[float, float]] = []
    wanted: list[tuple[float, str, str]] = [
        (shift.at, moved(shift, curve), COLORS[_TONE[shift.direction]]) for shift in reversed(curve.shifts)
    ]
    wanted += [(span.begin, _short(span), INK) for span in reversed(line.spans) if span.changed]
    for run, text, color in wanted[:_MOST_LABELS]:
        middle, half = (run + 0.5) * scale, len(text) * _LABEL_PIXELS / 2
        middle = min(max(middle, half), wide - half)
        if any(middle - half < right and middle + half > left for left, right in taken):
            continue
        taken.append((middle - half, middle + half))
        axes.annotate(
            text, (middle / wide, 1.02), xycoords="axes fraction", ha="center", va="bottom", fontsize=8, color=color
        )


def _short(span: Span) -> str:
    """The first thing that changed, in few words."""
    first, _, more = span.changed.partition("; ")
    text = first if len(first) <= 34 else f"{first[:31]}..."
    return f"{text} …" if more else text


def _alignments(count: int) -> list[Align]:
    middle: list[Align] = ["center"] * max(count - 2, 0)
    return ["left", *middle, "right"] if count > 1 else ["center"]
