"""What a metrics store would hold of a recording: one point an arm for every 5 s of due time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from harness.judge.columns import BASELINE, CANCELLED, CANDIDATE, OK, TIMEOUT, Columns, Floats, Ints
from harness.judge.metrics import is_latency, quantile_of
from harness.judge.times.derived import lengths, seconds
from harness.judge.view import StageView

POINT_S = 5.0
COMPARES = "compare"
"""The purpose of stages that Kayenta is shown: nobody compares a deploy, a warm-up or a soak."""


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Of one metric, either arm's points in the order of time; NaN where an arm has no value in a step.

    Row i of both is the same 5 s. `unit`: ms, %, tokens, /s or tokens/s. `requests`: how many the median point of the
    arm with less is made of.
    """

    baseline: Floats
    candidate: Floats
    unit: str
    requests: int


def series(views: Iterable[StageView], metric: str) -> Series | None:
    """The points of all stages in which the plan gives both arms requests, one after the other.

    None for metrics of which there is none: quality compares answers to one prompt, memory and energy are a device's.
    """
    measure = _measure(metric)
    if measure is None:
        return None
    rows: tuple[list[Floats], list[Floats]] = ([], [])
    sizes: tuple[list[Ints], list[Ints]] = ([], [])
    for view in views:
        if view.plan.purpose != COMPARES or not {"baseline", "candidate"} <= set(view.plan.shares):
            continue
        steps = _steps(view)
        for arm, found, counted in zip((BASELINE, CANDIDATE), rows, sizes, strict=True):
            mine = view.samples.take(view.samples.arm == arm)
            values = measure.values(mine)
            known = np.isfinite(values)
            moment = mine.done_ns if measure.counts else mine.due_ns
            at = np.clip((moment[known] - view.record.begin_ns) // round(POINT_S * 1e9), 0, steps - 1)
            found.append(measure.gather(at, values[known], steps) * measure.scale)
            counted.append(np.bincount(at, minlength=steps))
    one, two = (np.concatenate(found) if found else np.empty(0) for found in rows)
    filled = [every[every > 0] for every in (np.concatenate(c) if c else np.empty(0, np.int64) for c in sizes)]
    return Series(one, two, measure.unit, min((int(np.median(f)) if len(f) else 0) for f in filled))


@dataclass(frozen=True, slots=True)
class _Measure:
    """`values` of requests, NaN where there is none; `gather(step, values, steps)` makes points of them. `counts`: of
    what is counted when it is done, not when it was due.
    """

    values: Callable[[Columns], Floats]
    gather: Callable[[Ints, Floats, int], Floats]
    unit: str
    scale: float = 1.0
    counts: bool = False


def _measure(metric: str) -> _Measure | None:
    if metric == "errors":
        return _Measure(_failures, _means, "%", 100.0)
    if metric == "osl":
        return _Measure(_lengths, _means, "tokens")
    if metric == "request_throughput":
        return _Measure(lambda columns: np.where(columns.status == OK, 1.0, np.nan), _rates, "/s", counts=True)
    if metric == "output_token_throughput":
        return _Measure(_lengths, _rates, "tokens/s", counts=True)
    if not is_latency(metric) or metric.split(".", 1)[0] not in ("ttft", "tpot", "response_time", "request_latency"):
        return None
    quantile = quantile_of(metric)
    gather = _means if quantile is None else lambda at, values, steps: _quantiles(at, values, steps, quantile)
    return _Measure(lambda columns: _times(columns, metric), gather, "ms", 1e3)


def _times(columns: Columns, metric: str) -> Floats:
    """As the gates take them: of requests that were answered or timed out, without those that score."""
    kept = ~columns.score & ((columns.status == OK) | (columns.status == TIMEOUT))
    return np.where(kept, seconds(columns, metric), np.nan)


def _lengths(columns: Columns) -> Floats:
    return np.where(columns.score, np.nan, lengths(columns))


def _failures(columns: Columns) -> Floats:
    return np.where(columns.status == CANCELLED, np.nan, columns.failed.astype(np.float64))


def _steps(view: StageView) -> int:
    """How many points the stage has; a remainder of under half a step belongs to the last."""
    due = view.samples.due_ns
    last = int(due.max()) if len(due) else view.record.begin_ns
    return max(round((last - view.record.begin_ns) / 1e9 / POINT_S), 1)


def _means(at: Ints, values: Floats, steps: int) -> Floats:
    counts = np.bincount(at, minlength=steps).astype(np.float64)
    sums = np.bincount(at, weights=values, minlength=steps)
    return np.divide(sums, counts, out=np.full(steps, np.nan), where=counts > 0)


def _rates(at: Ints, values: Floats, steps: int) -> Floats:
    """A second; nothing is 0."""
    return np.bincount(at, weights=values, minlength=steps) / POINT_S


def _quantiles(at: Ints, values: Floats, steps: int, quantile: float) -> Floats:
    """Linear interpolation, as numpy's."""
    order = np.lexsort((values, at))
    ranked = values[order]
    counts = np.bincount(at, minlength=steps)
    full = counts > 0
    start = (np.cumsum(counts) - counts)[full]
    place = quantile * (counts[full] - 1)
    below = np.floor(place).astype(np.int64)
    above = np.minimum(below + 1, counts[full] - 1)
    points = np.full(steps, np.nan)
    low, high = ranked[start + below], ranked[start + above]
    points[full] = low + (high - low) * (place - below)
    return points
