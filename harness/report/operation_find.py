"""The trials of find-max-load as a table, in the order in which they were made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.report import words
from harness.report.fact_table import FactTable
from harness.report.operation_memory import memory_table

Facts = Mapping[str, Any]

_WHY = {"bracket": "doubling", "bisect": "bisecting", "confirm": "confirming"}


def find_tables(observations: Facts) -> list[FactTable]:
    """Of each objective the share of requests beyond it, with its interval as it was judged."""
    objectives = observations.get("objectives") or []
    trials = observations.get("trials") or []
    if not trials:
        return []
    sure, repeats = float(observations["confidence"]), observations["repeats"]
    either = words.percent(sure)
    if repeats:  # they share what may go wrong with the answer
        either += f", {words.percent(1 - (1 - sure) / (repeats + 1))} confirming,"
    beyond = tuple(f"beyond {objective['words']} ({either} either way)" for objective in objectives)
    columns = ("load", "to", "seconds", "requests", "goodput/s", *beyond, "outcome")
    rows = [_row(trial, bool(observations["open_loop"])) for trial in trials]
    memory = memory_table(
        (f"{number}: {_level(trial, bool(observations['open_loop']))}", trial.get("memory") or {})
        for number, trial in enumerate(trials, 1)
    )
    return [FactTable("Trials, in the order in which they were made", columns, rows), memory]


def _row(trial: Facts, open_loop: bool) -> tuple[str, ...]:
    blocks, found = trial["blocks"], trial["found"]
    requests = sum(block["due"] for block in blocks)
    good = sum(block["good"] for block in blocks) / max(trial["seconds"], 1e-9)
    shares = (
        f"{_percent(sum(block['beyond'][i] for block in blocks) / requests if requests else None)} "
        f"({_percent(low)} to {_percent(high)})"
        for i, (low, high) in enumerate(found["bounds"])
    )
    return (
        _level(trial, open_loop),
        _WHY[trial["purpose"]],
        words.number(trial["seconds"]),
        f"{requests:,}",
        words.number(good),
        *shares,
        found["outcome"] + (f": {found['reason']}" if found["reason"] else ""),
    )


def _level(trial: Facts, open_loop: bool) -> str:
    return f"{trial['level']:g}" + ("/s" if open_loop else " in flight")


def _percent(share: float | None) -> str:
    """No line ends before the sign."""
    return words.percent(share).replace(" ", "\N{NO-BREAK SPACE}")
