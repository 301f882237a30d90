"""The page's figures. Each function returns inline SVG, or "" where there is nothing to draw.

All are about as wide as a phone, so that their text stays readable there; the page sets them side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from harness.report import words
from harness.report.facts import Bools, Floats, Requests, Series
from harness.report.svg import BAND, COLORS, FAINT, INK, style, to_svg
from harness.types import Finding, StagePlan

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Spans = Sequence[tuple[StagePlan, float, float]]
WIDTH = 4.7  # inches; 72 SVG pixels an inch
_POINTS = 300  # single requests drawn per arm
_CURVE = 160  # points of a distribution curve
_BINS = 36  # over all stages
_LINES = {"baseline": "-", "candidate": "--", "stable": ":"}
_MARKS = {"baseline": "o", "candidate": "s", "stable": "^"}
# Fewer requests than this in a bin say nothing of its quantile.
_ENOUGH = {0.5: 3, 0.9: 8}


@dataclass(frozen=True)
class TimeAxis:
    """The one time axis that all figures over time share: seconds from the run's start, and the stages on it."""

    begin: float
    end: float
    spans: Spans

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

    def bins(self) -> Floats:
        """Edges of bins that never straddle two stages."""
        if not self.spans:
            return np.linspace(self.begin, self.end, _BINS + 1)
        total = sum(end - begin for _, begin, end in self.spans) or 1.0
        edges: list[float] = []
        for _, begin, end in self.spans:
            parts = max(2, round(_BINS * (end - begin) / total))
            edges.extend(np.linspace(begin, end, parts + 1))
        return np.unique(np.asarray(edges))


def distributions(data: Requests, metric: str, chosen: Bools) -> str:
    """Cumulative share of requests over the metric, an arm a curve."""
    values = {arm: _finite(data.times[metric][data.of(arm) & chosen]) for arm in data.arms}
    values = {arm: found for arm, found in values.items() if len(found)}
    if not values:
        return ""
    with style():
        figure, axes = _figure(2.5)
        for arm, found in values.items():
            shares = np.unique(np.concatenate([np.linspace(0, 1, _CURVE), 1 - np.geomspace(1e-3, 0.1, 20)]))
            quantiles = np.quantile(found, shares)
            axes.plot(quantiles, 100 * shares, _LINES[arm], color=COLORS[arm], linewidth=1.8, label=arm)
        for share in (50, 90):
            axes.axhline(share, color=FAINT, linewidth=0.6, linestyle=":")
        together = np.concatenate(list(values.values()))
        _time_scale(axes, together, "x")
        axes.set_ylim(0, 101)
        axes.set_yticks([0, 25, 50, 75, 90, 100])
        axes.set_ylabel("requests at most this, %")
        axes.legend(loc="lower right", handlelength=2.6)
        label = f"{words.TITLES[metric]}: distribution of {', '.join(values)}"
        return to_svg(figure, f"dist-{metric}", label)


