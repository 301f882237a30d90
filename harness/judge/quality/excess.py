"""How far the candidate's outputs are from what is allowed, estimated over prompts: prompts are the sample, not tokens.

A prompt that was asked several times counts once, with the mean over its pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.judge.columns import Floats
from harness.judge.quality.scored import PairScore
from harness.judge.statistics.blocks import Blocks, statistic
from harness.judge.statistics.distributions import t_isf
from harness.judge.statistics.intervals import ALPHA_PASS, Spread, lower, mirrored, p_above, spread, upper
from harness.judge.statistics.mcnemar import Flips, lower_drop, p_drop, upper_drop
from harness.judge.statistics.resample import draws, pooled_pair

Row = tuple[int, float, float]
"""A prompt's number, and a value of the baseline (or the floor) and of the candidate."""


@dataclass(frozen=True, slots=True)
class Excess:
    """How far the candidate is above the floor, or above the baseline. `prompts`: independent units; `count`: pairs or
    tokens in them.

    `skew`: what a t bound lacks where the differences lean to the right (Johnson 1978, its Cornish-Fisher
    term mu3 / (6 s^2 n) * (1 + 2 t^2)), added to upper bounds only. `flips`: of prompts that passed or failed under
    either arm; they are then judged by counts. `drift`: either direction is harm. `censored`: the share of tokens of
    which only a bound is known, so that the effect is one.
    """

    seen: Spread
    floor: float | None
    value: float
    prompts: int
    count: int
    skew: float = 0.0
    flips: Flips | None = None
    drift: bool = False
    censored: float = 0.0

    def p(self, limit: float) -> float:
        """The p-value of "the effect is at most `limit`" (of a drift: its size)."""
        if self.drift:
            return min(1.0, 2 * min(self._p(limit), self._mirrored()._p(limit)))
        return self._p(limit)

    def low(self, alpha: float) -> float:
        return lower(self.seen, alpha) if self.flips is None else lower_drop(self.flips, alpha)

    def high(self, alpha: float) -> float:
        return upper(self.seen, alpha) + self.skew if self.flips is None else upper_drop(self.flips, alpha)

    def within(self, limit: float, alpha: float) -> bool:
        """Surely so, at level `alpha`; of a drift in both directions (two one-sided tests)."""
        return self.high(alpha) < limit and (not self.drift or self._mirrored().high(alpha) < limit)

    def _p(self, limit: float) -> float:
        return p_above(self.seen, limit) if self.flips is None else p_drop(self.flips, limit)

    def _mirrored(self) -> Excess:
        flips = None if self.flips is None else self.flips.mirrored()
        return replace(self, seen=mirrored(self.seen), flips=flips)


def means(
    rows: Sequence[Row], rng: np.random.Generator, *, floor: bool, drift: bool = False, censored: float = 0.0
) -> Excess | None:
    """The mean over prompts of candidate less baseline; None of fewer than two prompts. `floor`: the first value of the
    rows is worth telling.
    """
    if not rows:
        return None
    table = np.array(rows, np.float64)
    _, prompt = np.unique(table[:, 0], return_inverse=True)
    sizes = np.bincount(prompt)
    if len(sizes) < 2:
        return None
    first, second = (np.bincount(prompt, weights=table[:, column]) / sizes for column in (1, 2))
    units = second - first
    times = draws(rng, len(units))
    seen = spread(float(units.mean()), units, (times * units).sum(axis=1) / len(units), ordered=False)
    floor_value = float(first.mean()) if floor else None
    skew = max(_skew(units), _skew(-units) if drift else 0.0)
    return Excess(seen, floor_value, float(second.mean()), len(units), len(rows), skew, None, drift, censored)


def passes(rows: Sequence[Row], rng: np.random.Generator, *, drift: bool = False) -> Excess | None:
    """The drop of a score from 0 to 1: by counts of flips where every prompt passed or failed, else as a mean. Where no
    score differs, nothing is known of how much they vary, and they are counted, too.
    """
    found = means([(prompt, -first, -second) for prompt, first, second in rows], rng, floor=True, drift=drift)
    if found is None:
        return None
    found = replace(found, floor=abs(found.floor or 0.0), value=abs(found.value))
    table = np.array(rows, np.float64)
    _, prompt = np.unique(table[:, 0], return_inverse=True)
    sizes = np.bincount(prompt)
    first, second = (np.bincount(prompt, weights=table[:, column]) / sizes for column in (1, 2))
    if (first != second).any() and not np.isin([first, second], (0, 1)).all():
        return found
    return replace(found, flips=Flips(len(sizes), int((first > second).sum()), int((first < second).sum())))


def tail(pairs: Sequence[PairScore], rng: np.random.Generator) -> Excess | None:
    """The 99th percentile of KL over tokens; prompts are dealt into up to 24 groups, which are resampled."""
    numbers = sorted({pair.prompt for pair in pairs})
    groups = min(24, len(numbers))
    if groups < 2:
        return None
    place = {number: i % groups for i, number in enumerate(numbers)}
    ordered = sorted(pairs, key=lambda pair: place[pair.prompt])
    sizes = np.zeros(groups, np.int64)
    for pair in ordered:
        sizes[place[pair.prompt]] += len(pair.kl[0])
    start = np.concatenate([[0], np.cumsum(sizes)])
    values = tuple(np.concatenate([pair.kl[arm] for pair in ordered]) for arm in (0, 1))
    blocks = Blocks((values[0], values[1]), (start, start))
    first, second = (statistic(v, 0.99) for v in values)
    units = np.array(
        [
            np.quantile(values[1][a:b], 0.99) - np.quantile(values[0][a:b], 0.99)
            for a, b in zip(start[:-1].tolist(), start[1:].tolist(), strict=True)
        ]
    )
    low, high = pooled_pair(blocks, 0.99, rng)
    seen = spread(second - first, units, high - low, ordered=False)
    return Excess(seen, first, second, len(numbers), len(values[0]))


def _skew(units: Floats) -> float:
    variance = float(units.var(ddof=1))
    if variance == 0 or len(units) < 3:
        return 0.0
    third = float(((units - units.mean()) ** 3).mean())
    t = t_isf(ALPHA_PASS, len(units) - 1)
    return max(0.0, third / (6 * variance * len(units)) * (1 + 2 * t * t))
