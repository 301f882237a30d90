"""The looks of a replay in a terminal: when each was made, where it leaned, and the finding that led."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.report import words
from harness.report.terminal import COLOR
from harness.types import Finding, Look


def looks_table(looks: Sequence[Look]) -> RenderableType:
    """One row a look. Where several looks in a row say the same, only the first and the last of them are shown."""
    made = f"{len(looks)} look{'' if len(looks) == 1 else 's'}, of which each saw what was done by then:"
    return Group(Text(made), _table(looks), Text())


def _table(looks: Sequence[Look]) -> Table:
    many = len({look.verdict.stage for look in looks}) > 1
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    if many:
        table.add_column("stage", justify="right", no_wrap=True)
    table.add_column("after", justify="right", no_wrap=True)
    table.add_column("look", no_wrap=True)
    table.add_column("leads", no_wrap=True)
    for name in ("effect", "interval", "margin"):
        table.add_column(name, no_wrap=True)
    for row in _shortened(looks):
        if isinstance(row, int):
            table.add_row(*[Text()] * many, Text("…", style="dim"), Text(f"{row} more like it", style="dim"))
            continue
        found = _leads(row)
        figures = [words.effect(found), words.interval(found), words.margin(found)] if found else []
        table.add_row(
            *[Text(str(row.verdict.stage + 1))] * many,
            f"{row.after_s:.1f}".removesuffix(".0") + " s",
            Text(f"{words.SIGN[row.verdict.verdict]} {_word(row)}", style=COLOR[row.verdict.verdict]),
            Text(f"{words.SIGN[found.outcome]} {found.metric}", COLOR[found.outcome]) if found else Text(words.NONE),
            *figures,
        )
    return table


def _word(look: Look) -> str:
    if look.live:
        return f"{look.verdict.verdict}, live"
    return f"{look.verdict.verdict}{', end' if look.end else ''}"


def _leads(look: Look) -> Finding | None:
    """What failed, else what is open, else the comparison nearest its margin."""
    told = words.telling(look.verdict.findings)
    return next((f for f in told if not words.informs(f)), None)


def _shortened(looks: Sequence[Look]) -> list[Look | int]:
    """Runs of looks that are alike, cut to the first and the last, with the number of those between."""
    runs: list[list[Look]] = []
    for look in looks:
        if runs and _alike(runs[-1][-1], look):
            runs[-1].append(look)
        else:
            runs.append([look])
    rows: list[Look | int] = []
    for run in runs:
        rows += run if len(run) <= 3 else [run[0], len(run) - 2, run[-1]]
    return rows


def _alike(one: Look, two: Look) -> bool:
    return not two.end and _key(one) == _key(two)


def _key(look: Look) -> tuple[object, ...]:
    found = _leads(look)
    return look.verdict.stage, look.verdict.verdict, look.live, found and (found.metric, found.outcome)
