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
from harness.report.facts import Floats
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
        for number, (plan, begin, end) in enumerate(self.spans):
            if number % 2 == 0:
                axes.axvspan(begin, end, color=BAND, linewidth=0, zorder=0)
            axes.axvline(begin, color=FAINT, linewidth=0.6, zorder=0.5)
            if not names or end - begin < 0.03 * width:
                continue
            text = words.stage_mark(plan)
            room = (end - begin) / width * WIDTH * 72 * 0.84
            if len(text) * 5.2 > room:
                text = str(plan.index + 1)
            axes.text(
                (begin + end) / 2, 1.0, text, transform=axes.get_xaxis_transform(), ha="center", va="bottom",
                fontsize=8, clip_on=False,
            )  # fmt: skip

    def bins(self, at: Floats | None = None, enough: int = 10) -> list[Floats]:
        """Edges of bins, a list for each stage, none across two stages; about `enough` of `at` in each."""
        spans = [(begin, end) for _, begin, end in self.spans if end > begin] or [(self.begin, self.end)]
        total = sum(end - begin for begin, end in spans)
        edges = []
        for begin, end in spans:
            parts = max(2, round(_BINS * (end - begin) / total))
            if at is not None:
                parts = min(parts, max(1, int(((at >= begin) & (at <= end)).sum()) // enough))
            edges.append(np.linspace(begin, end, parts + 1))
        return edges


def new_figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes: Axes = figure.subplots()
    axes.grid(visible=True, axis="y")
    return figure, axes


def legend_below(figure: Figure, axes: Axes, entries: int, columns: int = 2) -> None:
    if entries:
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=2.6)


def time_scale(axes: Axes, values: Floats, which: str) -> None:
    """Labels in us, ms or s; a log scale once the values span more than a factor of eight."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    positive = values[values > 0]
    low, high = (float(positive.min()), float(np.quantile(values, 0.999))) if len(positive) else (0.0, 1.0)
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
