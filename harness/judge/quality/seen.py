"""What a stage gives for each quality metric: its rows by prompt, and what they amount to."""

from __future__ import annotations

from dataclasses import dataclass

from harness.judge.metrics import scorer_of
from harness.judge.quality.excess import Excess, means, passes, tail
from harness.judge.quality.scored import Scores
from harness.judge.quality.values import Values, finishes, logprobs
from harness.judge.quality.values import scores as scored_values
from harness.judge.quality.vectors import cosines, neighbours
from harness.judge.statistics.resample import generator
from harness.judge.view import StageView

FORCED = ("quality.kl", "quality.kl.p99", "quality.top1", "quality.perplexity")
"""Of the baseline's text, which both arms score."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a stage gives for one metric; `found` is None where it is too little to resample: under two prompts."""

    found: Excess | None
    values: Values


def see(view: StageView, metric: str, scores: Scores) -> Seen:
    """Worked out once a view: a gate and its sentence ask for the same."""
    key = f"quality {metric}"
    if key not in view.kept:
        view.kept[key] = _see(view, metric, scores)
    seen: Seen = view.kept[key]
    return seen


def _see(view: StageView, metric: str, scores: Scores) -> Seen:
    rng = generator(view.evidence.seed, metric, view.index)
    if metric == "quality.kl.p99":
        return Seen(tail(scores.pairs, rng), Values())
    if metric == "quality.flips":
        rows = [(prompt, 0.0, float(flip)) for prompt, flip in scores.flips]
        return Seen(means(rows, rng, floor=False), Values())
    if metric in FORCED:
        censored = 0.0
        if metric == "quality.top1":
            rows = [(pair.prompt, *pair.differ) for pair in scores.pairs]
        elif metric == "quality.perplexity":
            rows = [(pair.prompt, *pair.loss) for pair in scores.pairs]
            censored = sum(p.absent for p in scores.pairs) / max(sum(len(p.kl[1]) for p in scores.pairs), 1)
        else:
            rows = [(pair.prompt, float(pair.kl[0].mean()), float(pair.kl[1].mean())) for pair in scores.pairs]
        return Seen(means(rows, rng, floor=True, censored=censored), Values())
    if scorer_of(metric) is not None:
        values = scored_values(view, metric)
        return Seen(passes(values.rows, rng), values)
    if metric == "quality.finish":
        values = finishes(view)
        return Seen(passes(values.rows, rng, drift=True), values)
    if metric == "quality.logprob":
        values = logprobs(view)
        return Seen(means(values.rows, rng, floor=True, drift=True), values)
    values = cosines(view) if metric == "quality.cosine" else neighbours(view)
    return Seen(means(values.rows, rng, floor=values.floor), values)
