"""The plan: fixed by the seed, balanced, spread as asked."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from harness.scenario import load, plan, requests
from harness.types import PlannedRequest, Prompt, StagePlan

PAIRED = StagePlan(0, "paired", "poisson", 50.0, 0.5, rate=20.0)
INTERLEAVED = StagePlan(1, "interleaved", "constant", 50.0, 0.5, rate=20.0)
CLOSED = StagePlan(2, "paired", "closed", 50.0, 0.5, in_flight=2)


def split(share: float, *, rate: float = 20.0, duration_s: float = 50.0, arrival: str = "poisson") -> StagePlan:
    return StagePlan(3, "split", arrival, duration_s, share, rate=rate)  # type: ignore[arg-type]


def some(stage: StagePlan, seed: int = 1, prompts: int = 7, count: int = 10_000) -> list[PlannedRequest]:
    return list(itertools.islice(requests(stage, seed, prompts), count))


def candidates(planned: list[PlannedRequest]) -> int:
    return sum(request.arms == ("candidate",) for request in planned)


def test_the_issues_example(scenario_file: Path) -> None:
    planned = plan(load(str(scenario_file)))
    assert planned.prompts == (Prompt("One?"), Prompt("Two?"), Prompt("Three?"))
    assert planned.seed == 1
    assert planned.stages == (
        StagePlan(0, "paired", "closed", 90.0, 0.5, in_flight=1),
        StagePlan(1, "split", "poisson", 20.0, 0.1, rate=1.0),
        StagePlan(2, "split", "poisson", 30.0, 0.5, rate=1.0),
        StagePlan(3, "split", "poisson", 20.0, 1.0, rate=1.0),
        StagePlan(4, "split", "poisson", 10.0, 1.0, rate=1.0, purpose="soak"),
    )
    assert planned.duration_s == 170.0


def test_a_deploy_comes_first_and_lasts_as_long_as_it_takes(scenario_file: Path) -> None:
    wanted = ["deploy={rate: 50/s, within: 2m}", "load.arrival=constant"]
    planned = plan(load(str(scenario_file), wanted))
    assert planned.stages[0] == StagePlan(0, "split", "constant", 120.0, 0.0, rate=50.0, purpose="deploy")
    assert [stage.index for stage in planned.stages] == [0, 1, 2, 3, 4, 5]
    assert planned.duration_s == 170.0
    assert {request.arms for request in some(planned.stages[0])} == {("baseline",)}


def test_no_soak_where_nothing_is_kept(scenario_file: Path) -> None:
    assert len(plan(load(str(scenario_file), ["on_promote={then: unload}"])).stages) == 4


def test_arrival_of_a_stage_goes_before_that_of_the_load(scenario_file: Path) -> None:
    stages = plan(load(str(scenario_file), ["load.arrival=constant", "stages.1.arrival=poisson"])).stages
    assert [stage.arrival for stage in stages[:3]] == ["closed", "poisson", "constant"]


@pytest.mark.parametrize("stage", [PAIRED, INTERLEAVED, CLOSED, split(0.1), split(0.0), split(1.0)])
def test_the_seed_fixes_everything(stage: StagePlan) -> None:
    assert some(stage) == some(stage)
    other = some(stage, seed=2)
    assert [r.prompt for r in other] != [r.prompt for r in some(stage)]


def test_a_plan_that_must_never_change() -> None:
    """A seed names a plan: another numpy or another release must give the same requests."""
    assert some(PAIRED, count=3) == [
        PlannedRequest(0, 35853721, 2, ("candidate", "baseline")),
        PlannedRequest(1, 186106194, 0, ("baseline", "candidate")),
        PlannedRequest(2, 193889764, 4, ("candidate", "baseline")),
    ]


def test_stages_of_the_same_kind_differ() -> None:
    first, second = some(PAIRED), some(dataclasses.replace(PAIRED, index=5))
    assert [r.due_ns for r in first] != [r.due_ns for r in second]
    assert [r.pair_id for r in second[:3]] == [5 << 32, (5 << 32) + 1, (5 << 32) + 2]


def test_another_rate_leaves_arms_and_prompts_as_they_were() -> None:
    slow, fast = some(split(0.1)), some(split(0.1, rate=40.0))
    assert [(r.arms, r.prompt) for r in fast[: len(slow)]] == [(r.arms, r.prompt) for r in slow]


def test_the_plan_is_lazy() -> None:
    forever = dataclasses.replace(PAIRED, duration_s=1e12)
    assert len(some(forever, count=10)) == 10
    assert len(some(CLOSED, count=20_000)) == 20_000


def test_a_closed_loop_has_no_due_times() -> None:
    assert {request.due_ns for request in some(CLOSED)} == {-1}


@pytest.mark.parametrize("stage", [PAIRED, INTERLEAVED, split(0.3)])
def test_due_times_lie_in_the_stage_and_never_go_back(stage: StagePlan) -> None:
    due = [request.due_ns for request in some(stage)]
    assert due == sorted(due)
    assert due[0] >= 0
    assert due[-1] < stage.duration_s * 1e9


def test_constant_arrivals() -> None:
    assert [request.due_ns for request in some(INTERLEAVED)] == [i * 50_000_000 for i in range(1000)]


def test_poisson_arrivals_have_exponential_gaps_across_chunks() -> None:
    stage = dataclasses.replace(PAIRED, duration_s=1000.0)
    due = np.array([request.due_ns for request in some(stage, count=10**6)]) / 1e9
    assert abs(len(due) - 20_000) < 5 * 20_000**0.5
    gaps = np.diff(due, prepend=0.0)
    assert stats.kstest(gaps, stats.expon(scale=1 / 20).cdf).pvalue > 0.001
    # No gap is lost or doubled where one chunk ends and the next begins.
    assert np.diff(due)[4090:4100].max() < 1.0


def test_paired_sends_every_prompt_to_both_and_balances_who_is_first() -> None:
    planned = some(PAIRED)
    assert {tuple(sorted(request.arms)) for request in planned} == {("baseline", "candidate")}
    for start in range(0, len(planned) - 4, 4):
        assert sum(request.arms[0] == "candidate" for request in planned[start : start + 4]) == 2
    orders = {tuple(r.arms[0] for r in planned[start : start + 4]) for start in range(0, len(planned) - 4, 4)}
    assert len(orders) == 6  # all ways to place two of four


def test_interleaved_is_balanced_in_blocks() -> None:
    planned = some(INTERLEAVED)
    assert all(candidates(planned[start : start + 4]) == 2 for start in range(0, 1000, 4))


@pytest.mark.parametrize("percent", [1, 3, 5, 7, 10, 12.5, 15, 20, 33.3, 50, 66, 80, 90, 93, 95, 99])
def test_a_split_keeps_its_share_and_starves_nobody(percent: float) -> None:
    share = percent / 100
    size = max(10, -(-1 // min(share, 1 - share)))
    planned = some(split(share, duration_s=5000.0, rate=20.0), count=100_000)
    for seed in range(20):
        first = some(split(share, duration_s=5000.0), seed=seed, count=int(size))
        assert 0 < candidates(first) < len(first)
    assert candidates(planned) == pytest.approx(share * len(planned), abs=2 + size * min(share, 1 - share))


def test_a_short_split_gives_each_arm_that_expects_a_request_one() -> None:
    for share, duration_s in ((0.1, 20.0), (0.1, 10.0), (0.9, 10.0)):
        for seed in range(200):
            planned = some(split(share, rate=1.0, duration_s=duration_s), seed=seed)
            assert len(planned) < 2 or 0 < candidates(planned) < len(planned), seed


def test_where_the_candidate_stands_in_a_block_is_random() -> None:
    planned = some(split(0.1, arrival="constant", duration_s=500.0))
    places = [i % 10 for i, request in enumerate(planned) if request.arms == ("candidate",)]
    assert len(places) == 1000
    assert stats.chisquare(np.bincount(places, minlength=10)).pvalue > 0.001


@pytest.mark.parametrize(("share", "arm"), [(0.0, "baseline"), (1.0, "candidate")])
def test_all_or_nothing(share: float, arm: str) -> None:
    assert {request.arms for request in some(split(share))} == {(arm,)}


def test_prompts_come_without_repetition_until_all_were_used() -> None:
    order = [request.prompt for request in some(PAIRED, prompts=7)]
    rounds = [order[start : start + 7] for start in range(0, len(order) - 7, 7)]
    assert all(sorted(chosen) == list(range(7)) for chosen in rounds)
    assert len({tuple(chosen) for chosen in rounds}) > 100


def test_a_model_without_prompts_gets_numbered_payloads() -> None:
    assert {request.prompt for request in some(PAIRED, prompts=0)} == set(range(64))


def test_pair_ids_are_unique_in_a_run() -> None:
    ids = [request.pair_id for stage in (PAIRED, INTERLEAVED, CLOSED, split(0.1)) for request in some(stage)]
    assert len(set(ids)) == len(ids)
