"""What either arm got through, by cells of due time: an answer counts where it was due; when it came is not known."""

from __future__ import annotations

import numpy as np

from harness.judge.amounts import rates
from harness.judge.amounts import throughput as of_samples
from harness.judge.amounts.rates import EACH, MOST_BLOCKS, Amounts
from harness.judge.amounts.relative import LEAST_BLOCKS, missing
from harness.judge.columns import BASELINE, CANDIDATE, OK, Floats
from harness.judge.rule import Rule, settled
from harness.judge.sketched.counts import PLANNED
from harness.judge.sketched.view import CountedView
from harness.types import Finding, Gate


def compare(view: CountedView, gate: Gate) -> Rule:
    """The rule of a margin on a throughput."""
    tokens = gate.metric == "output_token_throughput"
    if view.plan.mode == "sequential":
        return settled(missing(view, gate, "throughput is compared where both arms are asked at once, not in turns"))
    unknown = of_samples.of_no_length(view, gate) if tokens else None
    unknown = unknown or of_samples.of_nothing(view, gate)
    if unknown is not None:
        return settled(unknown)
    found = of_samples.over_gpus(view, gate)
    if isinstance(found, Finding):
        return settled(found)
    gpus, per = found
    seconds = cells_s(view)
    blocks = min(max(view.answered) // EACH, len(seconds), MOST_BLOCKS)
    if blocks < LEAST_BLOCKS:
        return settled(of_samples.too_short(view, gate, float(seconds.sum())))
    edges = np.round(np.linspace(0, len(seconds), blocks + 1)).astype(np.int64)[:-1]
    each = []
    for arm, count in enumerate(gpus):
        answers = view.counts.statuses[arm, PLANNED, OK].astype(np.float64)
        much = _summed(view, "osl", arm) if tokens else answers
        elapsed = _summed(view, "request_latency", arm) if view.plan.in_flight else seconds
        grain = 0.5 * float(much.sum() / max(answers.sum(), 1)) if tokens else 0.5
        much, elapsed = (np.add.reduceat(_long(values, len(seconds)), edges) for values in (much, elapsed * count))
        each.append(Amounts(much, elapsed, grain))
    one, two = of_samples.one_grain(*each)
    worse = rates.worse(view, gate.metric, one, two)
    if worse is None:
        return settled(of_samples.too_short(view, gate, float(seconds.sum())))
    unit = f"{'output tokens' if tokens else 'answers'} a second{per}"
    return of_samples.said(view, gate, worse, (one.rate, two.rate), unit, set_by_load=_kept_up(view))


def _kept_up(view: CountedView) -> bool:
    """In an open loop an arm that keeps up answers what is sent, and no more."""
    shares = (view.answered[arm] / max(view.asked(arm), 1) for arm in (BASELINE, CANDIDATE))
    return view.counts.due_known and min(shares) >= of_samples.KEPT_UP


def cells_s(view: CountedView) -> Floats:
    """How much of the planned load each cell has, in seconds."""
    cell_s = view.counts.cell_ns / 1e9
    left = view.plan.duration_s - cell_s * np.arange(view.counts.cells)
    seconds = np.asarray(np.clip(left, 0, cell_s), np.float64)
    return np.asarray(seconds[seconds > 1e-9], np.float64)


def _summed(view: CountedView, metric: str, arm: int) -> Floats:
    sums = (view.counts.sums.get((metric, arm, paired)) for paired in (False, True))
    found = np.zeros(view.counts.cells)
    for one in sums:
        found = found if one is None else found + _long(one, view.counts.cells)
    return found


def _long(values: Floats, cells: int) -> Floats:
    """Of so many cells: what was due behind them is left out."""
    return np.asarray(np.concatenate([values, np.zeros(max(cells - len(values), 0))])[:cells], np.float64)
