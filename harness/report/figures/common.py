"""What the figures share: their size, the time axis with its stages, scales that read well."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from harness.report import words
from harness.report.figures.layout import Room
from harness.report.plotted import BEGIN, STAGE, TIME
from harness.report.requests import Floats, Spread
from harness.report.svg import BAND, FAINT
from harness.types import StagePlan

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 4.7  # inches; 72 SVG pixels an inch
CURVE = 160  # points of a distribution curve
LINES = {"baseline": "-", "candidate": "--", "stable": ":"}
MARKS = {"baseline": "o", "candidate": "s", "stable": "^"}
TIME_LABEL = "seconds from the start of the run"
_BINS = 36  # over all stages


@dataclass(frozen=True)
class TimeAxis:
    """The axis that all figures over time share: seconds from the run's start, and the stages."""

    begin: float
    end: float
    spans: Sequence[tuple[StagePlan, float, float]]  # as facts.spans gives them

    def draw(self, axes: Axes, *, names: bool = True) -> None:
        width = max(self.end - self.begin, 1e-9)
        axes.set_xlim(self.begin, self.end)
        axes.set_gid(TIME)
        for number, (plan, begin, end) in enumerate(self.spans):
            if number % 2 == 0:
                axes.axvspan(begin, end, color=BAND, linewidth=0, zorder=0)
            axes.axvline(begin, color=FAINT, linewidth=0.6, zorder=0.5, gid=BEGIN)
            if not names or end - begin < 0.03 * width:
                continue
            text = words.stage_mark(plan)
            room = (end - begin) / width * WIDTH * 72 * 0.84
            if len(text) * 5.2 > room:
                text = str(plan.index + 1)
            axes.text(
                (begin + end) / 2, 1.0, text, transform=axes.get_xaxis_transform(), ha="center", va="bottom",
                fontsize=8, clip_on=False, gid=STAGE,
            )  # fmt: skip

    def bins(self) -> list[Floats]:
        """Edges of short bins, ascending: a list for each stage, and for each time before, between and behind them, in
        which there may be requests, too; no bin lies across two of these.
        """
        spans = [(begin, end, 4) for _, begin, end in self.spans if end > begin]
        whole = max(self.end - self.begin, 1e-9)
        edges: list[Floats] = []
        at = self.begin
        for begin, end, least in [*spans, (self.end, self.end, 0)]:
            begin = max(begin, at)
            for low, high, parts in ((at, begin, 1), (begin, end, least)):
                if high - low > (0.0 if parts > 1 else 0.01 * whole):
                    edges.append(np.linspace(low, high, max(parts, round(_BINS * (high - low) / whole)) + 1))
            at = max(at, end)
        return edges


def new_figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout=Room())
    axes: Axes = figure.subplots()
    axes.grid(visible=True, axis="y")
    return figure, axes


def short(name: str, most: int = 28) -> str:
    """A name as a figure has room for it; servers and scenarios may give longer ones."""
    return name if len(name) <= most else name[: most - 1] + "…"


def columns(names: Sequence[str], most: int = 4) -> int:
    """How many of these names fit beside each other into a legend."""
    widest = 5.2 * max(map(len, names), default=0) + 32
    return max(1, min(most, int(0.85 * WIDTH * 72 / widest)))


def legend_below(figure: Figure, axes: Axes, entries: int, columns: int = 2) -> None:
    if entries:
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=2.6)


def time_scale(axes: Axes, times: Spread, which: str) -> None:
    """Labels in us, ms or s; a log scale once the times span more than a factor of eight."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    values = times.values
    positive = values[values > 0]
    low, high = (float(positive.min()), float(times.quantile(0.999))) if len(positive) else (0.0, 1.0)
    if len(positive) and low and high / low > 8:
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 60 else (1.0,), numticks=9))
        axis.set_minor_formatter(NullFormatter())
        if high / low < 1e6:
            (axes.set_xlim if which == "x" else axes.set_ylim)(low * 0.9, max(values.max(), high) * 1.1)
    else:
        low, high = float(values.min()), float(values.max())
        pad = 0.06 * (high - low) or 0.05 * high or 1e-6
        (axes.set_xlim if which == "x" else axes.set_ylim)(max(0.0, low - pad), high + pad)
        axis.set_major_locator(MaxNLocator(5 if which == "x" else 4))
    axis.set_major_formatter(FuncFormatter(lambda value, _: words.seconds(value) if value >= 0 else ""))


def finite(values: Floats) -> Floats:
    return np.asarray(values[np.isfinite(values)])


def real(value: float | None) -> TypeGuard[float]:
    """Whether there is a finite number."""
    return value is not None and math.isfinite(value)
