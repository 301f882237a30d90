"""The metrics that can be gated: their names, their defaults, and what a gate on each may say."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Literal

from harness.errors import UsageError
from harness.types import Gate

REQUEST_TIMES = ("ttft", "tpot", "response_time", "request_latency")
TIMES = (*REQUEST_TIMES, "icl")
STATISTICS = ("p50", "p90", "p95", "p99", "mean")
QUALITY = (
    *("quality.kl", "quality.kl.p99", "quality.perplexity", "quality.top1", "quality.flips"),
    *("quality.logprob", "quality.score", "quality.finish", "quality.cosine", "quality.neighbours"),
)
ONE_SCORER = "quality.score."
"""How the metric of one scorer among several begins: `quality.score.exact`."""
QUALITY_MARGINS: dict[str, Literal["relative", "absolute"]] = {
    "quality.perplexity": "relative",
    "quality.score": "absolute",
    "quality.finish": "absolute",
}
"""Quality metrics that are held against the baseline's own value, and how; the others have a limit on a distance."""
LATENCY = tuple(f"{time}.{statistic}" for time in TIMES for statistic in STATISTICS)
THROUGHPUT = ("request_throughput", "output_token_throughput", "throughput_per_gpu", "goodput")
RESOURCES = ("memory.peak", "energy")
ERRORS = ("errors", "errors.objective")
"""Failures against the baseline's (or a limit), and beside that against a limit that stops a run in an emergency."""
KNOWN = (*ERRORS, *LATENCY, "osl", *QUALITY, *THROUGHPUT, *RESOURCES)
LOWER_IS_WORSE = THROUGHPUT

DEFAULT_TIME_MARGIN = 0.10
DEFAULT_ERROR_MARGIN = 0.01
DEFAULT_OSL_MARGIN = 0.10

_ALIASES = {time: f"{time}.p50" for time in TIMES}


def known_metric(name: str) -> bool:
    """True for what a gate may name: a metric of KNOWN, or a bare time such as `ttft` (its p50)."""
    return name in KNOWN or name in _ALIASES or is_quality(name)


def is_quality(name: str) -> bool:
    return name in QUALITY or (name.startswith(ONE_SCORER) and len(name) > len(ONE_SCORER))


def scorer_of(name: str) -> str | None:
    """`exact` of `quality.score.exact`, "" of `quality.score` (the only one), None of what is no score."""
    if name == "quality.score":
        return ""
    return name.removeprefix(ONE_SCORER) if name.startswith(ONE_SCORER) else None


def is_latency(name: str) -> bool:
    return name in LATENCY


def of_equal_load(gate: Gate) -> bool:
    """Whether a gate is a comparison that only means something where both arms have the same load."""
    return (
        gate.metric == "osl"
        or gate.metric.startswith("icl.")
        or (gate.metric in (*THROUGHPUT, *RESOURCES) and gate.margin is not None)
    )


def quantile_of(name: str) -> float | None:
    """0.99 of `ttft.p99`; None for a mean."""
    statistic = name.rsplit(".", 1)[-1]
    return int(statistic[1:]) / 100 if statistic.startswith("p") else None


