"""What a recording holds beside its requests (for those see `report.requests`), as pages and figures need it. Times are
float64 seconds from the run's start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from harness.types import StagePlan, StageRecord

if TYPE_CHECKING:
    from harness.recording import Recording

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """One measured quantity of one device over time."""

    source: str
    device: str
    metric: str
    unit: str
    t_s: Floats
    value: Floats


def spans(stages: Sequence[StageRecord], last_s: float) -> list[tuple[StagePlan, float, float]]:
    """Each stage that began, with begin and end in seconds; a stage that was cut off ends with the data."""
    ordered = sorted(stages, key=lambda stage: stage.begin_ns)
    found = []
    for number, stage in enumerate(ordered):
        after = ordered[number + 1].begin_ns * 1e-9 if number + 1 < len(ordered) else last_s
        end = after if stage.end_ns is None else stage.end_ns * 1e-9
        found.append((stage.plan, stage.begin_ns * 1e-9, max(end, stage.begin_ns * 1e-9)))
    return found


def readings(recording: Recording) -> list[Series]:
    """Every series of the readings in time order; values that are not finite are dropped."""
    table = recording.readings
    if table is None or not table.num_rows:
        return []
    table = table.filter(pc.is_finite(table["value"])).sort_by("t_ns")
    keys = ["source", "device", "metric", "unit"]
    groups = table.group_by(keys).aggregate([("value", "count")]).sort_by([(key, "ascending") for key in keys])
    found = []
    for row in groups.select(keys).to_pylist():
        here = table
        for key in keys:
            here = here.filter(pc.equal(here[key], row[key]))
        found.append(Series(**row, t_s=here["t_ns"].to_numpy() * 1e-9, value=here["value"].to_numpy()))
    return found


def flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """A JSON value as rows of dotted key and text."""
    if isinstance(value, dict):
        return [row for key, inner in value.items() for row in flat(inner, f"{prefix}.{key}" if prefix else str(key))]
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return [row for index, item in enumerate(value) for row in flat(item, f"{prefix}[{index}]")]
    text = ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
    return [(prefix, text)] if text else []
