"""Another judge's opinion in a terminal: its verdict, a row a gate, and a sentence each on why it agrees or not."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.report import words
from harness.report.terminal import COLOR, outcome_text
from harness.types import MetricOpinion, SecondOpinion

_COLOR = {"pass": "green", "marginal": "yellow", "fail": "red"}


def draw_opinion(opinion: SecondOpinion) -> RenderableType:
    """Below the verdict, which it does not change."""
    head = Text.assemble(
        f"second opinion: {opinion.judge} says ",
        (opinion.verdict, f"bold {_COLOR[opinion.verdict]}"),
        f", score {opinion.score:g} (pass from {opinion.pass_from:g}, marginal from {opinion.marginal_from:g})",
    )
    parts: list[RenderableType] = [head, Text(words.one_line(opinion.reason[:1].upper() + opinion.reason[1:]))]
    if opinion.metrics:
        made = f"Of points of {opinion.point_s:g} s of each arm; z and shift by Mann-Whitney, ratio of the means:"
        parts += [Text(), Text(made, style="dim"), _table(opinion), Text()]
    parts += [_why(metric) for metric in opinion.metrics]
    if opinion.left_out:
        parts.append(Text(f"no series of points is made of {', '.join(opinion.left_out)}", style="dim"))
    return Group(*parts, Text())


def _table(opinion: SecondOpinion) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for name in ("metric", "Kayenta", "ours"):
        table.add_column(name, no_wrap=True)
    for name in ("points", "z", "ratio", "shift, 98 %"):
        table.add_column(name, justify="right", no_wrap=True)
    for metric in opinion.metrics:
        critical = " (critical)" if metric.critical else ""
        table.add_row(
            Text(metric.metric + critical),
            Text(metric.label, style="" if metric.label == "Pass" else COLOR["fail"]),
            outcome_text(metric.ours),
            " and ".join(str(n) for n in dict.fromkeys(metric.points)),
            words.NONE if metric.z is None else f"{metric.z:.1f}",
            words.NONE if metric.ratio is None else f"{metric.ratio:.3f}",
            _shift(metric),
        )
    return table


def _shift(metric: MetricOpinion) -> str:
    if metric.interval is None:
        return words.NONE
    low, high = (words.number(end) for end in metric.interval)
    return f"{low} to {high} {metric.unit}"


def _why(metric: MetricOpinion) -> Text:
    sign = ("=", "dim") if metric.agrees else ("≠", "bold")
    return Text.assemble(sign, f" {metric.metric}: {words.one_line(metric.reason)}")
