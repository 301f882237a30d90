"""Peaks of memory in an operation, as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.report import words
from harness.report.fact_table import FactTable

Facts = Mapping[str, Any]


def memory_table(windows: Iterable[tuple[str, Facts]]) -> FactTable:
    """The peak of each thing that was read in each window of time, which is named."""
    rows = [
        (
            name,
            peak["name"],
            words.size(peak["used"], "bytes"),
            words.NONE if peak["capacity"] is None else words.percent(peak["used"] / peak["capacity"]),
            words.seconds(peak["every_s"]) if peak["every_s"] else words.NONE,
            peak["gap"] or words.NONE,
        )
        for name, read in windows
        for peak in read.get("peaks") or []
    ]
    return FactTable("Peaks of memory", ("when", "of", "peak", "of what there is", "read every", "not read"), rows)
