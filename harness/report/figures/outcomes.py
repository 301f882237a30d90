"""Failed requests over time, and how far outputs diverge."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from harness.report.figures.common import CURVE, LINES, TIME_LABEL, TimeAxis, finite, legend_below, new_figure
from harness.report.requests import FAILED, SCORING_FAILED, Floats, Requests
from harness.report.svg import BAND, COLORS, style, to_svg

_SMALLEST_KL = 1e-6


def errors_over_time(data: Requests, time: TimeAxis) -> str:
    """Failed requests per bin, baseline upwards beside candidate."""
    failed = {arm: data.counts(arm, FAILED, SCORING_FAILED) for arm in data.arms}
    failed = {arm: counts for arm, counts in failed.items() if counts.any()}
    if not failed:
        return ""
    begin = np.concatenate([edges[:-1] for edges in data.edges])
    room = np.concatenate([np.diff(edges) for edges in data.edges])
    with style():
        figure, axes = new_figure(2.1)
        time.draw(axes)
        widths = room / len(failed) * 0.86
        for number, (arm, counts) in enumerate(failed.items()):
            axes.bar(
                begin + room * 0.07 + number * widths, counts, widths, align="edge",
                color=COLORS[arm], label=arm, edgecolor=BAND, linewidth=0,
                hatch="////" if arm == "candidate" else None,
            )  # fmt: skip
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_ylim(bottom=0)
        axes.set_ylabel("failed requests")
        axes.set_xlabel(TIME_LABEL)
        legend_below(figure, axes, len(failed))
        return to_svg(figure, "errors", "Failed requests over time")


def divergence(kl: dict[str, Floats], limit: float | None) -> str:
    """Cumulative share of scored answers over their mean KL divergence, log scale: floor and candidate."""
    found = {arm: np.sort(finite(values)) for arm, values in kl.items() if len(finite(values))}
    if not found:
        return ""
    names = {"baseline": "baseline again (floor)", "candidate": "candidate"}
    with style():
        figure, axes = new_figure(2.5)
        smallest = 1e-6
        for arm, values in found.items():
            shares = np.linspace(0, 1, min(CURVE, max(2, len(values))))
            points = np.maximum(np.quantile(values, shares), smallest)
            axes.plot(
                points,
                100 * shares,
                LINES[arm],
                color=COLORS[arm],
                linewidth=1.8,
                label=names.get(arm, arm),
                clip_on=False,
            )
            axes.axvline(max(float(values.mean()), smallest), color=COLORS[arm], linewidth=0.8, linestyle=":")
        if limit:
            axes.axvline(limit, color=COLORS["fail"], linewidth=1.4)
            axes.text(
                limit, 1.02, "limit of the mean", transform=axes.get_xaxis_transform(), ha="right",
                va="bottom", fontsize=8,
            )  # fmt: skip
        axes.set_xscale("log")
        top = max([float(values.max()) for values in found.values()] + [limit or 0.0, 1e-4])
        axes.set_xlim(smallest, top * 1.6)
        axes.xaxis.set_major_locator(LogLocator(numticks=7))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(
            FuncFormatter(
                lambda value, _: "≤10⁻⁶" if value <= smallest * 1.01 else f"{value:.6f}".rstrip("0").rstrip(".")
            )
        )
        axes.set_xlabel("KL divergence from the baseline's answer, nats per token")
        axes.set_ylim(0, 101)
        axes.set_ylabel("answers at most this, %")
        legend_below(figure, axes, len(found), columns=1)
        return to_svg(figure, "kl", "Divergence of the candidate's tokens from the baseline's, beside the floor")
