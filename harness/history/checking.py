"""One run, or its repeats, against the last stable segment of its history: did it get worse?

A run is one draw of what nights differ by, however tight its own interval is: so the scatter of the segment counts, and
repeats are measured by it as well, unless they scatter more themselves. On the scale of comparison, n runs of middle m
and scatter s (robust, see level.py), k repeats of mean x:

    t = (x - m) / (s sqrt(1/k + 1/n)),   against Student's t of 0.8 n - 1 degrees of freedom

fail: t beyond alpha (one-sided, divided by the number of metrics: Bonferroni) in the direction that is worse, and the
effect itself beyond the smallest one that matters. inconclusive: too few runs; a scatter in which the smallest effect
cannot be told; a lone run no worse than one of the same segment was before; or repeats of which half are not worse,
since one wild run is no regression. pass: everything else, also what is better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from harness.history import saying
from harness.history.changes import change_points
from harness.history.level import level
from harness.history.scales import Floats, apart, back, floor_of, scale_of, stretched
from harness.history.walking import WINDOW
from harness.types import Finding, Outcome
from harness.types.history import Change, Scale, Worse

FEWEST = 5
"""Runs of a segment before anything is said."""
_SURE = 0.95


def check(
    metric: str, unit: str, history: npt.NDArray[Any], now: npt.NDArray[Any], *, worse: Worse, smallest: float,
    alpha: float = 0.01, metrics: int = 1, changes: Sequence[Change] | None = None,
) -> Finding:  # fmt: skip
    """`history`: one value a run, oldest first; `now`: this run, or its repeats. What is not finite was not measured.

    `smallest`: the least effect that matters: a share where all values are compared by ratio (0.05 is 5 %; see
    scale_of), else in the metric's unit. `metrics`: how many are checked at once; all together cry wolf with `alpha` at
    the most. `changes`: those of `history`, found here where None. The finding's interval is sure at 1 - 2 alpha /
    metrics; its margin is the smallest effect.
    """
    known, runs = np.asarray(history, dtype=np.float64), np.asarray(now, dtype=np.float64)
    runs = runs[np.isfinite(runs)]
    if len(runs) == 0:
        return Finding(metric, "no data", f"{metric} was not measured in this run")
    scale = scale_of(unit, np.concatenate([known[np.isfinite(known)], runs]))
    segment = last_segment(known, change_points(known, scale=scale) if changes is None else changes)
    if len(segment) < FEWEST:
        reason = saying.too_few(metric, len(segment), FEWEST - len(segment), len(segment) < np.isfinite(known).sum())
        return Finding(metric, "inconclusive", reason, n_baseline=len(segment), n_candidate=len(runs))
    return _Comparison.of(segment, runs, scale, worse, smallest, alpha / metrics).finding(metric, unit)


def last_segment(history: Floats, changes: Sequence[Change]) -> Floats:
    """What was measured since the last change for certain, or where that is too few runs, since its likeliest place."""
    for begin in (changes[-1].high, changes[-1].at) if changes else (0,):
        segment = history[begin:]
        segment = segment[np.isfinite(segment)][-WINDOW:]
        if len(segment) >= FEWEST:
            break
    return segment


@dataclass(frozen=True, slots=True)
class _Comparison:
    """On the scale of comparison, turned so that more is worse: `difference`, `least` (the smallest effect), `scatter`.

    `level` of the test, one-sided; `as_bad`: how many runs of the segment were as bad as this one;
    `most`: most of the repeats differ by so much at least.
    """

    scale: Scale
    sign: int
    middle: float
    mean: float
    scatter: float
    runs: int
    repeats: int
    least: float
    smallest: float
    level: float
    as_bad: int
    most: float

    @classmethod
    def of(
        cls, segment: Floats, runs: Floats, scale: Scale, worse: Worse, smallest: float, alpha: float
    ) -> _Comparison:
        series, now = stretched(segment, scale), stretched(runs, scale)
        known = level(series, floor_of(segment, scale))
        n, k, mean = len(series), len(now), float(now.mean())
        own = float(np.sum((now - mean) ** 2))
        scatter = max(known.scatter, math.sqrt(((n - 1) * known.scatter**2 + own) / (n + k - 2)))
        sign = -1 if worse == "lower" or (worse == "either" and mean < known.middle) else 1
        as_bad = int(np.sum(sign * (series - mean) >= 0))
        least = _least(known.middle, sign, smallest, scale)
        level_ = alpha / 2 if worse == "either" else alpha
        most = float(np.sort(sign * (now - known.middle))[(k - 1) // 2])
        return cls(scale, sign, known.middle, mean, scatter, n, k, least, smallest, level_, as_bad, most)

    @property
    def difference(self) -> float:
        return self.sign * (self.mean - self.middle)

    @property
    def error(self) -> float:
        return self.scatter * math.sqrt(1 / self.repeats + 1 / self.runs)

    def t(self, level: float) -> float:
        return -float(special.stdtrit(0.8 * self.runs - 1, level))

    @property
    def outcome(self) -> Outcome:
        told = self.t(self.level) * self.error
        if self.difference > told and self.difference > self.least:
            return "inconclusive" if self.seen_before or self.disagree else "fail"
        if told <= self.least or self.difference > told:
            return "pass"
        return "pass" if self.difference + self.t(1 - _SURE) * self.error < self.least else "inconclusive"

    @property
    def seen_before(self) -> bool:
        return self.repeats == 1 and self.as_bad > 0

    @property
    def disagree(self) -> bool:
        return self.most <= self.least

    def repeats_for(self) -> int | None:
        """So many repeats would tell the smallest effect; None where the segment is too short for any number."""
        left = (self.least / (self.t(self.level) * self.scatter)) ** 2 - 1 / self.runs
        return math.ceil(1 / left) if left > 1e-3 else None

    def finding(self, metric: str, unit: str) -> Finding:
        half = self.t(self.level) * self.error
        low, high = (apart(self.mean + side * half, self.middle, self.scale) for side in (-1, 1))
        before, after = back(self.middle, self.scale), back(self.mean, self.scale)
        measured = saying.Measured(
            metric, unit, self.scale, before, after, apart(self.mean, self.middle, self.scale), (low, high),
            self.smallest, 1 - self.level, self.sign, self.runs, self.repeats,
        )  # fmt: skip
        outcome = self.outcome
        if outcome == "fail":
            reason = saying.became_worse(measured)
        elif outcome == "pass":
            told = (self.difference > half) - (self.difference < -half)
            reason = saying.passed(measured, told)
        elif self.seen_before and self.difference > half:
            reason = saying.seen_before(measured, self.as_bad)
        elif self.difference > max(half, self.least):
            reason = saying.disagree(measured)
        else:
            reason = saying.not_told(measured, self.repeats_for())
        return Finding(
            metric, outcome, reason, unit=measured.effect_unit, effect=measured.effect, interval=measured.interval,
            margin=1 + self.sign * self.smallest if self.scale == "ratio" else self.sign * self.smallest,
            baseline=before, candidate=after, n_baseline=self.runs, n_candidate=self.repeats,
        )  # fmt: skip


def _least(middle: float, sign: int, smallest: float, scale: Scale) -> float:
    """The smallest effect that matters, on the scale of comparison, as a distance."""
    if scale == "ratio":
        return sign * math.log(max(1 + sign * smallest, 1e-9))
    if scale == "share":
        return abs(math.sqrt(min(max(middle**2 + sign * smallest, 0.0), 1.0)) - middle)
    return smallest
