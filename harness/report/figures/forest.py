"""Every rule's effect and interval against its margin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from harness.report import words
from harness.report.figures.common import WIDTH, real, short
from harness.report.figures.layout import Room
from harness.report.svg import COLORS, FAINT, style, to_svg
from harness.types import Finding

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UNITS = {
    "ratio": "candidate against baseline, relative",
    "pp": "candidate minus baseline, percentage points",
    "nats": "nats per token",
    "rate": "share of requests",
    "bytes": "memory",
    "s": "candidate against the objective",
    "": "own scale",
    "1": "own scale",
}


def forest(findings: Sequence[Finding], name: Callable[[Finding], str], key: str = "forest") -> str:
    """Effect and interval of each rule against its margin; one panel a unit, rules below each other."""
    shown = [finding for finding in findings if real(finding.effect) and real(finding.margin)]
    units = list(dict.fromkeys(finding.unit for finding in shown))
    if not shown:
        return ""
    panels = [[finding for finding in shown if finding.unit == unit] for unit in units]
    with style():
        heights = [0.75 + 0.36 * len(panel) for panel in panels]
        figure = Figure(figsize=(WIDTH, sum(heights)), layout=Room())
        rows = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, panel, unit in zip(rows, panels, units, strict=True):
            _forest_panel(axes, panel, unit, name)
        metrics = ", ".join(dict.fromkeys(finding.metric for finding in shown))
        said = {axes: [_said(finding) for finding in panel] for axes, panel in zip(rows, panels, strict=True)}
        return to_svg(figure, key, f"Effect and interval against the margin: {metrics}", said)


def _forest_panel(axes: Axes, panel: Sequence[Finding], unit: str, name: Callable[[Finding], str]) -> None:
    zero = 1.0 if unit == "ratio" else 0.0
    factor = {"ratio": 100.0, "pp": 100.0, "rate": 100.0, "bytes": 2.0**-30}.get(unit, 1.0)
    low, high = _limits(panel, zero)
    axes.set_xlim(low, high)
    axes.set_ylim(len(panel) - 0.4, -0.6)
    axes.axvline(zero, color=FAINT, linewidth=0.8)
    for row, finding in enumerate(panel):
        color = COLORS[finding.outcome if finding.outcome in ("pass", "fail") else "open"]
        height = [row - 0.42, row + 0.42]
        if real(finding.margin):
            beyond = low if words.falls(finding) else high
            axes.fill_betweenx(height, finding.margin, beyond, color=COLORS["fail"], alpha=0.13, linewidth=0)
            axes.plot([finding.margin] * 2, height, color=COLORS["fail"], linewidth=1.4)
        _interval(axes, finding, row, color, low, high)
        if real(finding.effect) and low <= finding.effect <= high:
            mark = {"pass": "o", "fail": "X"}.get(finding.outcome, "D")
            axes.plot([finding.effect], [row], mark, color=color, markersize=6)
    axes.set_yticks(range(len(panel)), [short(name(finding), 20) for finding in panel])
    axes.tick_params(axis="y", length=0)
    ticks = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(
        (low - zero) * factor, (high - zero) * factor
    )  # round ones, not 1.05
    axes.set_xticks([zero + tick / factor for tick in ticks if low <= zero + tick / factor <= high])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value, unit)))
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(UNITS.get(unit, unit))


def _said(finding: Finding) -> str:
    between = words.interval(finding)
    effect = words.effect(finding) + (f" ({between})" if between != words.NONE else "")
    return f"{effect}, margin {words.margin(finding)}: {finding.outcome}"


def _limits(panel: Sequence[Finding], zero: float) -> tuple[float, float]:
    """From no difference to what is furthest; one runaway interval must not flatten all the others."""
    points = [value - zero for f in panel for value in (f.effect, f.margin) if real(value)]
    reach = 4 * max((abs(point) for point in points), default=0.0) or 0.01
    points += [value - zero for f in panel for value in f.interval or () if real(value)]
    down = min(reach, max((-point for point in points), default=0.0))
    up = min(reach, max(points, default=0.0))
    return zero - 1.15 * max(down, 0.12 * reach / 4), zero + 1.15 * max(up, 0.12 * reach / 4)


def _interval(axes: Axes, finding: Finding, row: int, color: str, low: float, high: float) -> None:
    """The interval's line; an end that is open, or lies off the axis, is an arrow."""
    left, right = finding.interval or (None, None)
    if not real(left) and not real(right):
        return
    begin = max(left, low) if real(left) else low
    end = min(right, high) if real(right) else high
    axes.plot([begin, end], [row, row], color=color, linewidth=2.0)
    for place, at_edge, arrow in ((low, begin <= low, "<"), (high, end >= high, ">")):
        if at_edge:
            axes.plot([place], [row], arrow, color=color, markersize=5, clip_on=False)


def tick(value: float, unit: str) -> str:
    return words.on_scale(value, unit) if unit in ("ratio", "pp", "s", "rate", "bytes") else f"{round(value, 12):g}"
