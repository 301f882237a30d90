"""Room for what stands around the axes of a figure, from the lengths of its texts.

matplotlib's own way draws every text twice to measure it, which is half of the time that a figure takes. The page's
font is the reader's anyway, so no measure is exact.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.layout_engine import LayoutEngine

from harness.report.plotted import STAGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

# Points, of the sizes that `svg.style` sets.
_CHARACTER, _LINE, _TICK, _EDGE = 5.5, 12.0, 4.0, 4.0
_RIGHT = 14.0
"""Half of the last label on x, and the end of the last line."""
_LEGEND = (13.5, 10.0)
"""A row of a legend below the axes, and what is around the rows."""


class Room(LayoutEngine):
    """Panels below each other, a legend below them all."""

    _adjust_compatible = True
    _colorbar_gridspec = True

    def execute(self, fig: Figure) -> None:
        panels = fig.axes
        width, height = fig.get_size_inches() * 72
        above, below = [_above(axes) for axes in panels], [_below(axes) for axes in panels]
        gap = max((low + high for low, high in zip(below, above[1:], strict=False)), default=0.0)
        bottom = below[-1] + sum(_rows(legend) * _LEGEND[0] + _LEGEND[1] for legend in fig.legends)
        inner = height - above[0] - bottom
        each = (inner - gap * (len(panels) - 1)) / len(panels)
        fig.subplots_adjust(
            left=max(map(_left, panels)) / width,
            right=1 - _RIGHT / width,
            top=1 - above[0] / height,
            bottom=bottom / height,
            hspace=gap / each,
        )


def _left(axes: Axes) -> float:
    longest = max((len(text) for text in _labels(axes.yaxis)), default=0)
    return _EDGE + longest * _CHARACTER + _TICK + (_LINE + _TICK if axes.get_ylabel() else 0.0)


def _below(axes: Axes) -> float:
    """Of panels that share their x, the last alone has labels."""
    told = bool(axes.xaxis.get_tick_params().get("labelbottom", True)) + bool(axes.get_xlabel())
    return _TICK + told * (_LINE + 2.0)


def _above(axes: Axes) -> float:
    named = any(text.get_gid() == STAGE or text.get_position()[1] > 1 for text in axes.texts)
    return _EDGE + (_LINE if named else 0.0) + (_LINE + _TICK if axes.get_title(loc="left") else 0.0)


def _labels(axis: Axis) -> list[str]:
    """Those of ticks in sight."""
    places = np.asarray(axis.get_majorticklocs()).tolist()
    low, high = sorted(axis.get_view_interval())
    texts = axis.get_major_formatter().format_ticks(places)
    return [text for place, text in zip(places, texts, strict=True) if low <= place <= high]


def _rows(legend: Legend) -> int:
    columns: int = legend._ncols  # type: ignore[attr-defined] # nothing public says it
    return math.ceil(len(legend.get_texts()) / columns)
