"""The trials of find-max-load as a table, in the order in which they were made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.recording import quantile
from harness.report import words
from harness.report.fact_table import FactTable

Facts = Mapping[str, Any]

_WHY = {"bracket": "doubling", "bisect": "bisection", "confirm": "confirmation"}


def find_tables(observations: Facts) -> list[FactTable]:
    """Of each objective the share of requests beyond it, with its interval as it was judged."""
    objectives = observations.get("objectives") or []
    trials = observations.get("trials") or []
    sure = f"{observations.get('confidence', 0.0):.4g}"
    columns = ("trial", "load", "for", "seconds", "requests", "p50", "p99", "good/s")
    beyond = tuple(f"beyond {objective['words']}" for objective in objectives)
    rows = [_row(number, trial, observations) for number, trial in enumerate(trials, 1)]
    wanted = [
        (objective["words"], words.percent(objective["allowed"]), words.percent(float(sure)))
        for objective in objectives
    ]
    return [
        FactTable("Objectives", ("objective", "requests that may be beyond it", "confidence of either bound"), wanted),
        FactTable("Trials, in the order in which they were made", (*columns, *beyond, "outcome"), rows),
    ]


def _row(number: int, trial: Facts, observations: Facts) -> tuple[str, ...]:
    level = words.number(trial["level"]) + ("/s" if observations["open_loop"] else " in flight")
    judged = trial["judged"]
    shares = (
        f"{words.percent(share['beyond'] / share['n'] if share['n'] else None)} "
        f"({words.percent(share['low'])} to {words.percent(share['high'])})"
        for share in judged["shares"]
    )
    return (
        str(number),
        level,
        _WHY[trial["purpose"]],
        words.number(trial["seconds"]),
        f"{sum(block['due'] for block in trial['blocks']):,}",
        *(_time(trial["window"]["blocks"], q) for q in (0.5, 0.99)),
        words.number(judged["good"]),
        *shares,
        judged["outcome"] + (f": {judged['reason']}" if judged["reason"] else ""),
    )


def _time(blocks: Any, q: float) -> str:
    found = [block["times"]["response_time"] for block in blocks if block["times"].get("response_time")]
    if not found:
        return words.NONE
    bins, counts = ([value for part in found for value in part[side]] for side in (0, 1))
    return words.seconds(float(quantile(bins, counts, q)))
