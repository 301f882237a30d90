"""Longer answers told apart from slower ones: a request that says more takes longer, and is no slower for it."""

from __future__ import annotations

import math
from dataclasses import replace

from harness.judge import words
from harness.judge.rule import Rule
from harness.judge.statistics.blocks import block_logs, pooled
from harness.judge.statistics.robust import location
from harness.judge.times import latency
from harness.judge.view import StageView
from harness.types import Finding, Gate

WORTH = 0.02
"""Lengths that differ by less explain nothing."""
SURE = 2.0
"""And by less than so many standard errors."""


def told(view: StageView, gate: Gate, rule: Rule) -> Rule:
    """The rule of a time at equal load, whose sentence says so where answers differ in length."""

    def finding(failed: float | None) -> Finding:
        found = rule.finding(failed)
        said = explained(view, gate.metric, found.effect) if found.effect is not None else ""
        return replace(found, reason=found.reason + said) if said else found

    return replace(rule, finding=finding)


def explained(view: StageView, metric: str, ratio: float) -> str:
    """The tail of a sentence on a time of whole requests that is `ratio` times as long on the candidate; "" where its
    answers are as long as the baseline's, or nobody counted them.
    """
    if metric.partition(".")[0] not in ("response_time", "request_latency"):
        return ""
    blocks = latency.matched(view, "osl").blocks
    if blocks is None:
        return ""
    first, second = (pooled(blocks, arm, None) for arm in (0, 1))
    if min(first, second) <= 0:
        return ""
    longer = second / first
    one, two = block_logs(blocks, None)
    middle, error, _ = location(two - one)
    if abs(longer - 1) < WORTH or abs(middle) < SURE * error or not math.isfinite(ratio):
        return ""
    how = "longer" if longer > 1 else "shorter"
    each = words.change(ratio / longer).replace("higher", "more").replace("lower", "less")
    return f"; answers are {words.percent(abs(longer - 1))} {how}, so for each output token it takes {each}"
