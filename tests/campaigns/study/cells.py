"""One repetition of each row of the study: a count of what happened, by column."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from harness.judge import Evidence, judge_stage
from harness.judge.errors.failures import BURST_S, CAP, clumped
from harness.judge.statistics.counts import difference_bound, log_e_value
from harness.types import Gate, StagePlan, StageRecord
from tests.campaigns.study.coupled import coupled
from tests.campaigns.study.decide import Seen, low_trust, plain, plain_differences, promoted, rolled_back
from tests.campaigns.study.worlds import RATE, SPREAD, WORLDS, Arms, Rng, queueing
from tests.judge.worlds import S, bulk

MARGIN = 0.10
SLOWER = {0.5: 1.05, 0.99: 1.10}
"""What is to be found at margin 0."""

Happened = dict[str, Any]  # column: True or False, or a number, or None
Cell = Callable[[int], Happened]


@dataclass(frozen=True)
class Row:
    """`name` is unique; `cell` makes the repetition of a number."""

    name: str
    cell: Cell


def rows() -> Iterator[Row]:
    for world in WORLDS:
        yield Row(f"latency: {world}", partial(_latency, world, ""))
    yield Row("latency: queueing, same arrivals", partial(_latency, "queueing", "together"))
    yield Row("service 2 % longer: own arrivals", partial(_service, False))
    yield Row("service 2 % longer: same arrivals", partial(_service, True))
    yield Row("tail: 2 % of requests 10 times slower", _tail)
    yield Row("errors: identical, 0.1 %", partial(_errors, 0.001, 0.001, 0.001, 0.0))
    yield Row("errors: identical, 0.1 % and bursts", partial(_errors, 0.001, 0.001, 0.001, 0.01))
    yield Row("errors: 0 against 0.3 %", partial(_errors, 0.0, 0.003, 0.001, 0.0))
    yield Row("errors: 0.1 against 5 %", partial(_errors, 0.001, 0.05, 0.01, 0.0))
    yield Row("coupled arms: v2 30 % slower, v1 dragged by 20 %", partial(coupled, 1.3, 1.2))
    yield Row("coupled arms: identical builds", partial(coupled, 1.0, 1.0))


def _seed(name: str, seed: int) -> Rng:
    return np.random.default_rng([seed, *name.encode()])


def _latency(world: str, how: str, seed: int) -> Happened:
    rng = _seed(world + how, seed)
    arms = queueing(rng, together=True) if how else WORLDS[world](rng)
    happened: Happened = {}
    for quantile, slower in SLOWER.items():
        name = f"p{round(quantile * 100)}"
        seen = Seen.of(arms, quantile, seed)
        differences = plain_differences(arms, quantile)
        happened[f"false rollback {name}"] = rolled_back(seen, 0.0) is not None
        happened[f"false rollback {name}, plain t"] = plain(differences)
        happened[f"promoted at the margin {name}"] = promoted(seen.times(1 + MARGIN), MARGIN)
        happened[f"identical promoted {name}"] = promoted(seen, MARGIN)
        when = rolled_back(seen.times(slower), 0.0)
        happened[f"found {name}"] = when is not None
        happened[f"seconds to find {name}"] = when
        happened[f"found {name}, plain t"] = plain(differences + math.log(slower))
        happened[f"low trust {name}"] = low_trust(seen)
    return happened


def _service(together: bool, seed: int) -> Happened:
    arms = queueing(_seed(f"service {together}", seed), service=1.02, together=together)
    happened: Happened = {}
    for quantile in SLOWER:
        name = f"p{round(quantile * 100)}"
        when = rolled_back(Seen.of(arms, quantile, seed), 0.0)
        happened[f"found {name}"] = when is not None
        happened[f"seconds to find {name}"] = when
        happened[f"found {name}, plain t"] = plain(plain_differences(arms, quantile))
    return happened


def _tail(seed: int) -> Happened:
    """The whole judge, with its default gates, on 1,000 requests an arm."""
    rng, n, seconds = _seed("tail", seed), 1000, 20.0
    due = tuple(np.sort(rng.uniform(0, seconds, n)) for _ in range(2))
    took = [0.05 * np.exp(SPREAD * rng.standard_normal(n)) for _ in range(2)]
    slow = np.where(rng.random(n) < 0.02, 10.0, 1.0)
    same = _judged(Arms((due[0], due[1]), (took[0], took[1])), seconds, seed)
    tail = _judged(Arms((due[0], due[1]), (took[0], took[1] * slow)), seconds, seed)
    return {"found": tail == "rollback", "identical rolled back": same == "rollback"}


def _judged(arms: Arms, seconds: float, seed: int, gates: tuple[Gate, ...] = ()) -> str:
    tables = [
        bulk(arm, due, took, np.arange(len(due)) * 2 + number)
        for number, (arm, due, took) in enumerate(zip(("baseline", "candidate"), arms.due, arms.took, strict=True))
    ]
    plan = StagePlan(0, "interleaved", "poisson", seconds, 0.5, rate=2 * len(arms.due[0]) / seconds)
    end = round((seconds + 1) * S)
    record = StageRecord(plan, 0, end_ns=end, decided_ns=end)
    evidence = Evidence.from_tables(pa.concat_tables(tables), stages=[record], gates=gates, seed=seed)
    return judge_stage(evidence, 0).verdict


def _errors(one: float, two: float, margin: float, bursts_a_second: float, seed: int) -> Happened:
    """20,000 requests an arm, looked at after every one. `bursts_a_second`: of 2 s in which an arm fails."""
    rng, n = _seed(f"errors {one} {two} {bursts_a_second}", seed), 20_000
    failed = [rng.random(n) < rate for rate in (one, two)]
    if bursts_a_second:
        for begin in np.flatnonzero(rng.random(n) < bursts_a_second / RATE).tolist():
            failed[rng.integers(2)][begin : begin + round(2 * RATE)] = True
    size = round(BURST_S * RATE)
    counts = [np.cumsum(flags) for flags in failed]
    when = None
    # Only where the candidate has just failed can its evidence be larger than ever before.
    for at in np.flatnonzero(failed[1]).tolist():
        first, second = (_by_block(flags[: at + 1], size) for flags in failed)
        if log_e_value(float(second.sum()) / clumped(second), float(first.sum()), 0.5) < math.log(100):
            continue
        low = difference_bound(int(counts[1][at]), at + 1, int(counts[0][at]), at + 1, alpha=0.01, side="lower")
        if low > margin:
            when = at + 1
            break
    objective = None
    for number, at in enumerate(np.flatnonzero(failed[1]).tolist(), 1):
        if log_e_value(number, at + 1 - number, 0.005) >= math.log(100):
            objective = at + 1
            break
    return {
        "rolled back": when is not None,
        "requests until then": when,
        "beyond an objective of 0.5 %": objective is not None,
        "requests until beyond it": objective,
    }


def _by_block(failed: Any, size: int) -> Any:
    """Failures of each block of `size` requests, CAP at most."""
    return np.minimum(np.add.reduceat(failed, np.arange(0, len(failed), size), dtype=np.int64), CAP).astype(float)
