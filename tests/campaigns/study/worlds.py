"""The worlds: what two arms of a known ratio take, request by request. All times in seconds.

Unless it says otherwise a world has 50 requests/s an arm for 300 s, each arm with arrivals of its own, and latencies of
about the same spread, so that its rows can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import signal

Floats = npt.NDArray[np.float64]
Rng = np.random.Generator

RATE, SECONDS = 50.0, 300.0
STEP_S = 0.1
SPREAD = 0.38


@dataclass(frozen=True)
class Arms:
    """Due times (seconds, sorted) and latencies of both arms. `paired`: row i of both is one pair."""

    due: tuple[Floats, Floats]
    took: tuple[Floats, Floats]
    paired: bool = False


World = Callable[..., Arms]


def arrivals(rng: Rng, rate: float = RATE, seconds: float = SECONDS) -> Floats:
    return np.sort(rng.uniform(0, seconds, rng.poisson(rate * seconds)))


def weather(rng: Rng, sd: float, scale_s: float, seconds: float = SECONDS) -> Callable[[Floats], Floats]:
    """An Ornstein-Uhlenbeck drift with that standard deviation and time scale, read at any second."""
    rho = math.exp(-STEP_S / scale_s)
    noise = rng.standard_normal(round(seconds / STEP_S) + 1) * sd
    noise[1:] *= math.sqrt(1 - rho * rho)
    path = signal.lfilter([1.0], [1.0, -rho], noise)
    return lambda due: np.asarray(path[np.minimum((due / STEP_S).astype(int), len(path) - 1)])


def _ar1(rng: Rng, n: int) -> Floats:
    """AR(1), rho 0.9, with innovations that lean to the right, as latencies do."""
    noise = (rng.exponential(1.0, n) - 1) * SPREAD * math.sqrt(1 - 0.81)
    return np.asarray(signal.lfilter([1.0], [1.0, -0.9], noise))


def _arms(rng: Rng, took: Callable[[Floats], Floats], ratio: float) -> Arms:
    due = arrivals(rng), arrivals(rng)
    return Arms(due, (took(due[0]), ratio * took(due[1])))


def iid(rng: Rng, ratio: float = 1.0) -> Arms:
    """Independent lognormal latencies."""
    return _arms(rng, lambda due: 0.05 * np.exp(SPREAD * rng.standard_normal(len(due))), ratio)


def autocorrelated(rng: Rng, ratio: float = 1.0, *, own: float = 0.0, own_scale_s: float = 10.0) -> Arms:
    """AR(1) of rho 0.9 from request to request, and a drift of 20 s and 15 % that both arms share."""
    shared = weather(rng, 0.15, 20.0)

    def took(due: Floats) -> Floats:
        alone = weather(rng, own, own_scale_s) if own else (lambda due: np.zeros(len(due)))
        return np.asarray(0.05 * np.exp(shared(due) + alone(due) + _ar1(rng, len(due))))

    return _arms(rng, took, ratio)


def drifting(rng: Rng, ratio: float = 1.0) -> Arms:
    """The same, and a drift of 10 s and 4 % of each arm by itself."""
    return autocorrelated(rng, ratio, own=0.04)


def drifting_slowly(rng: Rng, ratio: float = 1.0) -> Arms:
    """The same with a drift of 100 s: within the run hardly to be told from a difference between the builds."""
    return autocorrelated(rng, ratio, own=0.04, own_scale_s=100.0)


def queueing(rng: Rng, ratio: float = 1.0, *, service: float = 1.0, together: bool = False) -> Arms:
    """Two M/G/1 queues at load 0.7, coefficient of variation 0.32, with a slowdown of 20 s and 15 % that both share.
    `service`: how much longer the candidate works. `together`: the same arrivals, and half of the variance of the work
    is the prompt's.
    """
    slowdown = weather(rng, 0.15, 20.0)
    due = arrivals(rng)
    prompt = rng.standard_normal(len(due))
    dues, tooks = [], []
    for arm in range(2):
        mine = due if together or arm == 0 else arrivals(rng)
        own = rng.standard_normal(len(mine))
        work = math.sqrt(0.5) * (prompt + own) if together else own
        sd = math.sqrt(math.log(1.1))
        busy = 0.7 / RATE * np.exp(sd * work - sd * sd / 2 + slowdown(mine) - 0.15**2 / 2)
        busy *= service if arm else 1.0
        # Lindley: the k-th is done when all before it are; the server idles until somebody comes.
        total = np.cumsum(busy)
        done = total + np.maximum.accumulate(mine - (total - busy))
        dues.append(mine)
        tooks.append(done - mine)
    return Arms((dues[0], dues[1]), (tooks[0], ratio * tooks[1]), paired=together)


def diurnal(rng: Rng, ratio: float = 1.0) -> Arms:
    """A day in 300 s: the load swings by half, latencies with it by a fifth, and are autocorrelated."""
    shared = weather(rng, 0.10, 20.0)

    def swing(due: Floats) -> Floats:
        return np.asarray(np.sin(2 * math.pi * due / SECONDS))

    due = []
    for _ in range(2):
        more = arrivals(rng, 1.5 * RATE)
        due.append(more[rng.random(len(more)) < (1 + 0.5 * swing(more)) / 1.5])
    took = [0.05 * np.exp(0.2 * swing(d) + shared(d) + _ar1(rng, len(d))) for d in due]
    return Arms((due[0], due[1]), (took[0], ratio * took[1]))


def heavy(rng: Rng, ratio: float = 1.0) -> Arms:
    """Latencies with a Pareto tail of index 1.5: their variance is infinite; and a shared drift."""
    shared = weather(rng, 0.10, 20.0)
    return _arms(rng, lambda due: 0.05 * (1 + 0.3 * rng.pareto(1.5, len(due))) * np.exp(shared(due)), ratio)


def bimodal(rng: Rng, ratio: float = 1.0) -> Arms:
    """Cache hits: a share of requests that wanders about 40 % takes a tenth of the time; both arms hit together."""
    shared, hits = weather(rng, 0.10, 20.0), weather(rng, 0.15, 20.0)

    def took(due: Floats) -> Floats:
        hit = rng.random(len(due)) < 0.4 * np.exp(hits(due))
        return np.asarray(np.where(hit, 0.005, 0.05) * np.exp(shared(due) + 0.3 * rng.standard_normal(len(due))))

    return _arms(rng, took, ratio)


WORLDS: dict[str, World] = {
    "iid": iid,
    "autocorrelated": autocorrelated,
    "queueing": queueing,
    "diurnal": diurnal,
    "heavy tails": heavy,
    "bimodal": bimodal,
    "drifting arms": drifting,
    "slowly drifting arms": drifting_slowly,
}


def described() -> dict[str, Any]:
    """World by world, its first sentence."""
    return {name: " ".join((world.__doc__ or "").split()) for name, world in WORLDS.items()}
