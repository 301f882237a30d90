"""Findings that follow from the windows of loads: errors, whether the load was as asked, and two conditions compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scipy import stats

from harness.judge.intervals import ALPHA_FAIL, ALPHA_PASS
from harness.judge.operations.blocks import REQUESTS_BEYOND, Block, Compared, pooled
from harness.judge.operations.facts import amount, fact, names
from harness.types import Finding, Outcome

Facts = Mapping[str, Any]

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
LATE_S, LATE_SHARE = 0.005, 0.1
"""A generator kept up where 99 % of its requests left within 5 ms of their time, or a tenth of what an answer takes."""


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


def milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"


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


def as_asked(metric: str, windows: Sequence[Facts]) -> Finding:
    """Whether the generator sent when it should: otherwise its own lateness would be taken for the server's."""
    if not windows or not any(block["due"] for window in windows for block in window["blocks"]):
        return fact(metric, "no data", "No request was seen")
    worst: tuple[float, float] | None = None
    for window in windows:
        lag = pooled(window["blocks"], "send_lag", 0.99)
        took = pooled(window["blocks"], "response_time", 0.5)
        if window["rate"] is None or lag is None or took is None:
            continue
        if worst is None or lag - LATE_SHARE * took > worst[0] - LATE_SHARE * worst[1]:
            worst = (lag, took)
    if worst is None:
        return fact(metric, "pass", f"{windows[0]['in_flight']} in flight: each request left when another had ended")
    lag, took = worst
    said = f"99 % of the requests left within {milliseconds(lag)} of their time"
    if lag > max(LATE_S, LATE_SHARE * took):
        return fact(metric, "inconclusive", f"The load generator fell behind: {said}; this machine was too slow for it")
    return fact(metric, "pass", said)


def at_most(
    metric: str, found: Compared | None, limit: float, words: str, alpha_fail: float, *, seconds: bool = True
) -> Finding:
    """b may be at most `limit` times a. `words`: the sentence's middle, such as "together against alone"."""
    if found is None:
        return fact(metric, "no data", f"Too few requests to compare {words}")
    low, high = found.lower(ALPHA_PASS), found.upper(ALPHA_PASS)
    if high <= limit:
        outcome: Outcome = "pass"
    elif found.lower(alpha_fail) > limit:
        outcome = "fail"
    else:
        outcome = "inconclusive"
    return compared(metric, found, outcome, f"{words} (at most {limit:.3g}x)", (low, high), limit, seconds=seconds)


def at_least(metric: str, found: Compared | None, limit: float, words: str, alpha_fail: float) -> Finding:
    """b has to be at least `limit` times a."""
    if found is None:
        return fact(metric, "no data", f"Too little was done to compare {words}")
    low, high = found.lower(ALPHA_PASS), found.upper(ALPHA_PASS)
    if low >= limit:
        outcome: Outcome = "pass"
    elif found.upper(alpha_fail) < limit:
        outcome = "fail"
    else:
        outcome = "inconclusive"
    return compared(metric, found, outcome, f"{words} (at least {limit:.3g}x)", (low, high), limit, seconds=False)


def shown(metric: str, found: Compared | None, words: str, *, seconds: bool = True) -> Finding:
    """A comparison without a limit."""
    if found is None:
        return fact(metric, "no data", f"Too few requests to compare {words}")
    bounds = (found.lower(ALPHA_PASS), found.upper(ALPHA_PASS))
    return compared(metric, found, "pass", words, bounds, None, seconds=seconds)


def compared(
    metric: str, found: Compared, outcome: Outcome, words: str, bounds: tuple[float, float], limit: float | None, *,
    seconds: bool,
) -> Finding:  # fmt: skip
    """The interval is the 90 % one: either bound holds with 95 %."""
    a, b = (milliseconds(v) if seconds else f"{v:.3g}/s" for v in (found.a, found.b))
    said = f"{a} -> {b}: {found.ratio:.3g}x ({bounds[0]:.3g} to {bounds[1]:.3g}), {words}"
    return Finding(
        metric, outcome, said, unit="ratio", effect=found.ratio, interval=bounds, margin=limit,
        baseline=found.a, candidate=found.b,
    )  # fmt: skip


def too_few(name: str) -> str:
    """Why a quantile is not judged."""
    return f"{name} takes {REQUESTS_BEYOND / (1 - QUANTILES[name]):.0f} requests"
