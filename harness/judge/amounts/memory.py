"""Peaks of memory: against the baseline's, or against a limit.

A peak between two polls is not seen, so every sentence tells how often was read. A limit is broken by one reading above
it, whoever shares the device, and kept only where the readings cover the stage.
"""

from __future__ import annotations

import numpy as np

from harness.judge import words
from harness.judge.amounts import rates
from harness.judge.amounts.relative import LEAST_BLOCKS, Relative, missing, too_few
from harness.judge.amounts.watched import Own, Watched, limited_memory, own_memory, unwatched
from harness.judge.columns import Floats, Ints
from harness.judge.rule import Rule, settled
from harness.judge.statistics.intervals import spread
from harness.judge.statistics.resample import RESAMPLES, generator
from harness.judge.view import StageView
from harness.types import Finding, Gate, Outcome

GIB = 2**30


def compare(view: StageView, gate: Gate) -> Rule:
    """The rule of a margin: the peaks of the blocks, both arms' at the same moments, and the highest of all."""
    for name, answers in zip(view.names, view.answered, strict=True):
        if not answers:
            return settled(missing(view, gate, f"{name} answered nothing: what it needs to answer was not measured"))
    found = own_memory(view)
    if isinstance(found, str):
        return settled(missing(view, gate, found))
    if (gap := unwatched(found)) is not None:
        return settled(missing(view, gate, gap))
    begin, end = rates.span(view)
    at = rates.blocks_of_time(begin, end)
    peaks = None if at is None else _peaks(found, at)
    if peaks is None:
        least_s, have_s = LEAST_BLOCKS * rates.SHORTEST_BLOCK_S, (end - begin) / 1e9
        reason = f"peak memory needs {words.duration(least_s)} of readings, there are {words.duration(have_s)}"
        return settled(too_few(view, gate, reason, max(least_s - have_s, 1.0)))
    logs = np.log(np.maximum(peaks, 1.0))
    blocks = logs.shape[1]
    drawn = generator(view.evidence.seed, gate.metric, view.index).integers(blocks, size=(RESAMPLES, blocks))
    tops = logs[:, drawn].max(axis=2)
    top = logs.max(axis=1)
    worse = spread(float(top[1] - top[0]), logs[1] - logs[0], tops[1] - tops[0], ordered=True)
    one, two = found
    values = f"{size(two.peak)} of {two.name} against {size(one.peak)} of {one.name}; {_polls(*found)}"
    return Relative(view, gate, worse, one.peak, two.peak, values).rule()


def _peaks(found: Own, at: Ints) -> Floats | None:
    """The highest reading of each block, shape (2, blocks); None if too few blocks have readings of both."""
    peaks = np.full((2, len(at) - 1), -np.inf)
    for row, each in zip(peaks, found, strict=True):
        block = np.searchsorted(at, each.t_ns, side="right") - 1
        inside = (block >= 0) & (block < len(row))
        np.maximum.at(row, block[inside], each.value[inside])
    known = np.isfinite(peaks).all(axis=0)
    return np.asarray(peaks[:, known], np.float64) if int(known.sum()) >= LEAST_BLOCKS else None


def limit(view: StageView, gate: Gate) -> Rule:
    """The rule of a limit, in any stage."""
    assert gate.limit is not None
    most, seen = gate.limit, limited_memory(view)
    if isinstance(seen, str):
        return settled(_finding(view, gate, "no data", seen, None))
    top = max(seen, key=lambda each: each.peak)
    said = f"peak memory of {top.name} was {size(top.peak)}, limit {size(most)}; {_polls(top)}"
    gap = unwatched(seen) or _idle(view)

    def finding(failed: float | None) -> Finding:
        if failed is not None:
            return _finding(view, gate, "fail", said, top.peak)
        if gap is not None and view.may_pass:
            return _finding(view, gate, "no data", f"{said}; but {gap}", top.peak)
        if gap is None and view.may_pass:
            return _finding(view, gate, "pass", said, top.peak)
        return _finding(view, gate, "inconclusive", f"{said}; within it so far, but the stage is not over", top.peak)

    return Rule(0.0 if top.peak > most else 1.0, finding)


def _idle(view: StageView) -> str | None:
    """A candidate that was to answer and never did needed no memory to do so."""
    return f"{view.names[1]} answered nothing" if view.candidate_expected and not view.answered[1] else None


def _finding(view: StageView, gate: Gate, outcome: Outcome, reason: str, peak: float | None) -> Finding:
    return Finding(
        metric=gate.metric,
        outcome=outcome,
        reason=reason,
        kind=view.role,
        stage=view.index,
        unit="bytes",
        effect=peak,
        margin=gate.limit,
        candidate=peak,
        n_baseline=view.answered[0],
        n_candidate=view.answered[1],
    )


def _polls(*found: Watched) -> str:
    every = max(each.every_s for each in found)
    return f"read every {words.time(every)}, what rose and fell in between is not seen" if every else "read once"


def size(value: float) -> str:
    return f"{value / GIB:.3g} GiB" if value >= GIB else f"{value / 2**20:.4g} MiB"
