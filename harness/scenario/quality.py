"""The quality metrics of a gate: what each needs to be recorded, and how its margin or limit is written."""

from __future__ import annotations

import re
from collections.abc import Callable

from harness.units import (
    format_percent,
    format_points,
    parse_number,
    parse_points,
    parse_relative,
    parse_share_limit,
)

# Both arms are given the baseline's text: needs top-k log-probabilities and a paired stage.
FORCED = ("quality.kl", "quality.kl.p99", "quality.perplexity", "quality.top1", "quality.flips")
TEXTS = ("quality.logprob", "quality.score", "quality.finish")
VECTORS = ("quality.cosine", "quality.neighbours")
QUALITY = (*FORCED, *TEXTS, *VECTORS)
ONE_SCORER = "quality.score."
SCORER = r"^[a-z0-9][a-z0-9_-]{0,39}$"
"""The name of a scorer."""
NUMBERS = ("quality.kl", "quality.kl.p99", "quality.logprob", "quality.cosine")


def is_quality(metric: str) -> bool:
    return metric in QUALITY or (metric.startswith(ONE_SCORER) and scorer_of(metric) is not None)


def scorer_of(metric: str) -> str | None:
    """`exact` of `quality.score.exact`, "" of `quality.score`; None of what is no score."""
    if metric == "quality.score":
        return ""
    name = metric.removeprefix(ONE_SCORER)
    return name if metric.startswith(ONE_SCORER) and re.fullmatch(SCORER, name) else None


def example(metric: str) -> str:
    """How a gate on it may be written, without the metric."""
    if margin_parser(metric) is not None:
        return "margin: 2%" if metric == "quality.perplexity" else "margin: 2pp"
    if metric in NUMBERS:
        return {"quality.logprob": "max: 0.02", "quality.cosine": "max: 0.01"}.get(metric, "max: 0.06")
    return "max: 5%"


def margin_parser(metric: str) -> Callable[[object], float] | None:
    """Of metrics that are held against the baseline's own value; None for the others, which have a limit."""
    if metric == "quality.perplexity":
        return parse_relative
    return parse_points if metric == "quality.finish" or scorer_of(metric) is not None else None


def margin_text(metric: str, margin: float) -> str:
    return format_percent(margin) if metric == "quality.perplexity" else format_points(margin)


def limit_parser(metric: str) -> Callable[[object], float] | None:
    if margin_parser(metric) is not None:
        return None
    return parse_number if metric in NUMBERS else parse_share_limit


def limit_text(metric: str, limit: float) -> str | float:
    return limit if metric in NUMBERS else format_percent(limit)
