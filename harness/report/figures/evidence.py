"""The evidence over time: effect and interval at looks through each stage, against the margin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from harness.report import words
from harness.report.evidence import Track
from harness.report.facts import Floats
from harness.report.figures.common import TIME_LABEL, WIDTH, TimeAxis, real, short
from harness.report.figures.forest import UNITS, tick
from harness.report.figures.layout import Room
from harness.report.svg import BAND, COLORS, FAINT, INK, style, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARK = {"pass": "o", "fail": "X", "inconclusive": "D", "no data": "D"}
_PANEL = 1.75  # inches
_FURTHEST = 4.0
"""So many margins away an interval runs off the panel: the first looks know little and must not flatten the last."""


def evidence_over_time(tracks: Sequence[Track], time: TimeAxis, key: str) -> str:
    """One panel a metric and unit, all stages in it, on the shared time axis; "" where there is nothing to draw."""
    shown = [track for track in tracks if track.over_time]
    rows = list(dict.fromkeys((track.end.metric, track.end.unit) for track in shown))
    if not rows:
        return ""
    with style():
        figure = Figure(figsize=(WIDTH, 0.5 + _PANEL * len(rows)), layout=Room())
        panels = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
        for number, (axes, row) in enumerate(zip(panels, rows, strict=True)):
            time.draw(axes, names=number == 0)
            _panel(axes, [track for track in shown if (track.end.metric, track.end.unit) == row], time)
            scale = UNITS.get(row[1], row[1]).partition(",")[0]  # the ticks have the unit
            axes.set_title(short(f"{row[0]}: {scale}", 54), loc="left", pad=14 if number == 0 else 5)
        panels[-1].set_xlabel(TIME_LABEL)
        names = ", ".join(dict.fromkeys(metric for metric, _ in rows))
        return to_svg(
            figure, f"evidence-{key}", f"Evidence over time: effect and interval of {names} against the margin"
        )


def _panel(axes: Axes, tracks: Sequence[Track], time: TimeAxis) -> None:
    unit = tracks[0].end.unit
    low, high = _limits(tracks, 1.0 if unit == "ratio" else 0.0)
    axes.set_ylim(low, high)
    axes.axhline(1.0 if unit == "ratio" else 0.0, color=FAINT, linewidth=0.8)
    for number, track in enumerate(tracks):
        _margin(axes, track, low, high)
        _line(axes, track, first=number == 0)
        _decision(axes, track, time)
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    if unit == "ratio":  # round differences, not round ratios
        places = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(100 * (low - 1), 100 * (high - 1))
        axes.set_yticks([1 + place / 100 for place in places if low <= 1 + place / 100 <= high])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value, unit)))


def _margin(axes: Axes, track: Track, low: float, high: float) -> None:
    margin = track.end.margin
    assert margin is not None
    span = [track.begin_s, float(track.at[-1])]
    beyond = low if words.falls(track.end) else high
    axes.fill_between(span, margin, beyond, color=COLORS["fail"], alpha=0.13, linewidth=0)
    axes.plot(span, [margin] * 2, color=COLORS["fail"], linewidth=1.4)


def _line(axes: Axes, track: Track, *, first: bool) -> None:
    """The interval as a band with edges, so that either end can be read; an open end reaches the panel's edge."""
    known = np.isfinite(track.low) | np.isfinite(track.high)
    bottom, top = axes.get_ylim()
    low = np.where(known & ~np.isfinite(track.low), bottom, track.low)
    high = np.where(known & ~np.isfinite(track.high), top, track.high)
    axes.fill_between(track.at, low, high, color=BAND, linewidth=0, zorder=1.5)
    for edge, name in ((low, "at least"), (high, "at most")):
        axes.plot(track.at, edge, color=FAINT, linewidth=1.0, linestyle="--", label=name if first else "_" + name)
    axes.plot(track.at, track.effect, color=INK, linewidth=1.6, label="effect" if first else "_effect")
    for outcome, mark in _MARK.items():
        here = np.asarray([one == outcome for one in track.outcomes])
        color = COLORS[outcome if outcome in ("pass", "fail") else "open"]
        axes.plot(track.at[here], track.effect[here], mark, color=color, markersize=3.0, linestyle="")
    mark, color = (
        _MARK[track.end.outcome],
        COLORS[track.end.outcome if track.end.outcome in ("pass", "fail") else "open"],
    )
    axes.plot(track.at[-1:], track.effect[-1:], mark, color=color, markersize=6.0)


def _decision(axes: Axes, track: Track, time: TimeAxis) -> None:
    if track.decided is None:
        return
    at = float(track.at[track.decided])
    color = COLORS["fail" if track.end.outcome == "fail" else "pass"]
    axes.axvline(at, color=color, linewidth=1.2, linestyle=":")
    right = at < time.begin + 0.6 * (time.end - time.begin)
    text = f"{track.end.outcome}, after {words.seconds(at - track.begin_s)}"
    axes.annotate(
        text, (at, 0.03), xycoords=axes.get_xaxis_transform(), xytext=(4 if right else -4, 0),
        textcoords="offset points", ha="left" if right else "right", va="bottom", fontsize=8,
    )  # fmt: skip


def _limits(tracks: Sequence[Track], zero: float) -> tuple[float, float]:
    """No difference and the margins lie within, and of effects and intervals what is not too far out."""
    settled = [each for track in tracks for each in (track.effect[-1], track.end.margin) if real(each)]
    reach = _FURTHEST * max((abs(each - zero) for each in settled), default=0.0) or 0.01
    every = np.concatenate([_settled(track) for track in tracks] + [np.asarray(settled, np.float64)]) - zero
    down, up = min(reach, max(0.0, float(-every.min()))), min(reach, max(0.0, float(every.max())))
    pad = 0.12 * (down + up or reach)
    return zero - down - pad, zero + up + pad


def _settled(track: Track) -> Floats:
    """What the later half of the looks saw."""
    half = slice(len(track.at) // 2, None)
    values = np.concatenate([track.effect[half], track.low[half], track.high[half]])
    return np.asarray(values[np.isfinite(values)])