def over_time(data: Requests, metric: str, time: TimeAxis) -> str:
    """Median and 90th percentile of short bins over the run, with single requests as faint points."""
    edges = time.bins()
    with style():
        figure, axes = _figure(2.5)
        time.draw(axes)
        drawn = []
        for arm in data.arms:
            mine = data.of(arm) & np.isfinite(data.times[metric]) & np.isfinite(data.at)
            at, value = data.at[mine], data.times[metric][mine]
            if not len(value):
                continue
            drawn.append(value)
            thin = slice(None, None, max(1, -(-len(at) // _POINTS)))
            axes.plot(at[thin], value[thin], ".", color=COLORS[arm], markersize=1.8, alpha=0.35)
            place = np.clip(np.searchsorted(edges, at, side="right") - 1, 0, len(edges) - 2)
            for share, width in ((0.5, 1.8), (0.9, 0.9)):
                middle, level = _binned(edges, place, value, share)
                label = f"{arm} p{share * 100:.0f}"
                axes.plot(
                    middle, level, _LINES[arm], marker=_MARKS[arm], markersize=2.4 if share == 0.5 else 0,
                    color=COLORS[arm], linewidth=width, label=label,
                )  # fmt: skip
        if not drawn:
            return ""
        _time_scale(axes, np.concatenate(drawn), "y")
        axes.set_xlabel("seconds from the start of the run")
        _legend_below(figure, axes, 2 * len(drawn))
        return to_svg(figure, f"time-{metric}", f"{words.TITLES[metric]} over time, p50 and p90 of each arm")


def forest(findings: Sequence[Finding], name: Callable[[Finding], str]) -> str:
    """Effect and interval of each rule against its margin; one panel a unit, rules below each other."""
    shown = [finding for finding in findings if finding.effect is not None and math.isfinite(finding.effect)]
    units = list(dict.fromkeys(finding.unit for finding in shown))
    if not shown:
        return ""
    panels = [[finding for finding in shown if finding.unit == unit] for unit in units]
    with style():
        heights = [0.75 + 0.36 * len(panel) for panel in panels]
        figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
        rows = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, panel, unit in zip(rows, panels, units, strict=True):
            _forest_panel(axes, panel, unit, name)
        return to_svg(figure, "forest", "Effect and interval of every rule against its margin")


def _forest_panel(axes: Axes, panel: Sequence[Finding], unit: str, name: Callable[[Finding], str]) -> None:
    zero = 1.0 if unit == "ratio" else 0.0
    ends = [zero]
    for finding in panel:
        ends += [value for value in (finding.effect, finding.margin, *(finding.interval or ())) if _real(value)]
    # One runaway interval must not flatten all others: what lies beyond gets an arrow.
    reach = max([abs(end - zero) for end in ends], default=0.0)
    centre = max([abs((f.margin or zero) - zero) for f in panel] + [abs((f.effect or zero) - zero) for f in panel])
    reach = min(reach, 4 * centre) if centre else reach
    low = zero - 1.15 * (min(reach, max([zero - end for end in ends] + [0.12 * reach])) or 0.01)
    high = zero + 1.15 * (min(reach, max([end - zero for end in ends] + [0.12 * reach])) or 0.01)
    axes.set_xlim(low, high)
    axes.set_ylim(len(panel) - 0.4, -0.6)
    axes.axvline(zero, color=FAINT, linewidth=0.8)
    for row, finding in enumerate(panel):
        color = COLORS["pass" if finding.outcome == "pass" else "fail" if finding.outcome == "fail" else "open"]
        mark = {"pass": "o", "fail": "X"}.get(finding.outcome, "D")
        if _real(finding.margin):
            axes.fill_betweenx(
                [row - 0.42, row + 0.42], finding.margin, high, color=COLORS["fail"], alpha=0.13, linewidth=0
            )
            axes.plot([finding.margin] * 2, [row - 0.42, row + 0.42], color=COLORS["fail"], linewidth=1.4)
        left, right = finding.interval or (None, None)
        left = low if not _real(left) else left
        right = high if not _real(right) else right
        if finding.interval is not None and (_real(finding.interval[0]) or _real(finding.interval[1])):
            axes.plot([max(left, low), min(right, high)], [row, row], color=color, linewidth=2.0)
            for end, beyond, arrow in ((low, left <= low, "<"), (high, right >= high, ">")):
                if beyond:
                    axes.plot([end], [row], arrow, color=color, markersize=5, clip_on=False)
        if low <= finding.effect <= high:  # type: ignore[operator]
            axes.plot([finding.effect], [row], mark, color=color, markersize=6)
    axes.set_yticks(range(len(panel)), [name(finding) for finding in panel])
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: words.on_scale(value, unit)))
    axes.spines["left"].set_visible(False)
    titles = {"ratio": "candidate against baseline, relative", "pp": "candidate minus baseline, percentage points"}
    axes.set_xlabel(titles.get(unit, "own scale" if unit in ("", "1") else unit))


def errors_over_time(data: Requests, time: TimeAxis) -> str:
    """Failed requests per bin, baseline upwards beside candidate."""
    failed = ~data.ok & np.isfinite(data.at)
    if not failed.any():
        return ""
    edges = time.bins()
    with style():
        figure, axes = _figure(2.1)
        time.draw(axes)
        arms = [arm for arm in data.arms if (failed & (data.arm == _code(arm))).any()]
        widths = np.diff(edges) / max(1, len(arms)) * 0.86
        for number, arm in enumerate(arms):
            count, _ = np.histogram(data.at[failed & (data.arm == _code(arm))], edges)
            axes.bar(
                edges[:-1] + np.diff(edges) * 0.07 + number * widths, count, widths, align="edge",
                color=COLORS[arm], label=arm, hatch="////" if arm == "candidate" else None, edgecolor=BAND, linewidth=0,
            )  # fmt: skip
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_ylim(bottom=0)
        axes.set_ylabel("failed requests")
        axes.set_xlabel("seconds from the start of the run")
        _legend_below(figure, axes, len(arms))
        return to_svg(figure, "errors", "Failed requests over time")


def divergence(kl: dict[str, Floats], limit: float | None) -> str:
    """Cumulative share of scored answers over their mean KL divergence, log scale: floor and candidate."""
    found = {arm: np.sort(_finite(values)) for arm, values in kl.items() if len(_finite(values))}
    if not found:
        return ""
    names = {"baseline": "baseline, scored twice (floor)", "candidate": "candidate"}
    with style():
        figure, axes = _figure(2.5)
        smallest = 1e-6
        for arm, values in found.items():
            shares = np.linspace(0, 1, min(_CURVE, max(2, len(values))))
            points = np.maximum(np.quantile(values, shares), smallest)
            axes.plot(
                points, 100 * shares, _LINES[arm], color=COLORS[arm], linewidth=1.8, label=names.get(arm, arm), clip_on=False
            )
            axes.axvline(max(float(values.mean()), smallest), color=COLORS[arm], linewidth=0.8, linestyle=":")
        if _real(limit) and limit:
            axes.axvline(limit, color=COLORS["fail"], linewidth=1.4)
            axes.text(
                limit, 1.0, "limit of the mean", transform=axes.get_xaxis_transform(), ha="center", va="bottom", fontsize=8
            )  # fmt: skip
        axes.set_xscale("log")
        top = max([float(values.max()) for values in found.values()] + [limit or 0.0, 1e-4])
        axes.set_xlim(smallest, top * 1.6)
        axes.xaxis.set_major_locator(LogLocator(numticks=7))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(
            FuncFormatter(lambda value, _: "≤10⁻⁶" if value <= smallest * 1.01 else f"{value:g}")
        )
        axes.set_xlabel("KL divergence from the baseline's answer, nats per token")
        axes.set_ylim(0, 101)
        axes.set_ylabel("answers at most this, %")
        _legend_below(figure, axes, len(found), columns=1)
        return to_svg(figure, "kl", "Divergence of the candidate's tokens from the baseline's, beside the floor")


def readings(panels: Sequence[tuple[str, str, Sequence[Series]]], time: TimeAxis) -> str:
    """Small panels below each other on the shared time axis: (title, unit, series by device)."""
    if not panels:
        return ""
    palette = [COLORS[name] for name in ("baseline", "candidate", "stable", "extra")]
    with style():
        figure = Figure(figsize=(WIDTH, 0.45 + 1.05 * len(panels)), layout="constrained")
        rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for number, (axes, (title, unit, lines)) in enumerate(zip(rows, panels, strict=True)):
            time.draw(axes, names=number == 0)
            for index, line in enumerate(lines[: len(palette)]):
                at, value = _thinned(line.t_s, line.value)
                axes.plot(
                    at, value, ("-", "--", ":", "-.")[index], color=palette[index], linewidth=1.3,
                    label=line.device or line.source, drawstyle="steps-post" if len(at) < 400 else "default",
                )  # fmt: skip
            axes.set_title(title, loc="left", pad=12 if number == 0 else 4)
            top = max((float(line.value.max()) for line in lines), default=0.0)
            bottom = min((float(line.value.min()) for line in lines), default=0.0)
            axes.set_ylim(min(0.0, bottom * 1.05), top * 1.12 or 1.0)
            axes.yaxis.set_major_locator(MaxNLocator(3))
            axes.yaxis.set_major_formatter(FuncFormatter(_unit_ticks(unit, top)))
            if len(lines) > 1:
                axes.legend(loc="lower left", ncols=2, handlelength=2.2, borderaxespad=0.1)
        rows[-1].set_xlabel("seconds from the start of the run")
        return to_svg(figure, "readings", "Memory and utilization over time: " + ", ".join(title for title, _, _ in panels))


def _unit_ticks(unit: str, top: float) -> Callable[[float, Any], str]:
    if unit == "bytes":
        factor, name = (2**30, "GiB") if top >= 2**30 else (2**20, "MiB")
        return lambda value, _: f"{value / factor:g} {name}"
    if unit == "ratio":
        return lambda value, _: f"{100 * value:g} %"
    return lambda value, _: f"{value:g}" if unit in ("1", "") else f"{value:g} {unit}"


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes: Axes = figure.subplots()
    axes.grid(visible=True, axis="y")
    return figure, axes


def _legend_below(figure: Figure, axes: Axes, entries: int, columns: int = 2) -> None:
    if entries:
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=2.6)


