"""Findings that follow from the windows of loads: errors, two conditions compared, drift."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.judge import words
from harness.judge.operations.blocks import Block, Compared
from harness.judge.operations.facts import amount, fact, names
from harness.judge.statistics.counts import rate_lower, rate_upper, requests_for
from harness.judge.statistics.intervals import ALPHA_FAIL, ALPHA_PASS
from harness.types import Finding, Outcome

Facts = Mapping[str, Any]


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
    """Failed requests of all windows, by exact binomial bounds (Clopper and Pearson): within `most` with 95 %, beyond
    it with 99 %, or not yet known.
    """
    blocks = [block for window in windows for block in window["blocks"]]
    n, failed = sum(block["due"] for block in blocks), sum(block["failed"] for block in blocks)
    if not n:
        return fact(metric, "no data", "No request was seen")
    classes = sorted({name for window in windows for name in window.get("errors", {})})
    why = f": {names(classes)}" if classes else ""
    upper = rate_upper(failed, n, ALPHA_PASS)
    said = f"{failed} of {amount(n, 'request')} failed{why}"
    sure = f"95 % sure: at most {words.percent(upper)} do, {words.margin(most)} may"
    if upper <= most or failed == most == 0:
        return fact(metric, "pass", f"{said} ({sure})")
    if rate_lower(failed, n, ALPHA_FAIL) > most:
        return fact(metric, "fail", f"{said}; at most {words.margin(most)} of them may")
    needed = requests_for(most, ALPHA_PASS, failed)
    more = f"it takes {needed:,} requests of which no {'more' if failed else 'one'} fails"
    return fact(metric, "inconclusive", f"{said} ({sure}): {more}")


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


def agreed(found: Sequence[Finding]) -> Finding:
    """Of one question that was asked more than once: it passes, or fails, where it does so each time. Shown is the
    answer that is least good.
    """
    order = ("no data", "fail", "inconclusive", "pass")
    least = min(found, key=lambda one: (order.index(one.outcome), abs((one.effect or 0.0) - (one.margin or 0.0))))
    same = least.outcome == "no data" or all(one.outcome == least.outcome for one in found)
    return least if same else replace(least, outcome="inconclusive")


def drift(metric: str, found: Compared | None, most: float, who: str) -> Finding:
    """`who` at the beginning and at the end, under the same conditions: what else changed on the machine meanwhile."""
    if found is None:
        return fact(metric, "no data", f"Too few requests to compare {who} at the end with the beginning")
    low, high = bounds(found)
    said = f"{who} at the end against the beginning: {found.ratio:.3g}x ({low:.3g} to {high:.3g})"
    if low > 1 + most or high < 1 / (1 + most):
        return fact(metric, "inconclusive", f"Something else changed meanwhile: {said}")
    return fact(metric, "pass", f"No drift beyond {most:.0%} is shown: {said}")


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
