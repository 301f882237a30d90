"""Two arms compared by their units: intervals that resample users or sessions, and not requests.

The requests of one user resemble each other: 400 users with 20 requests each are 400 facts and not 8,000. So units are
drawn with replacement, each arm by itself, with all of their requests, and the metric is taken of each of 2,000
resamples. The standard error is that of the resamples; it is widened by what a unit with much of an arm's requests
hides (see `_widened`), and a bound is the outer one of the resamples' percentile and of the t-interval. Its degrees
of freedom are those of Satterthwaite, of which an arm has as many as Kish's effective number of units, (sum n)^2 over
sum n^2, less one: a few heavy users tell as little as a few users.

Where so few units have a failure (or, of scores, are not at 1) that resampling says nothing of how many there could be,
the interval is exact: in each arm Clopper and Pearson's for as many requests as there are effective units, as if a unit
fails with all of its requests or with none (Korn and Graubard, Survey Methodology 24, 1998), the two arms' intervals
joined by the square-and-add rule (Newcombe 1998; Zou and Donner 2008). With 95 % and no failure at all it takes 370
units of each arm to show a difference of less than 1 percentage point, however many requests they sent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from harness.judge.columns import Bools, Floats, Ints
from harness.judge.statistics.distributions import t_isf
from harness.judge.statistics.resample import draws, generator, resampled

LEAST_UNITS = 20
"""Of each arm: fewer tell nothing of how units differ."""
LEAST_BEYOND = 10
"""Units of each arm that have to be on either side of a quantile, or to have a failure, for a bootstrap."""
MOST_UNITS = 2000
"""Of each arm: more are put together at random into as many groups, which differ by as much as they tell of them."""


@dataclass(frozen=True, eq=False)
class Side:
    """The values of one arm's requests, unit by unit: those of unit i are `values[start[i]:start[i + 1]]`.

    `units`: how many there are; where they are more than MOST_UNITS, `start` has groups of them.
    """

    values: Floats
    start: Ints
    units: int

    @property
    def sizes(self) -> Floats:
        return np.diff(self.start).astype(np.float64)

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def effective(self) -> float:
        """Kish's effective number of units."""
        sizes = self.sizes
        return float(sizes.sum() ** 2 / (sizes @ sizes)) if self.n else 0.0

    def sums(self, values: Floats | Bools) -> Floats:
        """By unit."""
        return np.add.reduceat(values.astype(np.float64), self.start[:-1])


@dataclass(frozen=True)
class Effect:
    """`a`, `b`: the metric of each arm; `value`: b/a, or b - a; `low`, `high`: its interval. `exact`: not resampled."""

    a: float
    b: float
    value: float
    low: float
    high: float
    exact: bool = False


def side(values: Floats, unit: Ints, *seed: object) -> Side:
    """Of the requests that have a value (no NaN). `seed` fixes how units are put together where they are many."""
    known = ~np.isnan(values)
    values, unit = values[known], unit[known]
    names, group = np.unique(unit, return_inverse=True)
    count = len(names)
    if count > MOST_UNITS:
        places = generator(*_seed(seed)).permutation(count) % MOST_UNITS
        group = places[group]
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    return Side(values[order], np.append(starts, len(values)).astype(np.int64), count)


def enough(one: Side, quantile: float | None) -> str:
    """Why an arm cannot be compared; "" if it can."""
    if one.units < LEAST_UNITS:
        return f"{one.units} units, and it takes {LEAST_UNITS}"
    if quantile is None:
        return ""
    above = one.values > _quantile(one, quantile)
    if not above.any():
        # All of them are one value, up to the quantile and beyond it.
        return "" if one.n * (1 - quantile) >= LEAST_BEYOND else f"{one.n} requests"
    fewest = min(int((one.sums(part) > 0).sum()) for part in (above, ~above))
    return "" if fewest >= LEAST_BEYOND else f"requests of {fewest} units beyond it, and it takes {LEAST_BEYOND}"


def ratio(a: Side, b: Side, quantile: float | None, alpha: float, *seed: object) -> Effect | None:
    """b/a of a quantile (None: of the mean) over requests; None where it is not above 0. The interval: 1 - alpha."""
    values, spreads, errors = [], [], []
    for number, one in enumerate((a, b)):
        value = float(one.values.mean()) if quantile is None else _quantile(one, quantile)
        if value <= 0:
            return None
        drawn = resampled(one.values, one.start, quantile, _draws(one, *seed, number))
        if (drawn <= 0).any():
            return None
        away = one.sums(one.values <= value) - quantile * one.sizes if quantile is not None else None
        spread, error = _widened(one, np.log(drawn / value), away if away is not None else _residuals(one, value))
        values.append(value)
        spreads.append(spread)
        errors.append(error)
    low, high = _interval(math.log(values[1] / values[0]), spreads, errors, (a, b), alpha)
    return Effect(values[0], values[1], values[1] / values[0], math.exp(low), math.exp(high))


