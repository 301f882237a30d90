"""What the scorers of a run gave its answers: read, never computed here (a scorer is somebody's program)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

Place = tuple[int, int, str]  # stage, pair_id, arm


@dataclass(frozen=True, slots=True)
class Marks:
    """By scorer: the score of each answer, from 0 to 1, and by stage why there is none."""

    scores: Mapping[str, Mapping[Place, float]] = field(default_factory=dict)
    errors: Mapping[str, Mapping[int, str]] = field(default_factory=dict)

    @property
    def scorers(self) -> tuple[str, ...]:
        return tuple(sorted({*self.scores, *self.errors}))


def marks(table: pa.Table | None) -> Marks:
    """From a table of the schema SCORES. A score that is none makes its scorer fail in that stage."""
    scores: dict[str, dict[Place, float]] = {}
    errors: dict[str, dict[int, str]] = {}
    for row in table.to_pylist() if table is not None else ():
        scorer, stage, score = row["scorer"], row["stage"], row["score"]
        if row["error"]:
            errors.setdefault(scorer, {})[stage] = row["error"]
        elif not math.isfinite(score) or not 0 <= score <= 1:
            errors.setdefault(scorer, {})[stage] = f"expected a score from 0 to 1, found {score}"
        else:
            scores.setdefault(scorer, {})[stage, row["pair_id"], row["arm"]] = score
    return Marks(scores, errors)
