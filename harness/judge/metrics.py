"""The metrics that can be gated: their names, their defaults, and what a gate on each may say."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from harness.errors import UsageError
from harness.types import Gate

TIMES = ("ttft", "tpot", "response_time", "request_latency")
STATISTICS = ("p50", "p90", "p95", "p99", "mean")
QUALITY = ("quality.kl", "quality.kl.p99", "quality.top1", "quality.flips")
LATENCY = tuple(f"{time}.{statistic}" for time in TIMES for statistic in STATISTICS)
KNOWN = ("errors", *LATENCY, "osl", *QUALITY)

DEFAULT_TIME_MARGIN = 0.10
DEFAULT_ERROR_MARGIN = 0.01
DEFAULT_OSL_MARGIN = 0.10

_ALIASES = {time: f"{time}.p50" for time in TIMES}


def known_metric(name: str) -> bool:
    """True for what a gate may name: a metric of KNOWN, or a bare time such as `ttft` (its p50)."""
    return name in KNOWN or name in _ALIASES


def is_latency(name: str) -> bool:
    return name in LATENCY


def quantile_of(name: str) -> float | None:
    """0.99 of `ttft.p99`; None for a mean."""
    statistic = name.rsplit(".", 1)[-1]
    return int(statistic[1:]) / 100 if statistic.startswith("p") else None


def normalise(gates: Iterable[Gate]) -> tuple[Gate, ...]:
    """The gates with full names and every margin filled in.

    Raises UsageError, naming the gate, for an unknown metric, a metric twice, a negative margin, or a kind of
    rule that the metric does not have. Latency and `osl` margins are relative, those of errors are percentage
    points; quality takes `limit` (or an absolute `margin`, which means the same there: both are read as the
    most that the candidate may exceed the v1-v1 floor by). `quality.top1` is gated on *dis*agreement.
    """
    normal = tuple(_normal(gate) for gate in gates)
    names = [gate.metric for gate in normal]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"gate {name}: is given {names.count(name)} times; once is enough")
    return normal


def _normal(gate: Gate) -> Gate:
    if not known_metric(gate.metric):
        raise UsageError(f"gate {gate.metric!r}: unknown metric; known are {', '.join(KNOWN)}")
    gate = dataclasses.replace(gate, metric=_ALIASES.get(gate.metric, gate.metric))
    name = gate.metric
    if gate.margin is not None and gate.limit is not None:
        raise UsageError(f"gate {name}: has a margin and a limit; it takes one of them")
    for word, value in (("margin", gate.margin), ("limit", gate.limit)):
        if value is not None and not 0 <= value < float("inf"):
            raise UsageError(f"gate {name}: {word} {value} must be a number from 0 up")
    if name in QUALITY:
        return _quality(gate)
    if name == "errors":
        return _errors(gate)
    if name == "osl" and gate.limit is not None:
        raise UsageError("gate osl: takes a relative margin (how far the length may drift), not a limit")
    if gate.limit is not None:
        return gate
    if gate.margin is None:
        default = DEFAULT_OSL_MARGIN if name == "osl" else DEFAULT_TIME_MARGIN
        return dataclasses.replace(gate, margin=default, margin_kind="relative")
    if gate.margin_kind != "relative":
        raise UsageError(f"gate {name}: takes a relative margin such as 10%, or a limit")
    return gate


def _errors(gate: Gate) -> Gate:
    if gate.limit is not None:
        if gate.limit >= 1:
            raise UsageError(f"gate errors: limit {gate.limit} must be a rate below 1")
        return gate
    if gate.margin is None:
        return dataclasses.replace(gate, margin=DEFAULT_ERROR_MARGIN, margin_kind="absolute")
    if gate.margin_kind != "absolute":
        raise UsageError("gate errors: takes percentage points such as 3pp, or a limit, not a relative margin")
    if not 0 < gate.margin < 1:
        raise UsageError(f"gate errors: margin {gate.margin} must be above 0 and below 1 (0.03 is 3pp)")
    return gate


def _quality(gate: Gate) -> Gate:
    if gate.limit is None and gate.margin is not None and gate.margin_kind == "absolute":
        gate = dataclasses.replace(gate, margin=None, limit=gate.margin)
    if gate.limit is None:
        raise UsageError(f"gate {gate.metric}: takes a limit, such as max: 0.06")
    return gate


def default_gates(*, token_model: bool, requests: int) -> tuple[Gate, ...]:
    """The gates where the scenario names none: 10 % for times, 1 percentage point for errors.

    `requests`: answered requests of the smaller arm; response_time.p99 is judged from 1,000 up. `osl` drift
    is always reported and never among these.
    """
    if token_model:
        times = ["ttft.p50", "tpot.p50"]
    else:
        times = ["response_time.p50", "response_time.p90"] + ["response_time.p99"] * (requests >= 1000)
    return normalise([Gate("errors"), *(Gate(name) for name in times)])