def difference(a: Side, b: Side, alpha: float, *seed: object) -> Effect:
    """b - a of shares: of values from 0 to 1, over requests."""
    rates = [float(one.values.mean()) for one in (a, b)]
    seen = [min(int((one.sums(part) > 0).sum()) for part in (one.values > 0, one.values < 1)) for one in (a, b)]
    if min(seen) < LEAST_BEYOND:
        return _exact(a, b, rates, alpha)
    spreads, errors = [], []
    for number, (one, rate) in enumerate(zip((a, b), rates, strict=True)):
        drawn = resampled(one.values, one.start, None, _draws(one, *seed, number))
        spread, error = _widened(one, drawn - rate, _residuals(one, rate))
        spreads.append(spread)
        errors.append(error)
    low, high = _interval(rates[1] - rates[0], spreads, errors, (a, b), alpha)
    return Effect(rates[0], rates[1], rates[1] - rates[0], max(low, -1.0), min(high, 1.0))


def _quantile(one: Side, q: float) -> float:
    return float(np.quantile(one.values, q, method="inverted_cdf"))


def _draws(one: Side, *seed: object) -> Floats:
    return draws(generator(*_seed(seed)), len(one.start) - 1)


def _seed(words: tuple[object, ...]) -> tuple[int, *tuple[object, ...]]:
    """The run's seed first."""
    return int(str(words[0])), *words[1:]


def _residuals(one: Side, mean: float) -> Floats:
    """By unit, how far the sum of its values is from what the mean makes of its size."""
    return one.sums(one.values) - mean * one.sizes


def _widened(one: Side, drawn: Floats, away: Floats) -> tuple[Floats, float]:
    """The resamples about the estimate, and their standard error, as wide as the jackknife has it.

    A unit with a share h of an arm's requests pulls the estimate towards itself, so it seems to be nearer to it than it
    is, by 1 - h. Leaving units out one by one undoes that (the CR3 estimator of cluster-robust variances; Bell and
    McCaffrey, Survey Methodology 28, 2002). `away`: by unit, what the estimate leaves over.
    """
    units, share = len(away), one.sizes / one.n
    plain = float(away @ away) * units / (units - 1)
    jackknife = float(((away / np.maximum(1 - share, 1e-9)) ** 2).sum()) * (units - 1) / units
    factor = math.sqrt(max(jackknife / plain, 1.0)) if plain > 0 else 1.0
    wide = drawn * factor
    return wide, float(wide.std()) * math.sqrt(units / (units - 1))


def _interval(
    value: float, spreads: list[Floats], errors: list[float], sides: tuple[Side, Side], alpha: float
) -> tuple[float, float]:
    variances = [error**2 for error in errors]
    error = math.sqrt(sum(variances))
    if error <= 0:
        return value, value
    parts = sum(v**2 / max(one.effective - 1, 1.0) for v, one in zip(variances, sides, strict=True))
    reach = t_isf(alpha / 2, max(sum(variances) ** 2 / parts, 1.0)) * error
    low, high = np.quantile(value + spreads[1] - spreads[0], [alpha / 2, 1 - alpha / 2])
    return min(value - reach, float(low)), max(value + reach, float(high))


def _exact(a: Side, b: Side, rates: list[float], alpha: float) -> Effect:
    (low_a, high_a), (low_b, high_b) = (
        _clopper_pearson(rate * one.effective, one.effective, alpha / 2)
        for rate, one in zip(rates, (a, b), strict=True)
    )
    value = rates[1] - rates[0]
    low = value - math.hypot(rates[1] - low_b, high_a - rates[0])
    high = value + math.hypot(high_b - rates[1], rates[0] - low_a)
    return Effect(rates[0], rates[1], value, low, high, exact=True)


def _clopper_pearson(x: float, n: float, alpha: float) -> tuple[float, float]:
    """One-sided bounds, of numbers that need not be whole."""
    low = float(special.betaincinv(x, n - x + 1, alpha)) if x > 0 else 0.0
    high = float(special.betaincinv(x + 1, n - x, 1 - alpha)) if x < n else 1.0
    return low, high
