"""A candidate's memory against that of the version before it: what they take themselves, where both were read."""

from __future__ import annotations

from typing import Any

import pytest

from harness.judge import judge_operation, long_derived
from harness.types import Finding
from tests.judge.memory_worlds import GIB, Version, llama, measure, observed

GPU = {"gpu0": 80 * GIB}
NEEDS = llama(16 * GIB, 2**20)


def compared(
    factor: float = 1.0, *, margin: float = 0.1, others: float = 0.0, capacity: dict[str, float] | None = None
) -> dict[str, Any]:
    """The candidate takes `factor` of what the baseline does; other processes hold `others` of each GPU."""
    arms = []
    for times in (factor, 1.0):
        version = Version(lambda c, b, times=times: others + times * NEEDS(c, b), capacity or GPU)  # type: ignore[misc]
        arms.append(measure(version, edge=0.0))
        arms[-1]["watched"]["others"] = dict.fromkeys(capacity or GPU, others)
    facts = observed(*arms)
    facts["limits"]["margin"] = margin
    return facts


def finding(facts: dict[str, Any]) -> Finding:
    return next(each for each in judge_operation(facts).findings if each.metric == "memory.margin")


@pytest.mark.parametrize(("factor", "outcome"), [(1.05, "pass"), (1.2, "fail")])
@pytest.mark.parametrize("others", [0.0, 15 * GIB])
def test_what_others_hold_of_the_gpu_dilutes_nothing(factor: float, outcome: str, others: float) -> None:
    found = finding(compared(factor, others=others))
    assert (found.outcome, found.effect) == (outcome, pytest.approx(factor))
    assert ("without the 15 GiB of others" in found.reason) == bool(others)


def test_no_margin_no_finding() -> None:
    facts = compared(2.0)
    facts["limits"]["margin"] = None
    assert "memory.margin" not in {each.metric for each in judge_operation(facts).findings}


def spoiled(how: str) -> dict[str, Any]:
    facts = compared(capacity={"gpu0": 80 * GIB, "gpu1": 80 * GIB}, margin=0.0 if how == "not loaded" else 0.1)
    baseline = facts["arms"]["baseline"]
    if how == "not loaded":
        baseline |= {"load_error": "CUDA out of memory", "points": []}
    elif how == "no baseline":
        del facts["arms"]["baseline"]
    elif how == "another metric":
        baseline["watched"]["metric"] = "memory.rss"
    elif how == "never at the goal":
        baseline["points"] = [point for point in baseline["points"] if point["phase"] == "ladder"]
    else:
        for point in baseline["points"]:
            del point["peak"]["gpu1"]
    return facts


@pytest.mark.parametrize("how", ["not loaded", "no baseline", "another metric", "never at the goal", "one GPU unread"])
def test_what_cannot_be_compared_decides_nothing(how: str) -> None:
    assert finding(spoiled(how)).outcome == "no data"
    assert judge_operation(spoiled(how)).verdict == "inconclusive"


def test_what_others_hold_is_not_spread_over_more_gpus() -> None:
    by = {row["what"]: row["share"] for row in long_derived(compared(others=20 * GIB), "candidate")["estimates"]}
    assert by["tensor parallelism over 2 GPUs, of each"] == pytest.approx((20 + (16 + 32) / 2) / 80, abs=0.01)