def _time_scale(axes: Axes, values: Floats, which: str) -> None:
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


def _binned(edges: Floats, place: Any, value: Floats, share: float) -> tuple[Floats, Floats]:
    """The quantile of each bin; NaN (a gap in the line) where a bin has too few."""
    middle = (edges[:-1] + edges[1:]) / 2
    level = np.full(len(middle), np.nan)
    order = np.argsort(place, kind="stable")
    cuts = np.searchsorted(place[order], np.arange(len(middle) + 1))
    for number, (begin, end) in enumerate(zip(cuts[:-1], cuts[1:], strict=True)):
        if end - begin >= _ENOUGH[share]:
            level[number] = np.quantile(value[order[begin:end]], share)
    return middle, level


def _thinned(at: Floats, value: Floats, most: int = 400) -> tuple[Floats, Floats]:
    """At most about `most` points; of each group the lowest and the highest stay, so that no peak is lost."""
    if len(at) <= most:
        return at, value
    groups = np.array_split(np.arange(len(at)), most // 2)
    keep = sorted({int(i) for group in groups for i in (group[value[group].argmin()], group[value[group].argmax()])})
    return at[keep], value[keep]


def _finite(values: Floats) -> Floats:
    return np.asarray(values[np.isfinite(values)])


def _real(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _code(arm: str) -> int:
    from harness.report.facts import ARMS

    return ARMS.index(arm)
