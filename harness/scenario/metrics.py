"""The metrics that a gate may name, and how its margin or limit is written for each."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from harness.scenario import quality
from harness.scenario.fields import memory_text
from harness.types import Gate
from harness.units import (
    format_duration,
    format_percent,
    format_points,
    parse_drop,
    parse_duration,
    parse_points,
    parse_relative,
    parse_share_limit,
)

REQUEST_TIMES = ("ttft", "tpot", "response_time", "request_latency")
TIMES = (*REQUEST_TIMES, "icl")
STATISTICS = ("p50", "p90", "p95", "p99", "mean")
LATENCY = tuple(f"{time}.{statistic}" for time in TIMES for statistic in STATISTICS)
QUALITY = quality.QUALITY

ERRORS = ("errors", "errors.objective")
# What the judge judges. A test holds this equal to harness.judge.metrics.KNOWN.
THROUGHPUT = ("request_throughput", "output_token_throughput", "throughput_per_gpu", "goodput")
RESOURCES = ("memory.peak", "energy")
OF_OWN_GPUS = ("throughput_per_gpu", "energy")
JUDGED = (*ERRORS, *LATENCY, "osl", *QUALITY, *THROUGHPUT, *RESOURCES)

DEFAULT_ERROR_MARGIN = 0.01
DEFAULT_MARGIN = 0.10


def parse_metric(name: str) -> str:
    """The full name of a judged metric (`ttft` is `ttft.p50`). ValueError says what is known."""
    full = f"{name}.p50" if name in TIMES else name
    if full in JUDGED or is_quality(full):
        return full
    close = difflib.get_close_matches(name, (*JUDGED, *TIMES), n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise ValueError(f"expected a metric ({judged_words()}), found {name!r}{hint}")


def judged_words() -> str:
    """The judged metrics in a few words."""
    rest = ", ".join(("osl", *QUALITY, *THROUGHPUT, *RESOURCES))
    return f"{', '.join(ERRORS)}, {', '.join(TIMES)} with .{', .'.join(STATISTICS)}, {rest}"


def is_quality(metric: str) -> bool:
    return quality.is_quality(metric)


def is_latency(metric: str) -> bool:
    return metric in LATENCY


def is_amount(metric: str) -> bool:
    """A throughput, memory or energy."""
    return metric in (*THROUGHPUT, *RESOURCES)


def quantile(metric: str) -> float | None:
    """0.99 for `ttft.p99`; None for means and for what is no quantile."""
    statistic = metric.rpartition(".")[2]
    return int(statistic[1:]) / 100 if metric in LATENCY and statistic != "mean" else None


def margin_parser(metric: str) -> Callable[[object], float] | None:
    """How `margin` is written for this metric; None if it takes none."""
    if metric in ERRORS:
        return parse_points if metric == "errors" else None
    if metric in THROUGHPUT:
        return parse_drop
    return quality.margin_parser(metric) if is_quality(metric) else parse_relative


def margin_text(metric: str, margin: float) -> str:
    if is_quality(metric):
        return quality.margin_text(metric, margin)
    return format_points(margin) if metric == "errors" else format_percent(margin)


def limit_parser(metric: str) -> Callable[[object], float] | None:
    """How `max` is written for this metric; None if it takes none. That of memory.peak is a `fields.MemoryLimit`."""
    if is_latency(metric):
        return _parse_time_limit
    if metric == "osl" or is_amount(metric):
        return None
    return quality.limit_parser(metric) if is_quality(metric) else parse_share_limit


def limit_text(gate: Gate) -> str | float:
    assert gate.limit is not None
    if is_latency(gate.metric):
        return format_duration(gate.limit)
    if gate.metric == "memory.peak":
        return memory_text(gate)
    return quality.limit_text(gate.metric, gate.limit) if is_quality(gate.metric) else format_percent(gate.limit)


def _parse_time_limit(value: object) -> float:
    seconds = parse_duration(value)
    if seconds == 0:
        raise ValueError(f"expected a duration above 0, found {value!r}")
    return seconds
