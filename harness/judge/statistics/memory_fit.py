"""Peak memory as a function of context and batch, and where it ends.

peak = a + b * (context * batch) + c * batch + d * context + e * context^2 + f * context^2 * batch, by least squares.
The first two are always there: weights, and keys and values of every token. Of the others (what a sequence needs, what
one sequence's attention or its square needs for a moment, or that of all sequences at once) those that the points call
for, by the corrected Akaike criterion (Hurvich & Tsai, Biometrika 76, 1989); a coefficient below zero is no need of
memory, so such a fit is out.

Guarantee: the upper bound holds a new isolated measurement with 99 % where the errors are normal and the right form is
one of these. Few points cannot tell a line from a flat curve, and beyond them that is all the difference: the bound is
the highest of all forms whose criterion is within 10 of the best (what is beyond has "essentially no support": Burnham
& Anderson, Model Selection and Multimodel Inference, 2002). Residuals count for at least a thousandth of the capacity:
allocators and counters round, and three points on a line are no proof that the fourth is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from typing import NamedTuple

import numpy as np

from harness.judge.columns import Floats
from harness.judge.statistics.distributions import t_isf

LEAST_POINTS = 8
CONFIDENCE = 0.99
GRAIN = 0.001
"""Of the capacity: the least that residuals count for."""
SUPPORTED = 10.0
"""How much worse than the best a form may be by the criterion, and still be the right one."""
OPTIONAL = ("batch", "context", "context squared", "context squared * batch")
_FAR = 1e9
_RELATIVE = 1e-6


class Point(NamedTuple):
    """What `batch` sequences of `context` tokens each needed at most; `peak` in the unit of the capacity."""

    context: float
    batch: int
    peak: float


@dataclass(frozen=True)
class Fit:
    """`terms`: names of the coefficients after the constant, in their order. `spread`: of a point around the fit.
    `rivals`: the other forms that may be the right one.
    """

    terms: tuple[str, ...]
    coefficients: Floats
    spread: float
    degrees: int
    covariance: Floats
    """(X'X)^-1, in the scale of `scale`."""
    scale: Floats
    rivals: tuple[Fit, ...] = ()

    def peak(self, context: float, batch: int) -> float:
        """The peak to expect."""
        return float(self._row(context, batch) @ self.coefficients)

    def upper(self, context: float, batch: int) -> float:
        """Above which a new measurement lies in 1 % of cases."""
        return max(one.peak(context, batch) + one._reach(context, batch) for one in (self, *self.rivals))

    def per_token(self, batch: int) -> float:
        """What keys and values of one more token of context need, in all sequences."""
        return float(self.coefficients[1]) * batch

    def edge(self, batch: int, capacity: float) -> float:
        """The context at which the expected peak reaches `capacity`; infinite where it never does, 0 at the least."""
        return _last(lambda context: self.peak(context, batch) <= capacity)

    def safe(self, batch: int, capacity: float) -> float:
        """The context up to which the upper bound stays within `capacity`."""
        return _last(lambda context: self.upper(context, batch) <= capacity)

    def _reach(self, context: float, batch: int) -> float:
        row = self._row(context, batch) / self.scale
        leverage = float(row @ self.covariance @ row)
        return t_isf(1 - CONFIDENCE, self.degrees) * self.spread * math.sqrt(1 + leverage)

    def _row(self, context: float, batch: int) -> Floats:
        return np.array([1.0, *(_term(name, context, batch) for name in self.terms)])


def fit(points: Sequence[Point], capacity: float) -> Fit | None:
    """The best form by the criterion; None where there are fewer than 8 points, or none of the forms is possible."""
    if len(points) < LEAST_POINTS:
        return None
    found = [
        (_criterion(one, len(points)), one)
        for terms in _forms()
        if (one := _solve(points, terms, capacity)) is not None
    ]
    if not found:
        return None
    least, best = min(found, key=lambda each: each[0])
    return replace(best, rivals=tuple(one for value, one in found if one is not best and value <= least + SUPPORTED))


@cache
def _quantile(degrees: int) -> float:
    return float(t_isf(1 - CONFIDENCE, degrees))


def _forms() -> Iterator[tuple[str, ...]]:
    for count in range(len(OPTIONAL) + 1):
        for more in combinations(OPTIONAL, count):
            yield ("tokens", *more)


def _solve(points: Sequence[Point], terms: tuple[str, ...], capacity: float) -> Fit | None:
    degrees = len(points) - len(terms) - 1
    if degrees < 2:
        return None
    matrix = np.array([[1.0, *(_term(name, p.context, p.batch) for name in terms)] for p in points])
    scale = np.maximum(np.abs(matrix).max(axis=0), 1e-12)
    peaks = np.array([p.peak for p in points])
    scaled = matrix / scale
    solution, _, rank, _ = np.linalg.lstsq(scaled, peaks, rcond=1e-9)
    if rank < scaled.shape[1] or (solution[1:] < 0).any():
        return None
    rest = peaks - scaled @ solution
    spread = max(math.sqrt(float(rest @ rest) / degrees), GRAIN * capacity)
    return Fit(terms, solution / scale, spread, degrees, np.linalg.inv(scaled.T @ scaled), scale)


def _criterion(one: Fit, count: int) -> float:
    parameters = len(one.terms) + 2  # the constant and the spread
    # The spread as the maximum of the likelihood has it.
    likely = count * math.log(one.spread**2 * one.degrees / count)
    room = count - parameters - 1
    return math.inf if room < 1 else likely + 2 * parameters + 2 * parameters * (parameters + 1) / room


def _term(name: str, context: float, batch: int) -> float:
    squared = context**2
    return {
        "tokens": context * batch, "batch": float(batch), "context": context, "context squared": squared,
        "context squared * batch": squared * batch,
    }[name]  # fmt: skip


def _last(holds: Callable[[float], bool]) -> float:
    """The largest number for which a rule holds that, once broken, stays broken."""
    if not holds(0.0):
        return 0.0
    high = 1.0
    while holds(high):
        high *= 2
        if high > _FAR:
            return math.inf
    low = high / 2 if high > 1 else 0.0
    while high - low > max(_RELATIVE * high, 1e-3):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
