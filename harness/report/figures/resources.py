"""Memory and utilization: small panels on the time axis of the load."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from harness.report import words
from harness.report.figures.common import LINES, TIME_LABEL, WIDTH, TimeAxis, columns, short
from harness.report.figures.layout import Room
from harness.report.load import Load
from harness.report.panels import Panel
from harness.report.plotted import thinned
from harness.report.svg import COLORS, style, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEGEND: dict[str, Any] = {
    "loc": "upper left", "handlelength": 2.0, "columnspacing": 1.0, "borderaxespad": 0.1,
}  # fmt: skip
_NEAR = 2.5
"""So many times as high as the lines a bound is drawn; a farther one would flatten them, and is told in the title."""


def readings(panels: Sequence[Panel], time: TimeAxis, key: str, load: Sequence[Load] = ()) -> str:
    """Small panels below each other on the shared time axis, the load above all; "" without any panel."""
    if not panels:
        return ""
    with style():
        count = len(panels) + bool(load)
        figure = Figure(figsize=(WIDTH, 0.5 + 1.1 * count), layout=Room())
        rows = list(figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0])
        for number, axes in enumerate(rows):
            time.draw(axes, names=number == 0)
        if load:
            _load(rows[0], load)
        for axes, panel in zip(rows[count - len(panels) :], panels, strict=True):
            _panel(axes, panel)
        titles = ["Requests a second: sent (thin), answered"] * bool(load) + [_title(panel) for panel in panels]
        for number, (axes, title) in enumerate(zip(rows, titles, strict=True)):
            axes.set_title(title, loc="left", pad=14 if number == 0 else 4)
        rows[-1].set_xlabel(TIME_LABEL)
        return to_svg(figure, key, "Over time: " + ", ".join(titles))


def _load(axes: Axes, load: Sequence[Load]) -> None:
    arms = []
    for one in load:
        color, dashes = COLORS[one.arm], LINES[one.arm]
        axes.plot(one.at, one.sent, dashes, color=color, linewidth=0.7, label=f"{one.arm} sent")
        arms += axes.plot(one.at, one.answered, dashes, color=color, linewidth=1.8, label=f"{one.arm} answered")
    top = max((float(np.nanmax(one.sent)) for one in load), default=0.0)
    axes.set_ylim(0.0, 1.5 * top or 1.0)
    axes.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}/s"))
    axes.legend(arms, [one.arm for one in load], ncols=len(arms), **_LEGEND)


def _panel(axes: Axes, panel: Panel) -> None:
    palette = [COLORS[name] for name in ("baseline", "candidate", "stable", "extra")]
    top = max((float(line.value.max()) for line in panel.lines), default=0.0)
    factor, name = _scale(panel.unit, top)
    for index, line in enumerate(panel.lines[: len(palette)]):
        at, value = thinned(line.t_s, line.value / factor)
        axes.plot(
            at, value, ("-", "--", ":", "-.")[index], color=palette[index], linewidth=1.3,
            label=short(line.device or line.source),
        )  # fmt: skip
    near = [bound for bound in panel.bounds if bound[1] <= _NEAR * top]
    for _, bound in near:
        axes.axhline(bound / factor, color=COLORS["fail"], linewidth=1.2)
    top = max([top, *(bound for _, bound in near)])
    axes.set_ylim(0.0, (1.5 if len(panel.lines) > 1 else 1.15) * top / factor or 1.0)
    axes.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}{name}"))
    if len(panel.lines) > 1:
        axes.legend(ncols=columns(axes.get_legend_handles_labels()[1]), **_LEGEND)


def _title(panel: Panel) -> str:
    """With the bounds; those that lie too far above the lines to be drawn are told here alone."""
    top = max((float(line.value.max()) for line in panel.lines), default=0.0)
    told = [
        f"{what}{' (red)' if bound <= _NEAR * top else ''}: {words.size(bound, panel.unit)}"
        for what, bound in panel.bounds
    ]
    return "; ".join([panel.title, *told])


def _scale(unit: str, top: float) -> tuple[float, str]:
    """What to divide by, and what to write behind the number."""
    if unit == "bytes":
        return (2**30, " GiB") if top >= 2**30 else (2**20, " MiB")
    if unit == "ratio":
        return 0.01, " %"
    return 1.0, "" if unit in ("1", "") else f" {unit}"
