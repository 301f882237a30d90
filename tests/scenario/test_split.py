"""Who gets a request where traffic is split in three, and what workers make of a plan."""

import dataclasses
import itertools
import random

import numpy as np
import pytest
from scipy import stats

from harness.scenario.plan import requests
from harness.types import PlannedRequest, StagePlan

THREE = StagePlan(3, "split", "poisson", 500.0, 0.1, rate=20.0, baseline_share=0.1)


def three(candidate: float, baseline: float, **changes: object) -> StagePlan:
    return dataclasses.replace(THREE, candidate_share=candidate, baseline_share=baseline, **changes)


def some(stage: StagePlan, seed: int = 1, count: int = 10_000) -> list[PlannedRequest]:
    return list(itertools.islice(requests(stage, seed, 7), count))


def to(planned: list[PlannedRequest], arm: str) -> int:
    return sum(request.arms == (arm,) for request in planned)


def test_eighty_ten_ten() -> None:
    planned = some(THREE)
    assert THREE.shares == pytest.approx({"baseline": 0.1, "candidate": 0.1, "stable": 0.8})
    for start in range(0, len(planned) - 10, 10):
        block = planned[start : start + 10]
        assert (to(block, "baseline"), to(block, "candidate"), to(block, "stable")) == (1, 1, 8)


@pytest.mark.parametrize(
    ("candidate", "baseline"),
    [(0.1, 0.1), (0.05, 0.2), (0.33, 0.33), (0.01, 0.01), (0.125, 0.3), (0.45, 0.45), (0.07, 0.9)],
)
def test_each_arm_gets_its_share_and_none_is_starved(candidate: float, baseline: float) -> None:
    stage = three(candidate, baseline, duration_s=5000.0)
    size = max(10, round(1 / min(stage.shares.values())) + 1)
    planned = some(stage, count=100_000)
    for arm, share in stage.shares.items():
        assert to(planned, arm) == pytest.approx(share * len(planned), abs=2 + size * share)
    for start in range(0, 50 * size, size):
        block = planned[start : start + 2 * size]
        assert to(block, "candidate") > 0
        assert to(block, "baseline") > 0


def test_where_an_arm_stands_in_a_block_is_random() -> None:
    planned = some(dataclasses.replace(THREE, arrival="constant"))
    for arm in ("baseline", "candidate"):
        places = [i % 10 for i, request in enumerate(planned) if request.arms == (arm,)]
        assert len(places) == 1000
        assert stats.chisquare(np.bincount(places, minlength=10)).pvalue > 0.001


def test_a_short_stage_gives_each_arm_that_expects_a_request_one() -> None:
    for seed in range(200):
        planned = some(three(0.1, 0.1, rate=1.0, duration_s=12.0), seed=seed)
        if len(planned) >= 2:
            assert to(planned, "candidate") >= 1
            assert to(planned, "baseline") >= 1


def test_shares_that_add_up_to_all_leave_no_third_arm() -> None:
    whole = three(0.1, 0.9)
    assert set(whole.shares) == {"baseline", "candidate"}
    assert some(whole) == some(dataclasses.replace(THREE, baseline_share=None))


SHARES = [("paired", 0.5, None), ("interleaved", 0.5, None), ("split", 0.1, None), ("split", 1.0, None)]
SHARES += [("split", 0.1, 0.1), ("split", 0.003, 0.2)]


def cases() -> list[StagePlan]:
    """Stages of every arrival and mode, drawn at random."""
    rng = random.Random(4)
    made = []
    for arrival in ("poisson", "constant", "gamma", "trace", "closed"):
        for mode, candidate, baseline in SHARES:
            stage = StagePlan(rng.randrange(50), mode, arrival, rng.uniform(0.1, 30), candidate)  # type: ignore[arg-type]
            if arrival == "closed":
                stage = dataclasses.replace(stage, in_flight=4)
            elif arrival != "trace":
                ramp = rng.choice([None, rng.uniform(1, 150)])
                stage = dataclasses.replace(stage, rate=rng.uniform(1, 150), rate_to=ramp)
            made.append(dataclasses.replace(stage, burstiness=rng.uniform(0.1, 5), baseline_share=baseline))
    return made


@pytest.mark.parametrize("stage", cases(), ids=lambda s: f"{s.arrival}-{s.mode}-{s.candidate_share}-{s.baseline_share}")
def test_the_workers_shares_are_the_plan(stage: StagePlan) -> None:
    seed, prompts = stage.index + 7, 1 + stage.index
    trace_ns = tuple(sorted(random.Random(seed).randrange(40 * 10**9) for _ in range(3000)))
    whole = list(itertools.islice(requests(stage, seed, prompts, trace_ns), 10_000))
    for workers in (1, 2, 3, 4):
        shares = [
            list(itertools.islice(requests(stage, seed, prompts, trace_ns, worker=w, workers=workers), 10_000))
            for w in range(workers)
        ]
        for worker, share in enumerate(shares):
            assert share[: len(whole[worker::workers])] == whole[worker::workers]
        if stage.arrival != "closed":
            assert sorted(itertools.chain(*shares), key=lambda request: request.pair_id) == whole


def test_a_worker_of_too_few_requests_gets_none() -> None:
    stage = StagePlan(0, "paired", "constant", 0.05, 0.5, rate=20.0)
    assert len(list(requests(stage, 1, 3))) == 1
    assert [len(list(requests(stage, 1, 3, worker=worker, workers=4))) for worker in range(4)] == [1, 0, 0, 0]
