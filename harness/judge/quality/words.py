"""What a quality finding says it saw, in half a sentence for each metric; and its numbers as they are told."""

from __future__ import annotations

import math

from harness.judge import words
from harness.judge.metrics import QUALITY_MARGINS, scorer_of
from harness.judge.quality.excess import Excess
from harness.judge.quality.values import Values
from harness.judge.quality.vectors import K
from harness.types import Gate

UNITS = {
    "quality.kl": "nats",
    "quality.kl.p99": "nats",
    "quality.logprob": "nats",
    "quality.top1": "rate",
    "quality.flips": "rate",
    "quality.perplexity": "ratio",
    "quality.finish": "pp",
    "quality.cosine": "cosine",
    "quality.neighbours": "rate",
}


def unit(metric: str) -> str:
    return "pp" if scorer_of(metric) is not None else UNITS[metric]


def limit_of(gate: Gate) -> float:
    """A gate's limit in the unit that the effect is estimated in: of a perplexity ratio its logarithm."""
    if gate.limit is not None:
        return gate.limit
    margin = gate.margin or 0.0
    return math.log1p(margin) if gate.metric == "quality.perplexity" else margin


def told(metric: str, value: float) -> float:
    """An effect in the finding's unit."""
    return math.exp(min(value, 700.0)) if metric == "quality.perplexity" else value


def amount(metric: str, value: float) -> str:
    """An effect or a limit in a sentence."""
    if metric == "quality.perplexity":
        return words.percent(math.expm1(min(value, 700.0)))
    if scorer_of(metric) is not None or metric in QUALITY_MARGINS:
        return words.points(value)
    return words.percent(value) if unit(metric) == "rate" else words.number(value)


def what(metric: str, found: Excess, values: Values, names: tuple[str, str]) -> str:
    """`names`: what the baseline and the candidate are called."""
    v1, v2 = names
    effect, floor = found.seen.effect, found.floor or 0.0
    prompts = words.count(found.prompts, "prompt")
    own = "the baseline's own floor" if v1.startswith("the ") else f"the {v1}-{v1} floor"
    if scorer_of(metric) is not None:
        return f"{v2} scores {words.percent(found.value)}, {v1} {words.percent(floor)} ({prompts}{_flips(found)})"
    if metric == "quality.finish":
        return (
            f"{words.percent(1 - found.value)} of {v2}'s answers and {words.percent(1 - floor)} of {v1}'s ended for "
            f"another reason than {values.usual!r}, {v1}'s most frequent ({prompts}{_flips(found)})"
        )
    if metric == "quality.flips":
        return (
            f"{v2} answers otherwise than {v1} in {words.percent(found.value)} of cases "
            f"({prompts}; how often {v1} differs from itself is not known)"
        )
    if metric == "quality.top1":
        return (
            f"on {v1}'s text {v2} prefers another token in {words.percent(found.value)} of places, {v1} "
            f"itself in {words.percent(floor)}: {words.points(effect)} more ({prompts})"
        )
    if metric == "quality.perplexity":
        bound = f"; {words.percent(found.censored)} of tokens are not among {v2}'s likeliest" if found.censored else ""
        return f"the perplexity of {v1}'s text is {words.change(math.exp(effect))} for {v2} ({prompts}{bound})"
    if metric == "quality.logprob":
        if effect == 0:
            return f"{v2} finds its own answers as likely as {v1} its own ({prompts})"
        return (
            f"{v2} finds its own answers {words.number(abs(effect))} nats a token "
            f"{'less' if effect > 0 else 'more'} likely than {v1} its own ({prompts})"
        )
    inputs = words.count(found.prompts, "input")
    known = found.floor is not None
    if metric == "quality.cosine":
        above = f" above {own} of {words.number(floor)} ({inputs})" if known else f" ({inputs}; {own} is not known)"
        return f"1 - cosine of {v2}'s vectors to {v1}'s is {words.number(effect)}{above}"
    if metric == "quality.neighbours":
        above = f" above {own} of {words.percent(floor)} ({inputs})" if known else f" ({inputs}; {own} is not known)"
        return f"{words.percent(effect)} of the {K} nearest neighbours change{above}"
    which = "99th percentile of KL" if metric.endswith("p99") else "mean KL"
    return (
        f"{which} of {v2} on {v1}'s text is {words.number(effect)} nats a token above {own} of {words.number(floor)} "
        f"({prompts})"
    )


def _flips(found: Excess) -> str:
    if found.flips is None:
        return ""
    return f"; {found.flips.worse} turned worse, {found.flips.better} better"
