"""A finding and its interval say the same, whatever the data look like: found worse exactly where the lower bound lies
above the margin, and passed exactly where the upper one lies below it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from harness.judge import Evidence, judge_stage
from harness.judge.metrics import normalise
from harness.judge.statistics.boundary import Looks
from harness.judge.statistics.intervals import ALPHA_FAIL, lower, lower_agreed, p_above, p_agreed, spread
from harness.judge.statistics.robust import ROUNDING
from harness.types import Finding, Gate, StageRecord
from tests.judge.worlds import S, bulk, plan

SECONDS = 60
Shape = Callable[[np.random.Generator, int], np.ndarray]
SHAPES: dict[str, Shape] = {
    "lognormal": lambda rng, n: 0.05 * np.exp(0.4 * rng.standard_normal(n)),
    "whole milliseconds": lambda rng, n: np.round(5 * np.exp(0.3 * rng.standard_normal(n))) / 1e3,
    "hardly any spread": lambda rng, n: np.round(20.5 + 0.4 * rng.standard_normal(n)) / 1e3,
    "mostly zero": lambda rng, n: np.round(0.7 * np.exp(0.5 * rng.standard_normal(n))) / 1e3,
    "wild": lambda rng, n: rng.uniform(0.045, 0.055, n) * np.where(rng.random(n) < 0.02, 10 ** rng.uniform(0, 5, n), 1),
    "before it was sent": lambda rng, n: rng.normal(0.01, 0.01, n),
    "two humps": lambda rng, n: np.where(rng.random(n) < 0.4, 0.005, 0.05) * np.exp(0.1 * rng.standard_normal(n)),
}  # fmt: skip
METRICS = [f"response_time.{statistic}" for statistic in ("p50", "p90", "p95", "p99", "mean")]


def recorded(shape: Shape, seed: int, n: int, ratio: float, *, mode: str, decided: bool, gates: list[Gate]) -> Evidence:
    rng = np.random.default_rng([seed, n])
    due = [np.sort(rng.uniform(0, SECONDS, n)) for _ in range(2)]
    rows = [bulk("baseline", due[0], shape(rng, n)), bulk("candidate", due[1], ratio * shape(rng, n))]
    record = StageRecord(plan(0, mode, SECONDS, until_decided=decided), 0, end_ns=(SECONDS + 10) * S)
    return Evidence.from_tables(pa.concat_tables(rows), stages=[record], gates=gates, seed=seed)


def said(found: Finding) -> None:
    assert found.interval is not None
    low, high = found.interval
    assert low is not None
    assert high is not None
    assert found.margin is not None
    assert math.isfinite(low)
    assert math.isfinite(high)
    assert low <= high
    margin, near = found.margin, 10 * ROUNDING  # what lies that close is on neither side
    assert found.outcome != "fail" or low > margin, found.reason
    if "dropped" not in found.reason:  # of what is lossy nothing is said, wherever its bounds are
        assert found.outcome == "fail" or low < margin * (1 + near), found.reason
    assert found.outcome != "pass" or high < margin, found.reason


@pytest.mark.parametrize("mode", ["paired", "interleaved"])
@pytest.mark.parametrize("shape", SHAPES)
def test_of_times(shape: str, mode: str) -> None:
    seen = 0
    for seed, (n, ratio, margin) in enumerate(
        [(300, 1.0, 0.0), (300, 1.2, 0.1), (1200, 1.0, 0.1), (1200, 1.1, 0.0), (1200, 1.1, 0.1), (1200, 1.3, 0.1)]
    ):
        for metric in METRICS:
            gates = list(normalise([Gate(metric, margin)]))
            evidence = recorded(SHAPES[shape], seed, n, ratio, mode=mode, decided=seed % 2 == 1, gates=gates)
            for now_ns in (None, 25 * S):
                (found,) = (f for f in judge_stage(evidence, 0, now_ns=now_ns).findings if f.metric == metric)
                if found.interval is not None:
                    said(found)
                    seen += 1
                    high, limit = found.interval[1] or 0.0, found.margin or 0.0
                    if now_ns is None and found.outcome == "inconclusive" and "dropped" not in found.reason:
                        assert high > limit * (1 - 10 * ROUNDING)
    assert seen > 20


def lengths(drift: float, seed: int, n: int) -> Finding:
    rng = np.random.default_rng(seed)
    due = np.sort(rng.uniform(0, SECONDS, n))
    rows = []
    for arm, length in (("baseline", 20.0), ("candidate", 20.0 * drift)):
        plain = bulk(arm, due, np.full(n, 0.3))
        osl = pa.array(rng.poisson(length, n) + 1, pa.int32())
        rows.append(plain.set_column(plain.schema.get_field_index("osl"), plain.schema.field("osl"), osl))
    record = StageRecord(plan(0, "paired", SECONDS), 0, end_ns=(SECONDS + 1) * S)
    evidence = Evidence.from_tables(pa.concat_tables(rows), stages=[record], gates=[Gate("osl", 0.2)])
    return next(f for f in judge_stage(evidence, 0).findings if f.metric == "osl")


def test_of_lengths() -> None:
    """A drift counts in both directions, so either has half of the level."""
    assert [lengths(drift, 7, 400).outcome for drift in (0.5, 1.0, 2.0)] == ["fail", "pass", "fail"]
    outcomes = set()
    for seed in range(60):
        found = lengths(1.28, seed, 200)
        said(found)
        outcomes.add(found.outcome)
    assert outcomes == {"fail", "inconclusive"}


@pytest.mark.parametrize("ties", [False, True])
def test_of_bounds_and_p_values(ties: bool) -> None:
    """The bound lies above a bar exactly where the p-value is below the level, at the levels of early looks too."""
    rng = np.random.default_rng(2)
    for _ in range(150):
        n = int(rng.integers(12, 60))
        shift = rng.uniform(-0.05, 0.25)
        units = rng.normal(shift, 0.1, n)
        draws = rng.normal(shift, 0.1 / math.sqrt(n), 2000)
        if ties:
            units, draws = np.round(units, 1), np.round(draws, 2)
        seen = spread(float(np.median(draws)), units, draws, ordered=True, robust=True)
        for fraction in (None, 0.05, 0.3, 0.7, 1.0):
            level = Looks(fraction).level(ALPHA_FAIL, n)
            for bar in (-0.05, 0.0, 0.05, 0.1, math.log(1.1)):
                for bound, p in (
                    (lower(seen, level), p_above(seen, bar)),
                    (lower_agreed(seen, level), p_agreed(seen, bar)),
                ):
                    if abs(bound - bar) > 10 * ROUNDING:
                        assert (bound > bar) == (p <= level)
