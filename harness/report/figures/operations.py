"""What operations measured: loads by phase, memory over the length of a context, trials of a load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from harness.report import words
from harness.report.facts import Floats
from harness.report.figures.common import TIME_LABEL, WIDTH, TimeAxis, new_figure, time_scale
from harness.report.figures.layout import Room
from harness.report.plotted import BEGIN, STAGE
from harness.report.requests.spread import Spread
from harness.report.svg import BAND, COLORS, FAINT, style, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = ("baseline", "candidate", "stable", "extra")
_DASHES = ("-", "--", ":", "-.")
_MARKS = ("o", "s", "^", "v")


@dataclass(frozen=True, eq=False)
class Window:
    """One load through one phase. `at`: the middles of its blocks, seconds; `done`: answers a second; `p95`: seconds,
    NaN where a block has no answer.
    """

    load: str
    phase: int
    begin: float
    end: float
    at: Floats
    done: Floats
    p95: Floats


def windows(found: Sequence[Window]) -> str:
    """Answers a second and p95 of the response time, a line a load; phases are shaded in turn and numbered."""
    if not found:
        return ""
    loads = list(dict.fromkeys(window.load for window in found))
    time = TimeAxis(min(window.begin for window in found), max(window.end for window in found), ())
    with style():
        figure = Figure(figsize=(WIDTH, 3.8), layout=Room())
        above, below = figure.subplots(2, 1, sharex=True)
        for axes, title in ((above, "Answers a second"), (below, "Response time, p95 of each block")):
            time.draw(axes)
            _phases(axes, found, names=axes is above)
            axes.set_title(title, loc="left", pad=14 if axes is above else 5)
            axes.grid(visible=True, axis="y")
        for window in found:
            number = loads.index(window.load)
            first = window is next(one for one in found if one.load == window.load)
            for axes, values in ((above, window.done), (below, window.p95)):
                axes.plot(
                    window.at, values, _DASHES[number % 4] + _MARKS[number % 4], color=COLORS[_COLORS[number % 4]],
                    markersize=2.4, linewidth=1.3, label=window.load if first else f"_{window.load}",
                )  # fmt: skip
        above.set_ylim(bottom=0)
        above.yaxis.set_major_locator(MaxNLocator(4))
        above.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{words.number(value)}/s"))
        known = np.concatenate([window.p95[np.isfinite(window.p95)] for window in found])
        if len(known):
            time_scale(below, Spread.exact(known), "y")
        below.set_xlabel(TIME_LABEL)
        figure.legend(*above.get_legend_handles_labels(), loc="outside lower center", ncols=3, handlelength=2.6)
        return to_svg(figure, "windows", "Answers a second and response times of each load, by phase")


def _phases(axes: Axes, found: Sequence[Window], *, names: bool) -> None:
    for number in sorted({window.phase for window in found}):
        mine = [window for window in found if window.phase == number]
        begin, end = min(window.begin for window in mine), max(window.end for window in mine)
        if number % 2 == 0:
            axes.axvspan(begin, end, color=BAND, linewidth=0, zorder=0)
        axes.axvline(begin, color=FAINT, linewidth=0.6, zorder=0.5, gid=BEGIN)
        if names:
            axes.text(
                (begin + end) / 2, 1.0, str(number + 1), transform=axes.get_xaxis_transform(), ha="center",
                va="bottom", fontsize=8, clip_on=False, gid=STAGE,
            )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Batch:
    """Memory of one batch size over the length of the context (tokens), as a share of what there is. `tokens`, `share`
    and `fits` of what was measured; `told`: the fit at `told_tokens`; `safe`: up to where it is within the limit.
    """

    batch: int
    tokens: Floats
    share: Floats
    fits: Sequence[bool]
    told_tokens: Floats
    told: Floats
    safe: float | None


def context_memory(batches: Sequence[Batch], limit: float, goal: float, key: str) -> str:
    """Measured points, the fit and the limit; "" where nothing was measured."""
    shown = [one for one in batches if len(one.tokens)]
    if not shown:
        return ""
    with style():
        figure, axes = new_figure(3.4)
        for number, one in enumerate(shown):
            color, fits = COLORS[_COLORS[number % 4]], np.asarray(one.fits, bool)
            axes.plot(
                one.tokens[fits], one.share[fits], _MARKS[number % 4], color=color, markersize=5,
                label=f"batch {one.batch}, measured",
            )  # fmt: skip
            if not fits.all():
                axes.plot(
                    one.tokens[~fits], one.share[~fits], "X", color=COLORS["fail"], markersize=7,
                    label=f"batch {one.batch}, out of memory",
                )  # fmt: skip
            axes.plot(
                one.told_tokens, one.told, _DASHES[number % 4], color=color, linewidth=1.3,
                label=f"batch {one.batch}, fit (99 % sure)",
            )  # fmt: skip
            if one.safe is not None:
                axes.plot([one.safe], [limit], "|", color=color, markersize=14, markeredgewidth=2)
        axes.axhline(limit, color=COLORS["fail"], linewidth=1.4)
        if goal:
            axes.axvline(goal, color=FAINT, linewidth=1.0, linestyle=":")
        top = max([limit, *(float(one.share.max()) for one in shown)])
        axes.set_ylim(0, 1.15 * top)
        axes.set_xlim(0, 1.06 * max([goal, *(float(one.tokens.max()) for one in shown)]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: words.percent(value)))
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set_ylabel("memory, of what there is")
        axes.set_xlabel("context, tokens a request")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, handlelength=2.6)
        return to_svg(figure, key, "Memory over the length of the context, with the fit and the limit")


@dataclass(frozen=True)
class Trial:
    """One load that was tried: the share of requests beyond an objective, its bounds, and what came of the trial."""

    level: float
    share: float
    low: float
    high: float
    outcome: str


def trials(found: Sequence[Trial], allowed: float, what: str, unit: str, key: str) -> str:
    """The share of requests beyond an objective over the load, with intervals and the share that is allowed."""
    if not found:
        return ""
    kinds = {"holds": ("o", "pass"), "misses": ("X", "fail")}
    with style():
        figure, axes = new_figure(2.8)
        for outcome in dict.fromkeys(trial.outcome for trial in found):
            mine = [trial for trial in found if trial.outcome == outcome]
            mark, color = kinds.get(outcome, ("D", "open"))
            level, share = np.asarray([one.level for one in mine]), np.asarray([one.share for one in mine])
            ends = np.asarray([[one.share - one.low, one.high - one.share] for one in mine]).T
            axes.errorbar(level, share, np.maximum(ends, 0.0), fmt="none", ecolor=COLORS[color], elinewidth=1.5)
            axes.plot(level, share, mark, color=COLORS[color], markersize=6, label=outcome)
        axes.axhline(allowed, color=COLORS["fail"], linewidth=1.4)
        top = max([allowed, *(one.share for one in found)])
        axes.set_ylim(-0.03 * top, min(1.1 * max(one.high for one in found), 6 * max(allowed, 0.01), 1.05) or 1.0)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xticks(sorted({one.level for one in found})[:: max(1, len(found) // 5)])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: words.percent(value)))
        axes.set_xlabel(f"load, {unit}")
        axes.set_ylabel("requests beyond")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
        return to_svg(figure, key, f"Share of requests beyond {what}, over the load")
