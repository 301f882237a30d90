"""Memory and utilization: small panels on the time axis of the load."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from harness.report.facts import Floats, Series
from harness.report.figures.common import TIME_LABEL, WIDTH, TimeAxis
from harness.report.svg import COLORS, style, to_svg


def readings(panels: Sequence[tuple[str, str, Sequence[Series]]], time: TimeAxis, key: str) -> str:
    """Small panels below each other on the shared time axis: (title, unit, series by device)."""
    if not panels:
        return ""
    palette = [COLORS[name] for name in ("baseline", "candidate", "stable", "extra")]
    with style():
        figure = Figure(figsize=(WIDTH, 0.5 + 1.1 * len(panels)), layout="constrained")
        rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for number, (axes, (title, unit, lines)) in enumerate(zip(rows, panels, strict=True)):
            time.draw(axes, names=number == 0)
            top = max((float(line.value.max()) for line in lines), default=0.0)
            factor, name = _scale(unit, top)
            for index, line in enumerate(lines[: len(palette)]):
                at, value = _thinned(line.t_s, line.value / factor)
                axes.plot(
                    at, value, ("-", "--", ":", "-.")[index], color=palette[index], linewidth=1.3,
                    label=line.device or line.source,
                )  # fmt: skip
            axes.set_title(title, loc="left", pad=14 if number == 0 else 4)
            axes.set_ylim(0.0, (1.5 if len(lines) > 1 else 1.15) * top / factor or 1.0)
            axes.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _, name=name: f"{value:g}{name}"))
            if len(lines) > 1:
                axes.legend(loc="upper left", ncols=4, handlelength=2.0, columnspacing=1.0, borderaxespad=0.1)
        rows[-1].set_xlabel(TIME_LABEL)
        return to_svg(figure, key, "Over time: " + ", ".join(title for title, _, _ in panels))


def _scale(unit: str, top: float) -> tuple[float, str]:
    """What to divide by, and what to write behind the number."""
    if unit == "bytes":
        return (2**30, " GiB") if top >= 2**30 else (2**20, " MiB")
    if unit == "ratio":
        return 0.01, " %"
    return 1.0, "" if unit in ("1", "") else f" {unit}"


def _thinned(at: Floats, value: Floats, most: int = 400) -> tuple[Floats, Floats]:
    """At most about `most` points; of each group the lowest and the highest stay, so that no peak is lost."""
    if len(at) <= most:
        return at, value
    groups = np.array_split(np.arange(len(at)), most // 2)
    keep = sorted({int(i) for group in groups for i in (group[value[group].argmin()], group[value[group].argmax()])})
    return at[keep], value[keep]
