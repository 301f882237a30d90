"""The page of a history: what changed, the newest first; then one small chart for each metric of each series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from harness.report import frame, words
from harness.report.figures.history import history, moved, shown
from harness.types.timeline import Curve, Shift, Timeline

MOST_CHARTS = 40
"""Those with a change first, the newest and the worse first; the others stand in a table."""
_MOST_CHANGES = 100
_RANK = {"worse": 0, "changed": 1, "better": 2}


class Row(NamedTuple):
    """A change, in words."""

    series: str
    metric: str
    tone: str
    direction: str
    moved: str
    levels: str
    between: str
    began: str
    found: str


def history_page(lines: Sequence[Timeline], damaged: Sequence[str] = ()) -> str:
    """The whole page. `damaged`: what could not be read. The same arguments give the same bytes."""
    charted = _charted(lines)
    changes = [(line, curve, shift) for line in lines for curve in line.curves for shift in curve.shifts]
    changes.sort(key=lambda found: _RANK[found[2].direction])
    changes.sort(key=lambda found: found[2].began, reverse=True)
    worse = [found for found in changes if found[2].direction == "worse"]
    context = {
        "words": words,
        "damaged": damaged,
        "runs": sum(line.runs for line in lines),
        "series": [_series(number, line, charted) for number, line in enumerate(lines)],
        "changes": [_row(*found) for found in changes[:_MOST_CHANGES]],
        "changes_left": max(0, len(changes) - _MOST_CHANGES),
        "worse": len(worse),
        "first": min((line.first for line in lines), default="")[:10],
        "last": max((line.last for line in lines), default="")[:10],
    }
    return frame.render("history.html.j2", context)


def _charted(lines: Sequence[Timeline]) -> set[tuple[int, int]]:
    """Which curves are drawn: number of the series and of the curve."""
    every = [
        (_order(curve), -line_number, -curve_number)
        for line_number, line in enumerate(lines)
        for curve_number, curve in enumerate(line.curves)
        if curve.points or curve.hollow
    ]
    return {(-line, -curve) for _, line, curve in sorted(every, reverse=True)[:MOST_CHARTS]}


def _order(curve: Curve) -> tuple[str, str]:
    """What came last, of what became worse, then of anything."""
    worse = max((shift.began for shift in curve.shifts if shift.direction == "worse"), default="")
    return worse, max((shift.began for shift in curve.shifts), default="")


def _series(number: int, line: Timeline, charted: set[tuple[int, int]]) -> dict[str, Any]:
    numbered = sorted(enumerate(line.curves), key=lambda found: _order(found[1]), reverse=True)
    return {
        "title": words.one_line(line.title),
        "words": line.words,
        "runs": line.runs,
        "first": line.first[:10],
        "last": line.last[:10],
        "unfit": line.unfit,
        "spans": line.spans,
        "charts": [
            {
                "name": _named(curve),
                "svg": Markup(history(curve, line, f"h{number}-{place}")),
                "latest": shown(curve.latest, curve),
                "count": curve.count,
                "changes": [_row(line, curve, shift) for shift in reversed(curve.shifts[-3:])],
            }
            for place, curve in numbered
            if (number, place) in charted
        ],
        "others": [
            (_named(curve), shown(curve.latest, curve), f"{curve.count:,}")
            for place, curve in numbered
            if (number, place) not in charted
        ],
    }


def _named(curve: Curve) -> str:
    return curve.name if curve.of == "candidate" else f"{curve.name} against the baseline"


def _row(line: Timeline, curve: Curve, shift: Shift) -> Row:
    change = shift.change
    return Row(
        series=line.title,
        metric=_named(curve),
        tone={"worse": "fail", "better": "pass", "changed": "inconclusive"}[shift.direction],
        direction=shift.direction,
        moved=moved(shift, curve),
        levels=f"{shown(change.before, curve)} → {shown(change.after, curve)}",
        between=f"between {shift.after} and {shift.until}",
        began=shift.began[:10],
        found=shift.found[:10],
    )
