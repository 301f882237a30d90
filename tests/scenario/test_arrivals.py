"""When requests are due: each arrival process against what is known of it."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from scipy import stats

from harness.scenario.plan import expected, requests
from harness.types import StagePlan

BASE = StagePlan(0, "interleaved", "poisson", 1000.0, 0.5, rate=20.0)


def due_s(stage: StagePlan, seed: int = 1) -> np.ndarray:
    return np.array([request.due_ns for request in requests(stage, seed, 7)]) / 1e9


def stage(arrival: str, **changes: object) -> StagePlan:
    return dataclasses.replace(BASE, arrival=arrival, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [0.1, 0.25, 1.0, 4.0, 50.0])
def test_gamma_gaps_have_that_shape_and_the_rates_mean(shape: float) -> None:
    gaps = np.diff(due_s(stage("gamma", burstiness=shape)), prepend=0.0)
    law = stats.gamma(shape, scale=1 / (20 * shape))
    # Bursts hold gaps below a nanosecond, which is what due times are counted in.
    kept, below = gaps[gaps > 1e-6], law.cdf(1e-6)
    assert len(kept) == pytest.approx(len(gaps) * (1 - below), rel=0.02)
    assert stats.kstest(kept, lambda t: (law.cdf(t) - below) / (1 - below)).pvalue > 0.001
    assert gaps.std() / gaps.mean() == pytest.approx(1 / math.sqrt(shape), rel=0.1)
    assert len(gaps) == pytest.approx(20_000, abs=5 * math.sqrt(20_000 / shape))


def test_a_gap_of_shape_1_is_a_poisson_gap() -> None:
    assert due_s(stage("gamma", burstiness=1.0)) == pytest.approx(due_s(BASE), abs=2e-9)


@pytest.mark.parametrize(("first", "last"), [(10.0, 30.0), (30.0, 10.0), (0.5, 100.0), (100.0, 0.5)])
def test_a_ramp_is_linear_and_poisson(first: float, last: float) -> None:
    ramp = stage("poisson", rate=first, rate_to=last)
    due = due_s(ramp)
    assert len(due) == pytest.approx(expected(ramp), abs=5 * math.sqrt(expected(ramp)))
    # Given their number, arrivals of such a process are independent draws from its rate over time.
    share = (first * due + (last - first) * due**2 / (2 * 1000.0)) / expected(ramp)
    assert stats.kstest(share, "uniform").pvalue > 0.001
    # And its time-changed gaps are exponential, which the former does not say.
    assert stats.kstest(np.diff(share * expected(ramp), prepend=0.0), "expon").pvalue > 0.001


def test_a_ramp_of_constant_arrivals_has_evenly_growing_rate() -> None:
    due = due_s(stage("constant", rate=10.0, rate_to=30.0))
    assert len(due) == 20_000
    assert due[0] == 0.0
    counts = np.histogram(due, bins=10, range=(0, 1000))[0]
    assert counts.tolist() == pytest.approx([1000 * (1.1 + 0.2 * i) for i in range(10)], abs=1)


def test_a_ramp_of_gamma_arrivals_bursts_all_the_way() -> None:
    due = due_s(stage("gamma", rate=10.0, rate_to=30.0, burstiness=0.25))
    units = 10 * due + 20 * due**2 / 2000
    gaps = np.diff(units, prepend=0.0)
    for part in np.array_split(gaps, 4):
        assert part.std() / part.mean() == pytest.approx(2.0, rel=0.1)


def test_a_ramp_that_leads_nowhere_is_no_ramp() -> None:
    assert due_s(stage("poisson", rate_to=20.0)) == pytest.approx(due_s(BASE), abs=2e-9)


@pytest.mark.parametrize("arrival", ["poisson", "constant", "gamma"])
@pytest.mark.parametrize("ramp", [{}, {"rate_to": 0.001}, {"rate_to": 500.0}])
def test_due_times_lie_in_the_stage_and_never_go_back(arrival: str, ramp: dict[str, float]) -> None:
    for seed in range(5):
        for seconds in (0.05, 0.7, 33.3):
            planned = stage(arrival, duration_s=seconds, burstiness=0.2, **ramp)
            due = [request.due_ns for request in requests(planned, seed, 7)]
            assert due == sorted(due)
            assert all(0 <= ns < seconds * 1e9 for ns in due)


def test_more_of_a_stage_does_not_change_its_beginning() -> None:
    """Chunks are made when they are needed: where they end shows nowhere."""
    for arrival in ("poisson", "constant", "gamma"):
        long = list(itertools.islice(requests(stage(arrival, burstiness=0.5), 3, 7), 5000))
        short = list(requests(stage(arrival, burstiness=0.5, duration_s=100.0), 3, 7))
        assert short == long[: len(short)]


def test_a_trace_is_replayed_row_by_row() -> None:
    trace_ns = (0, 5, 5, 2_000_000_000, 3_000_000_000)
    replay = stage("trace", duration_s=3.0, rate=4 / 3)
    planned = list(requests(replay, 1, 5, trace_ns))
    assert [(r.due_ns, r.prompt) for r in planned] == [(0, 0), (5, 1), (5, 2), (2_000_000_000, 3)]
    assert sum(r.arms == ("candidate",) for r in planned) == 2


def test_a_long_trace_is_replayed_across_chunks() -> None:
    trace_ns = tuple(range(0, 10**9, 10**5))
    planned = list(requests(stage("trace", duration_s=1.0), 1, 10_000, trace_ns))
    assert [r.due_ns for r in planned] == list(trace_ns)
    assert [r.prompt for r in planned] == list(range(10_000))
    assert [r.pair_id for r in planned] == list(range(10_000))


def test_a_trace_without_rows_in_time_sends_nothing() -> None:
    assert list(requests(stage("trace", duration_s=1.0), 1, 1, ())) == []
