"""Which rule a gate is where only counts are known; what they cannot tell is "no data", and the sentence says why."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from harness.judge.amounts import gate as amounts
from harness.judge.amounts.relative import spoken
from harness.judge.columns import BASELINE, CANDIDATE, Floats
from harness.judge.metrics import THROUGHPUT, quantile_of
from harness.judge.rule import Rule, settled
from harness.judge.sketched import throughput
from harness.judge.sketched.binned import binned
from harness.judge.sketched.counts import Histogram
from harness.judge.sketched.view import CountedView
from harness.judge.statistics.counts import p_more, rate_upper
from harness.judge.statistics.intervals import ALPHA_PASS
from harness.judge.times import coupling, latency, longer, objective
from harness.judge.times.objective import Held
from harness.types import Finding, Gate

MOST_BATCHES = 30
IN_TURNS = "arms that work in turns are compared period by period"
JOINT = "whether one request keeps several limits is not in them"
POWER = "energy is set against what was answered while it was drawn, by the moment"
COMPANY = "only requests that met no more company than at equal load count, and it is not known which did"
ALONE = "what the baseline takes alone is compared by blocks of its own"


def rule(view: CountedView, gate: Gate) -> Rule:
    """Of all gates but those on failures and quality, whose rules are the same as for samples."""
    if view.plan.period:
        return settled(_untold(view, gate, IN_TURNS))
    if gate.metric == "goodput":
        return settled(_untold(view, gate, JOINT))
    if gate.metric == "energy":
        return settled(_untold(view, gate, POWER))
    if gate.metric in THROUGHPUT:
        return throughput.compare(view, gate)
    if gate.metric == "memory.peak":
        return amounts.judge(view, gate)
    if gate.limit is not None:
        return _limit(view, gate)
    if view.role != "comparison" and view.reference is None:
        return settled(objective.no_objective(view, gate))
    if view.role != "comparison":
        return settled(_untold(view, gate, COMPANY))
    compared = longer.told(view, gate, latency.compare(view, gate))
    if coupling.alone_before(view) is None or gate.metric == "osl":
        return compared
    return replace(compared, finding=lambda failed: _beside(compared.finding(failed)))


def _beside(found: Finding) -> Finding:
    """A comparison of both arms at the same time does not tell what the candidate costs the baseline."""
    if found.outcome != "pass":
        return found
    return replace(found, outcome="inconclusive", reason=f"{found.reason}; but {_why(ALONE)}")


def _why(why: str) -> str:
    return f"counts cannot tell it: {why}; judge the samples"


def _untold(view: CountedView, gate: Gate, why: str) -> Finding:
    return Finding(
        metric=gate.metric,
        outcome="no data",
        reason=f"{spoken(gate.metric).replace('.', ' ')} has no answer here: {_why(why)}",
        kind=view.role,
        stage=view.index,
        unit="s" if gate.limit is not None or view.role == "watch" else "ratio",
        n_baseline=view.asked(BASELINE),
        n_candidate=view.asked(CANDIDATE),
    )


def _limit(view: CountedView, gate: Gate) -> Rule:
    first, second = (_held(view, gate, arm) for arm in (BASELINE, CANDIDATE))
    silent = binned(view, gate.metric).uncounted[CANDIDATE]
    return objective.limited(view, gate, first, second, uncounted=silent)


def _held(view: CountedView, gate: Gate, arm: int) -> Held:
    """As `objective.held`, but requests of one cell count as one. A bin on both sides of the bar counts against it
    where it has to hold, and for it where it is to be broken.
    """
    counts, quantile, bar = view.counts, quantile_of(gate.metric), gate.limit or 0.0
    time = gate.metric.split(".", 1)[0]
    every = counts.every(time, arm)
    n = every.total
    if n == 0:
        return Held(0, 0, 1.0, False, None)
    if quantile is None:
        p, fine = objective.mean_of(_means(view, time, arm, every), bar)
        above = _above(view, time, arm, bar)
        return Held(n, int(above.sum()), p, fine, counts.sum(time, arm) / n)
    total = np.bincount(every.cell, every.count)
    filled = np.flatnonzero(total)
    surely, perhaps = (_above(view, time, arm, bar * math.exp(side * counts.scale.half)) for side in (1, -1))
    broken, doubtful = (float((above[filled] / total[filled]).sum()) for above in (surely, perhaps))
    return Held(
        n=n,
        above=round(float(_above(view, time, arm, bar).sum())),
        p_worse=p_more(math.floor(broken + 1e-9), len(filled), 1 - quantile),
        fine=rate_upper(math.ceil(doubtful - 1e-9), len(filled), ALPHA_PASS) <= 1 - quantile,
        value=counts.pooled(every, quantile),
    )


def _means(view: CountedView, time: str, arm: int, every: Histogram) -> Floats:
    """Of groups of cells that hold something, 30 at most."""
    number = np.bincount(every.cell, every.count)
    total = np.zeros(len(number))
    for paired in (False, True):
        sums = view.counts.sums.get((time, arm, paired), np.zeros(0))[: len(number)]
        total[: len(sums)] += sums
    filled = np.flatnonzero(number)
    groups = np.array_split(filled, min(len(filled), MOST_BATCHES))
    return np.array([total[group].sum() / number[group].sum() for group in groups])


def _above(view: CountedView, time: str, arm: int, bar: float) -> Floats:
    """How many requests of each cell took longer than `bar`."""
    every = view.counts.every(time, arm)
    rows, values, weights = view.counts.scale.spread(every.bin, every.count)
    above = np.bincount(every.cell[rows], weights * (values > bar), minlength=int(every.cell[-1]) + 1)
    return np.asarray(above, np.float64)
