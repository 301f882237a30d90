"""Simulated histories: what nights differ by, and where the level changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Rng = np.random.Generator
Noise = Callable[[Rng, int], Floats]
NOISE = 0.03
EDGE = 15
"""A change has at least so many runs before and from it on (half of a history that is too short for it)."""


def normal(rng: Rng, runs: int) -> Floats:
    return rng.standard_normal(runs)


def heavy(rng: Rng, runs: int) -> Floats:
    """Student's t of 3 degrees of freedom, of variance 1."""
    return rng.standard_t(3, runs) / math.sqrt(3)


def neighbours(rng: Rng, runs: int) -> Floats:
    """AR(1) of 0.3, of variance 1."""
    drawn = rng.standard_normal(runs)
    for run in range(1, runs):
        drawn[run] = 0.3 * drawn[run - 1] + math.sqrt(1 - 0.3**2) * drawn[run]
    return drawn


def outliers(rng: Rng, runs: int) -> Floats:
    """5 % of nights take 50 % longer: always in the same direction, which is the worst for a judge."""
    return rng.standard_normal(runs) + (rng.random(runs) < 0.05) * math.log(1.5) / NOISE


def still(rng: Rng, runs: int) -> Floats:
    """No noise at all, as of memory that a model takes."""
    return np.zeros(runs)


@dataclass(frozen=True)
class World:
    """`step`: the change, 0.1 is 10 %; `within`: runs that may have it until it is told; `back`: runs that it lasts."""

    name: str
    step: float = 0.0
    within: int = 0
    noise: Noise = normal
    runs: int = 60
    drift: float = 0.0
    back: int = 0

    def draw(self, seed: int) -> tuple[Floats, int]:
        """The values, and the index of the first run that has the change (the number of runs, if none has)."""
        rng = np.random.default_rng([seed, *self.name.encode()])
        logs = NOISE * self.noise(rng, self.runs) + math.log1p(self.drift) * np.arange(self.runs) / self.runs
        if not self.step:
            return 100 * np.exp(logs), self.runs
        edge = min(EDGE, self.runs // 3)
        at = int(rng.integers(edge, self.runs - max(edge, self.back + EDGE if self.back else 0) + 1))
        logs[at : at + self.back if self.back else None] += math.log1p(self.step)
        return 100 * np.exp(logs), at


def worlds() -> Iterator[World]:
    yield World("no change")
    yield World("+10 %", 0.10, 5)
    yield World("+5 %", 0.05, 15)
    yield World("-10 %", -0.10, 5)
    yield World("no change, heavy tails", noise=heavy)
    yield World("+10 %, heavy tails", 0.10, 5, noise=heavy)
    yield World("no change, 5 % outliers", noise=outliers)
    yield World("+10 %, 5 % outliers", 0.10, 5, noise=outliers)
    yield World("no change, AR(1) of 0.3", noise=neighbours)
    yield World("+10 %, AR(1) of 0.3", 0.10, 5, noise=neighbours)
    yield World("no change, 200 runs", runs=200)
    yield World("no change, 200 runs, AR(1) of 0.3", noise=neighbours, runs=200)
    yield World("no change, 30 runs", runs=30)
    yield World("+10 %, 30 runs", 0.10, 5, runs=30)
    yield World("+10 %, 200 runs", 0.10, 5, runs=200)
    yield World("+5 %, 200 runs", 0.05, 15, runs=200)
    yield World("+10 % for 10 runs, then back", 0.10, 5, back=10)
    yield World("drift of 5 % over 60 runs", drift=0.05)
    yield World("drift of 20 % over 60 runs", drift=0.20)
    yield World("+1 %, no noise", 0.01, 5, noise=still)
