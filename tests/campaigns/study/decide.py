"""What the judge decides on one pair of arms at every look, with the judge's own functions.

The bootstrap, which takes most of the time, is left out where the block differences alone do not decide: both must.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from harness.judge.statistics.blocks import MIN_BLOCKS, Blocks, block_logs, by_pairs, by_time, log_of, statistic
from harness.judge.statistics.boundary import Looks
from harness.judge.statistics.distributions import normal_isf, t_isf, t_sf
from harness.judge.statistics.intervals import (
    ALPHA_FAIL,
    ALPHA_PASS,
    Differences,
    Spread,
    degrees,
    differ,
    p_agreed,
    spread,
    upper,
)
from harness.judge.statistics.resample import generator, pooled_pair
from tests.campaigns.study.worlds import SECONDS, Arms

Floats = npt.NDArray[np.float64]
LOOK_S = 10.0


@dataclass(frozen=True)
class Seen:
    """Both arms cut into blocks, which do not change from look to look. `differences`: D_b of the whole run, the times
    of the candidate multiplied by e^`shift`.
    """

    arms: Arms
    blocks: Blocks
    quantile: float
    differences: Floats
    seed: int
    shift: float = 0.0
    made: dict[int, Spread] = field(default_factory=dict)

    @classmethod
    def of(cls, arms: Arms, quantile: float, seed: int) -> Seen:
        due = [np.round(due * 1e9).astype(np.int64) for due in arms.due]
        if arms.paired:
            blocks = by_pairs(due[0], *arms.took, 0)
        else:
            blocks = by_time(due[0], arms.took[0], due[1], arms.took[1], 0)
        assert blocks is not None
        logs = block_logs(blocks, quantile)
        return cls(arms, blocks, quantile, logs[1] - logs[0], seed)

    def times(self, ratio: float) -> Seen:
        """The same with a candidate that takes that much longer."""
        return replace(self, differences=self.differences + math.log(ratio), shift=self.shift + math.log(ratio))

    def looks(self) -> list[tuple[int, float]]:
        """How many blocks there are at each look, and after which share of the run."""
        block_s = SECONDS / len(self.differences)
        times = np.arange(LOOK_S, SECONDS + 1e-9, LOOK_S)
        ends = [(int(t / block_s + 1e-9), t / SECONDS) for t in times.tolist()]
        return [(blocks, share) for blocks, share in ends if blocks >= MIN_BLOCKS]

    def first(self, blocks: int) -> Differences:
        return differ(self.differences[:blocks], ordered=True, robust=True)

    def whole(self, blocks: int) -> Spread:
        """With the bootstrap, which is made once: all times longer by a factor shift it on the scale of ln."""
        if blocks not in self.made:
            self.made[blocks] = self._whole(blocks)
        made, more = self.made[blocks], self.shift
        return replace(made, effect=made.effect + more, mean=made.mean + more, sorted_draws=made.sorted_draws + more)

    def _whole(self, blocks: int) -> Spread:
        starts = [start[: blocks + 1] for start in self.blocks.start]
        values = [v[: start[-1]] for v, start in zip(self.blocks.values, starts, strict=True)]
        cut = Blocks((values[0], values[1]), (starts[0], starts[1]))
        draws = pooled_pair(cut, self.quantile, generator(self.seed, "study", blocks))
        effect = math.log(statistic(values[1], self.quantile) / statistic(values[0], self.quantile))
        resamples = log_of(draws[1]) - log_of(draws[0])
        return spread(effect, self.differences[:blocks] - self.shift, resamples, ordered=True, robust=True)


def rolled_back(seen: Seen, margin: float) -> float | None:
    """When (seconds) a look says rollback; None if none does."""
    bar = math.log1p(margin)
    for blocks, share in seen.looks():
        found, looks = seen.first(blocks), Looks(share)
        if not looks.p(t_sf((found.mean - bar) / found.se, degrees(blocks, robust=True)), blocks) <= ALPHA_FAIL:
            continue
        if looks.p(p_agreed(seen.whole(blocks), bar), blocks) <= ALPHA_FAIL:
            return share * SECONDS
    return None


def promoted(seen: Seen, margin: float) -> bool:
    """Whether the end says promote."""
    bar, blocks = math.log1p(margin), len(seen.differences)
    found = seen.first(blocks)
    if found.mean + t_isf(ALPHA_PASS, degrees(blocks, robust=True)) * found.se >= bar:
        return False
    return upper(seen.whole(blocks), ALPHA_PASS) < bar


def low_trust(seen: Seen) -> bool:
    """Whether the finding says so at the end of the run."""
    return seen.whole(len(seen.differences)).low_trust


def plain_differences(arms: Arms, quantile: float) -> Floats:
    """For comparison: D_b of plain block quantiles."""
    edges = np.arange(0, SECONDS + 1, 5.0)
    logs = []
    for due, took in zip(arms.due, arms.took, strict=True):
        parts = np.split(took, np.searchsorted(due, edges[1:-1]))
        logs.append(np.log([np.quantile(part, quantile) for part in parts]))
    return np.asarray(logs[1] - logs[0])


def plain(differences: Floats) -> bool:
    """For comparison: a t-test at O'Brien and Fleming's looks."""
    for blocks in range(MIN_BLOCKS, len(differences) + 1, 2):
        part = differences[:blocks]
        t = part.mean() / (part.std(ddof=1) / math.sqrt(blocks))
        z = normal_isf(max(t_sf(float(t), blocks - 1), 1e-300))
        if z >= normal_isf(ALPHA_FAIL / 2) / math.sqrt(blocks / len(differences)):
            return True
    return False