def normalise(gates: Iterable[Gate]) -> tuple[Gate, ...]:
    """The gates with full names and every margin filled in.

    Raises UsageError, naming the gate, for an unknown metric, a metric twice, a negative margin, or a kind of
    rule that the metric does not have. Latency and `osl` margins are relative, those of errors are percentage
    points; so are those of quality.score (how far it may drop) and quality.finish (how far it may drift), and
    quality.perplexity has a relative one. The rest of quality takes `limit` (or an absolute `margin`, which means the
    same there: both are read as the most that the candidate may exceed the v1-v1 floor by). `quality.top1` is gated on
    *dis*agreement.
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
    if is_quality(name):
        return _quality(gate)
    if name in ERRORS:
        return _errors(gate)
    if gate.limit_kind != "absolute" and name != "memory.peak":
        raise UsageError(f"gate {name}: only memory.peak has a limit that is a share of what there is")
    if gate.within and name != "goodput":
        raise UsageError(f"gate {name}: only goodput has limits within which a request is good")
    if name == "osl" and gate.limit is not None:
        raise UsageError("gate osl: takes a relative margin (how far the length may drift), not a limit")
    if name in (*THROUGHPUT, *RESOURCES):
        _amount(gate)
    if gate.limit is not None:
        return gate
    if gate.margin is None:
        default = DEFAULT_OSL_MARGIN if name == "osl" else DEFAULT_TIME_MARGIN
        return dataclasses.replace(gate, margin=default, margin_kind="relative")
    if gate.margin_kind != "relative":
        raise UsageError(f"gate {name}: takes a relative margin such as 10%, or a limit")
    return gate


def _amount(gate: Gate) -> None:
    """What is no time: a throughput, memory, energy."""
    name = gate.metric
    if gate.limit is not None and name not in ("goodput", "memory.peak"):
        raise UsageError(f"gate {name}: takes a relative margin such as 5%, not a limit")
    if gate.limit_kind == "share" and not 0 < (gate.limit or 0.0) < 1:
        raise UsageError(f"gate {name}: limit {gate.limit} must be a share above 0 and below 1")
    if name in LOWER_IS_WORSE and gate.margin is not None and gate.margin >= 1:
        raise UsageError(f"gate {name}: margin {gate.margin} must be below 1: it says how far it may be below")
    if name != "goodput":
        return
    if not gate.within or set(gate.within) - set(REQUEST_TIMES):
        raise UsageError(f"gate goodput: needs limits on {', '.join(REQUEST_TIMES)}, such as ttft within 500ms")
    if not all(0 < limit < float("inf") for limit in gate.within.values()):
        raise UsageError("gate goodput: each limit within which a request is good must be a duration above 0")
    if gate.limit is not None and not 0 < gate.limit < 1:
        raise UsageError(f"gate goodput: {gate.limit} must be a share of requests above 0 and below 1")


def _errors(gate: Gate) -> Gate:
    if gate.limit is not None:
        if gate.limit >= 1:
            raise UsageError(f"gate {gate.metric}: limit {gate.limit} must be a rate below 1")
        return gate
    if gate.metric != "errors":
        raise UsageError(f"gate {gate.metric}: takes a limit, such as max: 1%")
    if gate.margin is None:
        return dataclasses.replace(gate, margin=DEFAULT_ERROR_MARGIN, margin_kind="absolute")
    if gate.margin_kind != "absolute":
        raise UsageError("gate errors: takes percentage points such as 3pp, or a limit, not a relative margin")
    if not 0 < gate.margin < 1:
        raise UsageError(f"gate errors: margin {gate.margin} must be above 0 and below 1 (0.03 is 3pp)")
    return gate


def _quality(gate: Gate) -> Gate:
    kind = QUALITY_MARGINS.get("quality.score" if scorer_of(gate.metric) is not None else gate.metric)
    if kind is not None:
        example = "2%" if kind == "relative" else "2pp"
        if gate.margin is None or gate.margin_kind != kind:
            raise UsageError(
                f"gate {gate.metric}: takes {'a relative' if kind == 'relative' else 'an absolute'} margin "
                f"such as {example}"
            )
        if gate.margin == 0 or (kind == "absolute" and gate.margin >= 1):
            raise UsageError(
                f"gate {gate.metric}: margin {gate.margin} must be above 0"
                + ("" if kind == "relative" else " and below 1 (0.02 is 2pp)")
            )
        return gate
    if gate.limit is None and gate.margin is not None and gate.margin_kind == "absolute":
        gate = dataclasses.replace(gate, margin=None, limit=gate.margin)
    if gate.limit is None:
        raise UsageError(f"gate {gate.metric}: takes a limit, such as max: 0.06")
    return gate


def default_gates(*, token_model: bool, requests: int, due: bool = True, first: bool = True) -> tuple[Gate, ...]:
    """The gates where the scenario names none: 10 % for times, 1 percentage point for errors.

    `requests`: answered requests of the smaller arm; response_time.p99 is judged from 1,000 up. `osl` drift
    is always reported and never among these. `due`: due times are known; in a recording of another tool that has none,
    request_latency takes the place of response_time. `first`: it says when first tokens came.
    """
    if token_model:
        times = ["ttft.p50", "tpot.p50"]
    else:
        whole = "response_time" if due else "request_latency"
        times = ["ttft.p50"] * (first and not due) + [f"{whole}.p50", f"{whole}.p90"]
        times += [f"{whole}.p99"] * (requests >= 1000)
    return normalise([Gate("errors"), *(Gate(name) for name in times)])
