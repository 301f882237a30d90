"""Findings that follow from the windows of loads: errors, a load that was as asked, two conditions compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from scipy import stats

from harness.judge import words
from harness.judge.intervals import ALPHA_FAIL, ALPHA_PASS
from harness.judge.operations.blocks import Block, Compared, pooled
from harness.judge.operations.facts import amount, fact, names
from harness.judge.validity.lag import LAG_SHARE, MIN_LAG_S
from harness.types import Finding, Outcome

Facts = Mapping[str, Any]

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def blocks_of(observations: Facts, load: str, stages: Iterable[int], part: str | None = None) -> list[Block]:
    """The blocks of a load's windows in those stages, in their order; [] where there are none."""
    wanted = set(stages)
    return [
        block
        for window in observations.get("windows") or []
        if window["load"] == load and window["stage"] in wanted and part in (None, window["part"])
        for block in window["blocks"]
    ]


def windows_of(observations: Facts, load: str) -> list[Facts]:
    return [window for window in observations.get("windows") or [] if window["load"] == load]


def errors(metric: str, windows: Sequence[Facts], most: float) -> Finding:
    """Failed requests of all windows. Proven above `most` (exact binomial, 99 %) is a failure."""
    blocks = [block for window in windows for block in window["blocks"]]
    n, failed = sum(block["due"] for block in blocks), sum(block["failed"] for block in blocks)
    if not n:
        return fact(metric, "no data", "No request was seen")
    classes = sorted({name for window in windows for name in window.get("errors", {})})
    why = f": {names(classes)}" if classes else ""
    said = f"{failed} of {amount(n, 'request')} failed{why}"
    if failed and float(stats.beta.ppf(ALPHA_FAIL, failed, n - failed + 1)) > most:
        return fact(metric, "fail", f"{said}; at most {most:.3g} of them may")
    if failed / n > most:
        return fact(metric, "inconclusive", f"{said}: more than {most:.3g} of them, by chance perhaps")
    return fact(metric, "pass", said)


def none_failed(metric: str, what: str, windows: Sequence[Facts]) -> Finding:
    """Of the requests while something was changed."""
    blocks = [block for window in windows for block in window["blocks"]]
    n, failed = sum(block["due"] for block in blocks), sum(block["failed"] for block in blocks)
    if not n:
        return fact(metric, "no data", f"{what}: no request was seen meanwhile")
    if failed:
        classes = names(sorted({name for window in windows for name in window.get("errors", {})}))
        return fact(metric, "fail", f"{what}: {failed} of {amount(n, 'request')} failed: {classes}")
    return fact(metric, "pass", f"{what}: 0 of {amount(n, 'request')} failed")


def as_asked(
    metric: str, windows: Sequence[Facts], judged: Iterable[str] = tuple(QUANTILES), remark: str = "",
    *, least_s: float = MIN_LAG_S,
) -> Finding:  # fmt: skip
    """Whether the generator sent when it should: otherwise its own lateness would be taken for the server's.

    At each quantile that is `judged` the lag (sent - due) may be a tenth of the response time, and `least_s` in any
    case (1 ms): as `judge.validity` has it. In a closed loop nothing is due before it is sent.
    """
    if not windows or not any(block["due"] for window in windows for block in window["blocks"]):
        return fact(metric, "no data", "No request was seen")
    lags: list[tuple[float, str, float, float]] = []
    names_judged = tuple(judged)
    for window in windows:
        for name in names_judged:
            lag, took = (pooled(window["blocks"], each, QUANTILES[name]) for each in ("send_lag", "response_time"))
            if window["rate"] is not None and lag is not None and took is not None:
                lags.append((lag / max(least_s, LAG_SHARE * took), name, lag, took))
    if not lags:
        return fact(metric, "pass", f"{windows[0]['in_flight']} in flight: each left when another had ended{remark}")
    used, name, lag, took = max(lags)
    said = f"{name} of its lag was {words.time(lag)}, of the response time {words.time(took)}"
    if used > 1:
        why = "The load generator fell behind its own schedule: this machine was too slow for it"
        return fact(metric, "inconclusive", f"{why}; {said}{remark}")
    return fact(metric, "pass", f"The load generator kept up: {said}{remark}")


def unless_late(load: Finding, found: Iterable[Finding]) -> list[Finding]:
    """Comparisons of a load whose generator fell behind are neither for nor against anything."""
    if load.outcome == "pass":
        return list(found)
    return [
        replace(
            one, outcome="inconclusive", reason=f"{one.reason}; the load generator fell behind, so it does not count"
        )
        if one.outcome in ("pass", "fail")
        else one
        for one in found
    ]


def at_most(metric: str, found: Compared | None, limit: float, what: str, alpha_fail: float) -> Finding:
    """A time in b may be at most `limit` times that in a. `what` is compared, for the sentence."""
    if found is None:
        return _nothing(metric, what)
    outcome: Outcome = (
        "pass" if bounds(found)[1] <= limit else "fail" if found.lower(alpha_fail) > limit else "inconclusive"
    )
    return compared(metric, found, outcome, what, limit, f"at most {limit:.3g}x")


def at_least(metric: str, found: Compared | None, limit: float, what: str, alpha_fail: float) -> Finding:
    """A rate in b has to be at least `limit` times that in a."""
    if found is None:
        return _nothing(metric, what)
    outcome: Outcome = (
        "pass" if bounds(found)[0] >= limit else "fail" if found.upper(alpha_fail) < limit else "inconclusive"
    )
    return compared(metric, found, outcome, what, limit, f"at least {limit:.3g}x")


def shown(metric: str, found: Compared | None, what: str) -> Finding:
    """A comparison without a limit."""
    return _nothing(metric, what) if found is None else compared(metric, found, "pass", what, None, "no limit")


def bounds(found: Compared) -> tuple[float, float]:
    """The 90 % interval: either bound holds with 95 %."""
    return found.lower(ALPHA_PASS), found.upper(ALPHA_PASS)


def compared(metric: str, found: Compared, outcome: Outcome, what: str, limit: float | None, rule: str) -> Finding:
    """`metric` ends in the name of a throughput, or in that of a time's quantile."""
    low, high = bounds(found)
    rate = metric.endswith("throughput")
    a, b = (f"{words.number(value)}/s" if rate else words.time(value) for value in (found.a, found.b))
    said = f"{what}: {a} -> {b}, {words.number(found.ratio)}x ({words.number(low)} to {words.number(high)}; {rule})"
    return Finding(
        metric, outcome, said, unit="ratio", effect=found.ratio, interval=(low, high), margin=limit,
        baseline=found.a, candidate=found.b,
    )  # fmt: skip


def _nothing(metric: str, what: str) -> Finding:
    return fact(metric, "no data", f"{what}: too few requests to compare")
