"""The trials of find-max-load as a table, in the order in which they were made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.report import words
from harness.report.fact_table import FactTable

Facts = Mapping[str, Any]

_PURPOSE = {"bracket": "doubling", "bisect": "bisecting", "confirm": "confirming"}
_BEYOND = "beyond {of} (interval; {allowed} may)"


def find_tables(observations: Facts) -> list[FactTable]:
    """find-max-load. A trial's interval and outcome are those by which the run decided what to try next."""
    objectives = observations.get("objectives") or []
    columns = (
        "trial", "load", "to", "seconds", "requests",
        *(_BEYOND.format(of=one["words"], allowed=words.percent(one["allowed"])) for one in objectives),
        "done/s", "goodput/s", "outcome",
    )  # fmt: skip
    rows = [_row(observations, number, trial) for number, trial in enumerate(observations.get("trials") or [], 1)]
    return [FactTable("Trials", columns, rows)]


def _row(observations: Facts, number: int, trial: Facts) -> tuple[str, ...]:
    blocks, found = trial["blocks"], trial["found"]
    seconds, due = (sum(block[what] for block in blocks) for what in ("seconds", "due"))
    unit = "/s" if observations["open_loop"] else " in flight"
    shares = []
    for index, bounds in enumerate(found["bounds"]):
        beyond = sum(block["beyond"][index] for block in blocks)
        low, high = map(words.percent, bounds)
        shares.append(f"{words.percent(beyond / due)} ({low} to {high})" if due else words.NONE)
    why = f": {found['reason']}" if found["reason"] else ""
    return (
        str(number),
        f"{trial['level']:g}{unit}",
        _PURPOSE[trial["purpose"]],
        f"{seconds:g}",
        f"{due:,}",
        *shares,
        *(words.number(sum(block[what] for block in blocks) / seconds) for what in ("done", "good")),
        found["outcome"] + why,
    )
