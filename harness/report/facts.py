"""A recording as the arrays that pages and figures need. Times are float64 seconds from the run's start."""

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
Bools = npt.NDArray[np.bool_]
ARMS = ("baseline", "candidate", "stable")


@dataclass(frozen=True)
class Requests:
    """One entry a request; scoring requests are in, marked by `scoring`. Unknown times are NaN."""

    arm: npt.NDArray[np.int8]  # index into ARMS; -1 any other
    stage: npt.NDArray[np.int32]
    at: Floats  # sent, else due, else done
    ok: Bools
    scoring: Bools
    times: dict[str, Floats]  # by metric; NaN unless the request was answered
    has_tokens: bool

    def __len__(self) -> int:
        return len(self.arm)

    def of(self, arm: str) -> Bools:
        return np.asarray(self.arm == ARMS.index(arm)) & ~self.scoring

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that were asked anything."""
        return tuple(arm for arm in ARMS if bool((self.arm == ARMS.index(arm)).any()))


@dataclass(frozen=True)
class ErrorRow:
    arm: str
    status: str
    error: str
    code: str
    count: int
    share: float  # of this arm's requests
    first_s: float


@dataclass(frozen=True)
class Series:
    """One measured quantity of one device over time."""

    source: str
    device: str
    metric: str
    unit: str
    t_s: Floats
    value: Floats


def requests(recording: Recording) -> Requests:
    table = recording.samples

    def at(name: str) -> Floats:
        value = table[name].to_numpy().astype(np.float64)
        value[value < 0] = np.nan
        return np.asarray(value * 1e-9)

    arm = np.full(table.num_rows, -1, np.int8)
    for index, name in enumerate(ARMS):
        arm[pc.equal(table["arm"], name).to_numpy(zero_copy_only=False)] = index
    ok = pc.equal(table["status"], "ok").to_numpy(zero_copy_only=False)
    scoring = pc.equal(table["assignment"], "score").to_numpy(zero_copy_only=False)
    due, sent, first, done = (at(name) for name in ("due_ns", "sent_ns", "first_ns", "done_ns"))
    osl = table["osl"].to_numpy().astype(np.float64)
    judged = ok & ~scoring
    with np.errstate(divide="ignore", invalid="ignore"):
        times = {
            "ttft": first - sent,
            "tpot": np.where(osl > 1, (done - first) / (osl - 1), np.nan),
            "response_time": done - due,
            "request_latency": done - sent,
        }
    for value in times.values():
        value[~judged | (value < 0)] = np.nan
    begin = np.where(np.isnan(sent), np.where(np.isnan(due), done, due), sent)
    return Requests(arm, table["stage"].to_numpy(), begin, ok, scoring, times, bool((osl[judged] > 0).any()))


def equal_load(data: Requests, plans: Sequence[StagePlan]) -> tuple[Bools, str]:
    """The requests whose latencies may be compared between arms, and a sentence that says which they are."""
    fair = [plan.index for plan in plans if plan.mode != "split" and plan.purpose == "compare"]
    if not fair:
        shares = {plan.index: plan.shares for plan in plans if plan.purpose == "compare"}
        fair = [index for index, of in shares.items() if of.get("baseline") == of.get("candidate")]
    if not plans:
        return np.ones(len(data), bool), "All requests that were answered."
    if not fair:
        return (
            np.ones(len(data), bool),
            "All answered requests. The arms never had equal load, so a difference need not be the build's.",
        )
    names = ", ".join(str(index + 1) for index in fair)
    word = "stage" if len(fair) == 1 else "stages"
    return np.isin(data.stage, fair), f"Answered requests of {word} {names}, where both arms had equal load."


def spans(stages: Sequence[StageRecord], last_s: float) -> list[tuple[StagePlan, float, float]]:
    """Each stage that began, with begin and end in seconds; a stage that was cut off ends with the data."""
    ordered = sorted(stages, key=lambda stage: stage.begin_ns)
    found = []
    for number, stage in enumerate(ordered):
        after = ordered[number + 1].begin_ns * 1e-9 if number + 1 < len(ordered) else last_s
        end = after if stage.end_ns is None else stage.end_ns * 1e-9
        found.append((stage.plan, stage.begin_ns * 1e-9, max(end, stage.begin_ns * 1e-9)))
    return found


def errors(recording: Recording, data: Requests) -> list[ErrorRow]:
    """Failed requests by arm, status, class and code, most frequent first. Scoring requests count, too."""
    table = recording.samples.select(["arm", "status", "error", "code"]).append_column(
        "at", [pc.if_else(pc.is_nan(data.at), None, data.at)]
    )
    failed = table.filter(pc.not_equal(table["status"], "ok"))
    keys = ["arm", "status", "error", "code"]
    grouped = failed.group_by(keys).aggregate([("at", "min"), ("arm", "count")]).to_pylist()
    asked = {arm: max(1, int((data.arm == index).sum())) for index, arm in enumerate(ARMS)}
    rows = [
        ErrorRow(
            arm=row["arm"],
            status=row["status"],
            error=row["error"],
            code=row["code"],
            count=row["arm_count"],
            share=row["arm_count"] / asked.get(row["arm"], table.num_rows),
            first_s=row["at_min"] if row["at_min"] is not None else float("nan"),
        )
        for row in grouped
    ]
    return sorted(rows, key=lambda row: (-row.count, row.arm, row.status, row.error, row.code))


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
