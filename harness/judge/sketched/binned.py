"""Times of both arms in bins, for the rules that compare blocks of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.judge.columns import BASELINE, CANDIDATE
from harness.judge.metrics import quantile_of
from harness.judge.sketched.view import CountedView
from harness.judge.statistics.blocks import BLOCK_REQUESTS, MIN_BLOCKS, Blocks


@dataclass(frozen=True, eq=False)
class Binned:
    """As `latency.Matched`. `blur`: ln of what a value may be off by for its bin; 0 of means that are exact."""

    view: CountedView
    time: str
    quantile: float | None
    paired: bool

    @property
    def counts(self) -> tuple[int, int]:
        one, two = self.view.counts.both(self.time, self.paired)
        return one.total, two.total

    @property
    def requests(self) -> int:
        return min(self.counts)

    @property
    def known(self) -> tuple[int, int]:
        counts = self.view.counts
        return counts.known(self.time, BASELINE), counts.known(self.time, CANDIDATE)

    @property
    def uncounted(self) -> tuple[bool, bool]:
        """Arms that answered, and of whose tokens nobody says how many there were."""
        tokens = self.time in ("tpot", "osl")
        one, two = (tokens and bool(n) and not self.view.tokens(arm)[0] for arm, n in enumerate(self.view.answered))
        return one, two

    @property
    def dropped(self) -> float:
        """The share of pairs that both arms answered, of which only one arm has the time."""
        if not self.paired:
            return 0.0
        lost = sum(self.view.counts.lost.get((self.time, arm), 0) for arm in (BASELINE, CANDIDATE))
        return lost / max(lost + self.requests, 1)

    @property
    def blocks(self) -> Blocks | None:
        key = f"blocks {self.time} {self.quantile is None}"
        if key not in self.view.kept:
            self.view.kept[key] = self.view.counts.blocks(self.time, self.paired, mean=self.quantile is None)
        found: Blocks | None = self.view.kept[key]
        return found

    @property
    def constant(self) -> bool:
        """As far as bins tell."""
        histograms = self.view.counts.both(self.time, self.paired)
        return all(len(np.unique(histogram.bin)) == 1 for histogram in histograms)

    @property
    def coarse(self) -> str:
        return f"known to {self.view.counts.scale.name} only"

    @property
    def too_coarse(self) -> str:
        cell_s = self.view.counts.cell_ns / 1e9
        return (
            f"they are kept by {cell_s:g} s, and it takes {MIN_BLOCKS} blocks of {cell_s:g} s at least and of "
            f"{BLOCK_REQUESTS} requests an arm; the samples themselves can be cut finer"
        )

    @property
    def blur(self) -> float:
        scale = self.view.counts.scale
        return 0.0 if self.quantile is None and (scale.summed or self.time == "osl") else scale.half

    def statistics(self) -> tuple[float, float]:
        """Of both arms; there are values of both."""
        counts = self.view.counts
        histograms = counts.both(self.time, self.paired)
        if self.quantile is not None:
            one, two = (counts.pooled(histogram, self.quantile) for histogram in histograms)
        else:
            one, two = (
                float(counts.sums[self.time, arm, self.paired].sum()) / histogram.total
                for arm, histogram in enumerate(histograms)
            )
        return one, two


def binned(view: CountedView, metric: str) -> Binned:
    time = metric.split(".", 1)[0]
    quantile = None if metric == "osl" else quantile_of(metric)
    return Binned(view, time, quantile, paired=view.plan.mode == "paired" and time != "icl")
