"""How many requests each version has answered, by Triton's statistics extension: no metrics port is needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests since the version was loaded; whoever sent them, and whether or not they named a version."""

    success: int
    failure: int

    @property
    def total(self) -> int:
        return self.success + self.failure


def counts(rows: Iterable[Mapping[str, Any]]) -> dict[int, Counts]:
    """From the rows of the statistics answer; gRPC leaves out what is 0."""
    found = {}
    for row in rows:
        stats = row.get("inference_stats", {})
        success, failure = (int(stats.get(kind, {}).get("count", 0)) for kind in ("success", "fail"))
        found[int(row["version"])] = Counts(success, failure)
    return dict(sorted(found.items()))
