"""multi-model-server: what each of two models does to the other, together against alone.

Promote: they can live together within the limits. Rollback: a limit is proven to be broken (1 % over all limits of a
model together). A quantile is judged where both conditions have requests enough for it; p50 has to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.judge.operations.asked import QUANTILES, as_asked, unless_late
from harness.judge.operations.blocks import Block, enough, means, rates, times
from harness.judge.operations.facts import fact, failed
from harness.judge.operations.loads import at_least, at_most, blocks_of, bounds, drift, errors, windows_of
from harness.judge.operations.memory import fullest, judged, limit_words
from harness.judge.statistics.intervals import ALPHA_FAIL
from harness.types import Finding

Facts = Mapping[str, Any]

__all__ = ["done", "failed", "findings", "latencies"]


def findings(observations: Facts) -> tuple[Finding, ...]:
    """Of each model NAME: `NAME.errors`, `NAME.load`, `NAME.drift`, `NAME.<time>.pNN`, `NAME.request_throughput` (and
    `output_token_throughput`); and `memory.peak`.
    """
    found: list[Finding] = []
    for name in observations.get("models") or {}:
        found += _model(observations, name)
    return (*found, _memory(observations))


def done(observations: Facts) -> str:
    first, second = observations["models"]
    limits = observations["limits"]
    return (
        f"{first} and {second} can live together: no time grew above {limits['latency']:.3g}x, no throughput fell by "
        f"more than {limits['throughput']:.0%}, memory stayed within {limit_words(limits['memory'])}"
    )


def latencies(token_model: bool) -> tuple[str, ...]:
    """The times that are compared."""
    return ("response_time", "ttft", "tpot") if token_model else ("response_time",)


def stages(observations: Facts, name: str) -> tuple[list[int], list[int]]:
    """The phases in which it was alone, and those in which it was not."""
    mine = [phase for phase in observations["phases"] if name in phase["models"]]
    alone = [phase["index"] for phase in mine if len(phase["models"]) == 1]
    return alone, [phase["index"] for phase in mine if len(phase["models"]) > 1]


def _model(observations: Facts, name: str) -> list[Finding]:
    limits, token_model = observations["limits"], bool(observations["models"][name]["token_model"])
    windows = windows_of(observations, name)
    phases_alone, phases_together = stages(observations, name)
    alone, together = blocks_of(observations, name, phases_alone), blocks_of(observations, name, phases_together)
    throughputs = ["done", "tokens"] if token_model else ["done"]
    rules = [(metric, q) for metric in latencies(token_model) for q in QUANTILES if _judged(alone, together, metric, q)]
    alpha = ALPHA_FAIL / (len(rules) + len(throughputs))
    judged = {q: value for q, value in QUANTILES.items() if _judged(alone, together, "response_time", q)}
    load = as_asked(f"{name}.load", windows, judged, _too_few(alone, together, judged))
    compared = [_drift(observations, name, phases_alone)]
    for metric, q in rules:
        pair = times(alone, together, metric, QUANTILES[q], name)
        what = f"{metric}.{q} of {name} together, against alone"
        compared.append(at_most(f"{name}.{metric}.{q}", pair, limits["latency"], what, alpha))
    for each in throughputs:
        metric = {"done": "request_throughput", "tokens": "output_token_throughput"}[each]
        what = f"{metric} of {name} together, against alone"
        pair = rates(alone, together, each, name)
        compared.append(at_least(f"{name}.{metric}", pair, 1 - limits["throughput"], what, alpha))
    return [errors(f"{name}.errors", windows, limits["errors"]), load, *unless_late(load, compared)]


def _judged(alone: Sequence[Block], together: Sequence[Block], metric: str, q: str) -> bool:
    """The median always, and says so where it cannot be."""
    return q == "p50" or (enough(alone, metric, QUANTILES[q]) and enough(together, metric, QUANTILES[q]))


def _too_few(alone: Sequence[Block], together: Sequence[Block], judged: Iterable[str]) -> str:
    """Which quantiles are not judged; "" if there are none."""
    left = [q for q in QUANTILES if q not in judged]
    n = min(sum(block["due"] for block in blocks) for blocks in (alone, together))
    return f"; too few requests ({n}) to judge {', '.join(left)}" if left else ""


def _drift(observations: Facts, name: str, phases: Sequence[int]) -> Finding:
    metric = f"{name}.drift"
    if len(phases) < 2:
        return fact(metric, "no data", f"{name} was not measured alone twice")
    first, last = (blocks_of(observations, name, [phase]) for phase in (phases[0], phases[-1]))
    pair = times(first, last, "response_time", 0.5, name, "drift")
    return drift(metric, pair, observations["limits"]["drift"], f"p50 of {name} alone")


def _memory(observations: Facts) -> Finding:
    """The peak of all phases against its limit; and how much more of it is used together than alone."""
    if not observations.get("limits"):
        return fact("memory.peak", "no data", "Memory was not measured: the run was over before")
    limit, phases, seen = observations["limits"]["memory"], observations["phases"], observations.get("memory") or []
    windows = [(f"phase {number}", read) for number, read in enumerate(seen, 1)]
    both = any(len(phase["models"]) > 1 for phase in phases)
    found, top = judged(windows, limit, both and len(seen) >= len(phases)), fullest(windows, limit)
    alone: list[float] = []
    together: list[float] = []
    for phase, read in zip(phases, seen, strict=False):
        for peak in read.get("peaks") or []:
            if top is not None and peak["name"] == top[1].top.name:
                (together if len(phase["models"]) > 1 else alone).extend(peak["blocks"])
    pair = means(alone, together, "memory")
    if pair is None:
        return found
    low, high = bounds(pair)
    return replace(found, reason=f"{found.reason}; together {pair.ratio:.3g}x alone ({low:.3g} to {high:.3g})")
