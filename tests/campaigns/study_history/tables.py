"""What happened, as rates with Clopper and Pearson's 95 % intervals, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.judge.statistics.counts import rate_lower, rate_upper
from tests.campaigns.study_history.cells import CHECKED, METRICS, Happened
from tests.campaigns.study_history.worlds import worlds

REPEATS = (1, 3, 5)


def rate(found: Sequence[Happened], column: str) -> float | None:
    """Of those of whom it was asked."""
    asked = [bool(one[column]) for one in found if one.get(column) is not None]
    return sum(asked) / len(asked) if asked else None


def shown(found: Sequence[Happened], column: str) -> str:
    asked = [bool(one[column]) for one in found if one.get(column) is not None]
    if not asked:
        return ""
    k, n = sum(asked), len(asked)
    return f"{100 * k / n:.1f} ({100 * rate_lower(k, n, 0.025):.1f} to {100 * rate_upper(k, n, 0.025):.1f})"


def middle(found: Sequence[Happened], column: str) -> str:
    asked = [one[column] for one in found if one.get(column) is not None]
    return f"{np.median(asked):.0f}" if asked else ""


def render(found: Mapping[str, Sequence[Happened]], repetitions: int) -> str:
    changed = [world for world in worlds() if world.step]
    calm = [world for world in worlds() if not world.step]
    lines = [
        f"{repetitions} simulated histories a row, 3 % noise, 60 runs where nothing else is said; per cent, with 95 % "
        "intervals. Each history is analysed after every run.",
        "",
        "**No step: histories in which a change was told after any run**, and what the analysis at the end told",
        "",
        "| history | after any run | at the end | changes told at the end, mean |",
        "|---|---|---|---|",
    ]
    for world in calm:
        here = found[world.name]
        told = f"{np.mean([one['told'] for one in here]):.2f}"
        lines.append(f"| {world.name} | {shown(here, 'false')} | {shown(here, 'false at the end')} | {told} |")
    lines += [
        "",
        "**A step: found in time**, and of the hits: the commit as it was named then, and at the end",
        "",
        "| history | told within | found | median runs | exact commit | within one | true one in the 95 % range "
        "| exact at the end | within one | in the range | false before |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    columns = ("exact", "near", "covered", "exact at the end", "near at the end", "covered at the end", "false")
    for world in changed:
        here = found[world.name]
        cells = [shown(here, "hit"), middle(here, "runs"), *(shown(here, column) for column in columns)]
        lines.append(f"| {world.name} | {world.within} runs | " + " | ".join(cells) + " |")
        if world.back:
            lines.append(f"| the way back | 15 runs | {shown(here, 'back')} |" + " |" * 8)
    lines += [
        "",
        f"**The peer: `ruptures.Pelt`, l2, penalty 3 ln n**, {len(found['peer: no change'])} of the same histories",
        "",
        "| history | false after any run | false at the end | found in time | exact commit | within one |",
        "|---|---|---|---|---|---|",
    ]
    for name in ("no change", "+10 %", "+5 %"):
        here = found[f"peer: {name}"]
        cells = [shown(here, column) for column in ("false", "false at the end", "hit", "exact", "near")]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"**The check against 30 runs, {METRICS} metrics, smallest effect 5 %**",
        "",
        f"| noise | repeats | red without a change | one metric inconclusive | red at +10 % in one of {METRICS} "
        "| red at +10 %, one metric alone |",
        "|---|---|---|---|---|---|",
    ]
    for noise in CHECKED:
        for repeats in REPEATS:
            here = found[f"check: {noise}, {repeats}"]
            cells = [shown(here, column) for column in ("red", "unclear", "red at +10 %", "red alone at +10 %")]
            lines.append(f"| {noise} | {repeats} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def required(found: Mapping[str, Sequence[Happened]]) -> dict[str, Any]:
    """The rates that are promised, beside what is promised; and whether all are kept."""
    rows = {
        "false_alarms": (rate(found["no change"], "false"), 0.02),
        "found_10pct_within_5": (rate(found["+10 %"], "hit"), 0.95),
        "exact_10pct": (rate(found["+10 %"], "exact"), 0.80),
        "exact_10pct_at_the_end": (rate(found["+10 %"], "exact at the end"), 0.80),
        "found_5pct_within_15": (rate(found["+5 %"], "hit"), 0.80),
        "near_5pct": (rate(found["+5 %"], "near"), 0.70),
        "near_5pct_at_the_end": (rate(found["+5 %"], "near at the end"), 0.70),
        **{f"check_false_{n}": (rate(found[f"check: normal, {n}"], "red"), 0.01) for n in REPEATS},
    }
    kept = all(
        value is not None and (value <= limit if "false" in name else value >= limit)
        for name, (value, limit) in rows.items()
    )
    figures = {name: {"rate": round(value or 0.0, 4), "required": limit} for name, (value, limit) in rows.items()}
    return {"kept": kept, **figures}
