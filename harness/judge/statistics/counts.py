"""Exact statistics of counts: rates of failure, and shares above an objective."""

from __future__ import annotations

import math
from bisect import bisect_left

from scipy import special

from harness.judge.statistics.distributions import normal_isf

LEAST_ALPHA = 1e-300
"""In place of a level that is too small for a number."""


def log_e_value(k: float, others: float, share: float) -> float:
    """ln of the evidence that more than `share` of k + others events are of the first kind.

    A Beta(1,1) mixture truncated to (share, 1) over Binomial(k + others, share). Under the null its
    expectation is at most 1 at any stopping time, so `e >= 1/alpha` may be looked for after every request
    (Ville). Two arms: k = candidate's failures, others = baseline's, share = n2 / (n1 + n2). One arm against
    an objective rate: others = successes, share = the objective.
    """
    if not 0 < share < 1:
        return -math.inf  # one side has no requests: nothing to compare
    tail = float(special.betaincc(k + 1, others + 1, share))
    if tail <= 0:
        return -math.inf
    mixture = float(special.betaln(k + 1, others + 1)) + math.log(tail) - math.log1p(-share)
    return mixture - float(special.xlogy(k, share)) - float(special.xlog1py(others, -share))


def boundary(others: int, *, share: float = 0.5, alpha: float = 0.01) -> int:
    """The least k that is enough against `others`: 0 -> 9, 1 -> 13, 2 -> 15 at 1 % and equal arms."""
    k = 1
    while log_e_value(k, others, share) < -math.log(alpha):
        k += 1
    return k


def difference_bound(k2: int, n2: int, k1: int, n1: int, *, alpha: float, side: str) -> float:
    """One-sided Miettinen-Nurminen score bound of p2 - p1, `side` "lower" or "upper".

    The difference d at which (p2 - p1 - d) / sqrt(V(d)) is the normal quantile; V at the maximum likelihood
    rates restricted to a difference of d, times N/(N - 1) (Miettinen and Nurminen 1985). -1 or 1 without
    data.
    """
    if n1 == 0 or n2 == 0:
        return -1.0 if side == "lower" else 1.0
    if side == "lower":
        return -difference_bound(k1, n1, k2, n2, alpha=alpha, side="upper")
    z = normal_isf(alpha)
    seen = k2 / n2 - k1 / n1

    def excess(d: float) -> float:
        return seen - d + z * _score_sd(k2, n2, k1, n1, d)

    # At d = seen the deviation may be 0 (no failures at all): the bound is the root above it.
    start, top = seen + 1e-9, 1 - 1e-12
    if start >= top or excess(top) >= 0:
        return 1.0
    # Halving takes 40 steps; the import of scipy.optimize takes as long as 5,000 bounds.
    while top - start > 1e-12:
        middle = (start + top) / 2
        start, top = (middle, top) if excess(middle) > 0 else (start, middle)
    return (start + top) / 2


def _score_sd(k2: int, n2: int, k1: int, n1: int, d: float) -> float:
    n, c = n1 + n2, k1 + k2
    l2 = (n2 + 2 * n1) * d - n - c
    l1 = (n1 * d - n - 2 * k1) * d + c
    l0 = k1 * d * (1 - d)
    q = l2**3 / (27 * n**3) - l1 * l2 / (6 * n**2) + l0 / (2 * n)
    p = math.copysign(math.sqrt(max(l2**2 / (9 * n**2) - l1 / (3 * n), 0.0)), q)
    ratio = 0.0 if p == 0 else min(max(q / p**3, -1.0), 1.0)
    angle = (math.pi + math.acos(ratio)) / 3
    p1 = min(max(2 * p * math.cos(angle) - l2 / (3 * n), 0.0), 1.0)
    p2 = min(max(p1 + d, 0.0), 1.0)
    return math.sqrt(max((p2 * (1 - p2) / n2 + p1 * (1 - p1) / n1) * n / (n - 1), 0.0))


def rate_upper(k: int, n: int, alpha: float) -> float:
    """Clopper-Pearson upper bound of a rate; 1 without data."""
    # by the complement: at the level of a first look 1 - alpha is 1, and an alpha below every number is none
    return 1.0 if k >= n else float(special.betainccinv(k + 1, n - k, max(alpha, LEAST_ALPHA)))


def rate_lower(k: int, n: int, alpha: float) -> float:
    """Clopper-Pearson lower bound of a rate; 0 without data."""
    return 0.0 if k <= 0 or n <= 0 else float(special.betaincinv(k, n - k + 1, alpha))


def p_more(k: int, n: int, share: float) -> float:
    """P(Binomial(n, share) >= k): how likely so many are, if `share` is the truth."""
    return 1.0 if k <= 0 else float(special.betainc(k, n - k + 1, share)) if k <= n else 0.0


def requests_for(margin: float, alpha: float = 0.05, failed: int = 0) -> int:
    """How many requests of which `failed` fail bound the rate below `margin`: 99 without one for 3 points at 95 %."""
    few, many = failed, failed + 1
    while rate_upper(failed, many, alpha) > margin:
        few, many = many, 2 * many
    return few + bisect_left(range(few, many), True, key=lambda n: rate_upper(failed, n, alpha) <= margin)
