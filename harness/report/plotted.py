"""What a figure shows, in numbers: written into its SVG, so that the page's script can tell values at the pointer and
zoom into time. Without the script it is not read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter

from harness.report import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]
TIME, BEGIN, STAGE, NOTE = "time", "begin", "stage", "note"
"""The gids of axes over time, of the lines where stages begin in them, of stages' names, of other texts within axes."""
_MOST_POINTS = 400  # of a line
_MOST_LINES = 8


def thinned(at: Floats, value: Floats, most: int = _MOST_POINTS) -> tuple[Floats, Floats]:
    """At most about `most` points; of each group the lowest and the highest stay, so that no peak is lost."""
    if len(at) <= most:
        return at, value
    groups = np.array_split(np.arange(len(at)), most // 2)
    keep = sorted({int(i) for group in groups for i in (group[value[group].argmin()], group[value[group].argmax()])})
    return at[keep], value[keep]


def plotted(figure: Figure, colors: Mapping[str, str], rows: Mapping[Axes, Sequence[str]]) -> str:
    """JSON, a list with one object for each of the figure's axes, in pixels of its SVG (72 an inch, y downwards).

    `box`: left, top, right, bottom. `by`: what the pointer chooses: a place on x or on y, or a row. `lines`: labelled
    ones only, each with its name, the variable of its color (`colors`: by hexadecimal), and for each point its place
    on the chosen axis (`at`), on the other (`to`), and there its value in words (`said`). Axes over time have their
    limits in seconds (`time`), and from where to where each text in them belongs (`notes`); all others say in words
    what is chosen (`head`). `rows`: what to say of each tick on y, by axes. To be called once the figure is laid out.
    """
    found = [_axes(axes, figure, colors, rows.get(axes)) for axes in figure.axes]
    return json.dumps(found, ensure_ascii=False, separators=(",", ":"))


def _axes(axes: Axes, figure: Figure, colors: Mapping[str, str], rows: Sequence[str] | None) -> dict[str, Any]:
    width, height = figure.get_size_inches() * 72
    place = axes.get_position()
    box = [place.x0 * width, (1 - place.y1) * height, place.x1 * width, (1 - place.y0) * height]
    found: dict[str, Any] = {
        "box": _rounded(box),
        "title": words.visible(axes.get_title(loc="left") or axes.get_ylabel()),
    }

    def pixels(x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[list[float], list[float]]:
        shares = (axes.transData - axes.transAxes).transform(np.column_stack([x, y]))
        across = box[0] + shares[:, 0] * (box[2] - box[0])
        return _rounded(across), _rounded(box[3] - shares[:, 1] * (box[3] - box[1]))

    if rows is not None:
        places = axes.get_yticks()
        names = [words.visible(label.get_text()) for label in axes.get_yticklabels()]
        found |= {"by": "row", "at": pixels(np.full(len(places), axes.get_xlim()[0]), places)[1]}
        return found | {"head": names, "said": [words.visible(said) for said in rows]}
    curves = [(name, color, *_points(x, y)) for name, color, x, y in _labelled(axes)][:_MOST_LINES]
    curves = [curve for curve in curves if len(curve[2])]
    by_y = bool(curves) and all(_is_distribution(x, y) for _, _, x, y in curves)
    found |= {"by": "y" if by_y else "x", "lines": []}
    over_time = axes.get_gid() == TIME
    for name, color, x, y in curves:
        across, down = pixels(x, y)
        line: dict[str, Any] = {"name": words.visible(name), "color": colors.get(to_hex(color), "ink")}
        line |= {"at": down, "to": across} if by_y else {"at": across, "to": down}
        if not over_time:
            line["head"] = _said(axes.yaxis, y) if by_y else _said(axes.xaxis, x)
        line["said"] = _said(axes.xaxis, x) if by_y else _said(axes.yaxis, y)
        found["lines"].append(line)
    if over_time:
        notes = _notes(axes)
        found["time"] = [float(f"{limit:.7g}") for limit in axes.get_xlim()]
        found["notes"] = [pixels(span, [axes.get_ylim()[0]] * 2)[0] for span in notes]
    else:
        found["axis"] = axes.get_ylabel() if by_y else axes.get_xlabel()
    return found


def _labelled(axes: Axes) -> Iterable[tuple[str, Any, npt.ArrayLike, npt.ArrayLike]]:
    """Name, color, x and y of all that was drawn with a label. One led by an underscore is not in the legend: it goes
    on with a line of that name."""
    for line in axes.get_lines():
        label = str(line.get_label())
        if not re.fullmatch(r"_child\d+|_nolegend_|", label) and line.get_transform() == axes.transData:
            yield label.removeprefix("_"), line.get_color(), line.get_xdata(orig=False), line.get_ydata(orig=False)
    for bars in axes.containers:
        if isinstance(bars, BarContainer) and not str(bars.get_label()).startswith("_") and len(bars.patches):
            middles = [bar.get_x() + bar.get_width() / 2 for bar in bars.patches]
            yield (
                str(bars.get_label()),
                bars.patches[0].get_facecolor(),
                middles,
                [b.get_height() for b in bars.patches],
            )


def _points(x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Floats, Floats]:
    at, value = np.asarray(x, np.float64), np.asarray(y, np.float64)
    known = np.isfinite(at) & np.isfinite(value)
    return thinned(at[known], value[known])


def _is_distribution(x: Floats, y: Floats) -> bool:
    """A cumulative share in per cent, from none to all."""
    rises = bool((np.diff(y) >= 0).all() and (np.diff(x) >= 0).all())
    return len(y) > 1 and rises and y[0] == 0 and y[-1] == 100


def _said(axis: Axis, values: Floats) -> list[str]:
    """Values as the axis writes them; one that labels plain numbers, with three digits."""
    formatter = axis.get_major_formatter()
    if isinstance(formatter, FuncFormatter):
        return [str(formatter(value, None)) for value in values]
    return [f"{value:,.0f}" if value.is_integer() else words.number(value) for value in values.tolist()]


def _notes(axes: Axes) -> list[tuple[float, float]]:
    """From where to where each text within the axes belongs: a stage's name to the whole of its stage."""
    marks = [line for line in axes.get_lines() if line.get_gid() == BEGIN]
    begins = np.asarray([np.asarray(line.get_xdata(orig=False))[0] for line in marks])
    found = []
    for text in axes.texts:
        at = float(text.xy[0] if isinstance(text, Annotation) else text.get_position()[0])
        if text.get_gid() == STAGE and (begins <= at).any():
            begin = float(begins[begins <= at].max())
            found.append((begin, 2 * at - begin))
        else:
            found.append((at, at))
    return found


def _rounded(values: npt.ArrayLike) -> list[float]:
    return [round(float(value), 1) for value in np.asarray(values).ravel()]
