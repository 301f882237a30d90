"""long-context judged: promote only what was reached, rollback only what is proven, a time-out is no OOM."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from harness.errors import RecordingError
from harness.judge import judge_operation, long_derived
from harness.judge.operations.long_table import largest_safe, long_table
from tests.judge.memory_worlds import GIB, Version, llama, measure, observed

CAPACITY = {"gpu0": 80 * GIB}
WEIGHTS, TOKEN = 16 * GIB, 2**20


def arm(per_token: float = TOKEN, capacity: dict[str, float] | None = None, **more: Any) -> dict[str, Any]:
    return measure(Version(llama(WEIGHTS, per_token), capacity or CAPACITY, noise=0.02 * GIB, **more))


def found(facts: dict[str, Any]) -> dict[str, Any]:
    return {finding.metric: finding for finding in judge_operation(facts).findings}


def test_what_reaches_the_goal_with_room_is_promoted() -> None:
    verdict = judge_operation(observed(arm()))
    assert verdict.verdict == "promote", verdict.reason
    assert "serves 8192 tokens at batch 4" in verdict.reason
    goal = found(observed(arm()))["memory.goal"]
    assert goal.outcome == "pass"
    assert goal.candidate == pytest.approx(48 / 80, abs=0.01)
    assert goal.interval[1] < 0.92


def test_what_runs_out_before_the_goal_is_rolled_back() -> None:
    verdict = judge_operation(observed(arm(2.5 * TOKEN)))
    assert verdict.verdict == "rollback"
    assert "ran out of memory at" in verdict.reason
    assert found(observed(arm(2.5 * TOKEN)))["recovery"].outcome == "pass"


def test_what_runs_above_the_limit_is_rolled_back_though_it_runs() -> None:
    verdict = judge_operation(observed(arm(1.85 * TOKEN)))
    goal = found(observed(arm(1.85 * TOKEN)))["memory.goal"]
    assert verdict.verdict == "rollback"
    assert goal.outcome == "fail"
    assert "more than 92 %" in goal.reason


def test_a_goal_that_ran_within_the_limit_by_less_than_the_bound_is_open() -> None:
    """88 % as measured; but points so far apart allow another measurement above 92 %."""
    version = Version(llama(WEIGHTS, 1.7 * TOKEN), CAPACITY, noise=1.0 * GIB)
    facts = observed(measure(version, edge=0.0))
    for point in facts["arms"]["candidate"]["points"]:
        if point["phase"] == "ramp":
            point["peak"] = {"gpu0": version.needs(point["context"], point["batch"])}
    goal = found(facts)["memory.goal"]
    assert goal.candidate == pytest.approx(0.88, abs=0.01)
    assert goal.interval[1] > 0.92
    assert goal.outcome == "inconclusive"
    assert judge_operation(facts).verdict == "inconclusive"


def test_a_goal_within_the_limit_that_ends_below_110_per_cent() -> None:
    facts = observed(arm(1.9 * TOKEN))
    facts["limits"]["memory"]["limit"] = 0.999
    by = found(facts)
    assert by["memory.ramp"].outcome == "fail"
    assert judge_operation(facts).verdict == "rollback"


def test_a_time_out_is_no_oom_and_decides_nothing() -> None:
    facts = observed(arm())
    for point in facts["arms"]["candidate"]["points"]:
        if point["phase"] == "ramp" and point["context"] >= 8192:
            point |= {"outcome": "time-out", "error": "Deadline Exceeded", "recovered_s": 0.2}
    by = found(facts)
    assert judge_operation(facts).verdict == "inconclusive"
    assert "no OOM" in by["failures"].reason
    assert by["memory.goal"].outcome == "no data"
    assert not [each for each in by.values() if each.outcome == "fail"]


@pytest.mark.parametrize(
    ("outcome", "recovery", "verdict"),
    [
        ("out of memory", "fail", "rollback"),
        ("stub died", "fail", "rollback"),
        ("time-out", "inconclusive", "inconclusive"),
        ("other", "inconclusive", "inconclusive"),
    ],
)
def test_an_instance_that_does_not_come_back_fails_unless_it_may_only_be_busy(
    outcome: str, recovery: str, verdict: str
) -> None:
    facts = observed(arm())
    last = facts["arms"]["candidate"]["points"][-1]
    last |= {"outcome": outcome, "error": "as it says", "recovered_s": None}
    assert found(facts)["recovery"].outcome == recovery
    assert judge_operation(facts).verdict == verdict
    if outcome == "stub died":
        assert "the kernel ends a process for memory, too" in found(facts)["failures"].reason


@pytest.mark.parametrize("kept", [2048, 8000])
def test_a_prompt_that_the_server_cut_proves_no_more_than_it_had(kept: int) -> None:
    facts = observed(arm())
    for point in facts["arms"]["candidate"]["points"]:
        point["tokens"] = min(point["tokens"], kept)
    goal = found(facts)["memory.goal"]
    assert goal.outcome == "no data"
    assert f"and had {kept} tokens only" in goal.reason
    verdict = judge_operation(facts)
    assert verdict.verdict == "inconclusive"
    assert "does not cut its prompts" in verdict.needs
    assert {cell.answer for cell in long_table(facts, "candidate") if cell.context == 8192} == {"unverified"}
    assert long_derived(facts, "candidate")["headroom"]["measured"] is None


def test_beyond_what_the_model_takes_nothing_is_asked_of_its_memory() -> None:
    """It takes 8192 tokens: 110 % of the goal, and the search for the edge, are refused as too long."""
    facts = observed(measure(Version(llama(WEIGHTS, TOKEN), CAPACITY), edge=0.0))
    for point in facts["arms"]["candidate"]["points"]:
        if point["context"] > 8192:
            point |= {"outcome": "too long", "error": "exceeds the context of 8192 tokens", "recovered_s": 0.1}
    verdict = judge_operation(facts)
    assert verdict.verdict == "promote", verdict.reason
    assert "9011 are more than the model takes" in found(facts)["memory.ramp"].reason
    assert "the model takes no more" in found(facts)["memory.edge"].reason


def test_a_goal_that_the_model_does_not_take_is_not_reached() -> None:
    facts = observed(arm())
    for point in facts["arms"]["candidate"]["points"]:
        if point["context"] >= 8192:
            point |= {"outcome": "too long", "error": "exceeds the context of 8000 tokens", "recovered_s": 0.1}
    assert judge_operation(facts).verdict == "inconclusive"
    assert "too long" in found(facts)["failures"].reason


def test_a_fit_that_was_wrong_does_not_promote() -> None:
    """Twice as much from 7000 tokens on, where no point of the ladder was."""

    def needs(context: float, batch: int) -> float:
        return llama(WEIGHTS, TOKEN)(context, batch) + (12 * GIB if context > 7000 else 0.0)

    facts = observed(measure(Version(needs, CAPACITY), edge=0.0))
    assert found(facts)["memory.fit"].outcome == "inconclusive"
    assert judge_operation(facts).verdict == "inconclusive"


@pytest.mark.parametrize("lost", ["all", "one device", "one point"])
def test_missing_readings_never_promote(lost: str) -> None:
    capacity = {"gpu0": 80 * GIB, "gpu1": 80 * GIB}
    facts = observed(arm(capacity=capacity))
    points = facts["arms"]["candidate"]["points"]
    if lost == "all":
        facts["arms"]["candidate"]["watched"] = None
    for point in points if lost == "one device" else [points[-1], *(p for p in points if p["context"] == 8192)]:
        point["peak"].pop("gpu1", None)
    assert judge_operation(facts).verdict != "promote"


def test_an_oom_counts_though_no_memory_could_be_read() -> None:
    facts = observed(arm(2.5 * TOKEN))
    facts["arms"]["candidate"]["watched"] = None
    assert found(facts)["memory.goal"].outcome == "fail"


def test_several_gpus_are_judged_by_the_fullest() -> None:
    even = observed(arm(capacity={"gpu0": 80 * GIB, "gpu1": 80 * GIB}))
    uneven = observed(arm(1.2 * TOKEN, {"gpu0": 80 * GIB, "gpu1": 80 * GIB}, factors={"gpu1": 1.6}))
    assert judge_operation(even).verdict == "promote"
    assert judge_operation(uneven).verdict == "rollback"


def test_cut_short_is_inconclusive() -> None:
    facts = observed(arm())
    facts |= {"finished": False, "error": "interrupted by SIGTERM"}
    assert judge_operation(facts).verdict == "inconclusive"
    assert judge_operation({"kind": "long-context"}).verdict == "inconclusive"


@pytest.mark.parametrize(
    ("key", "value"),
    [("points", None), ("watched", {"capacity": {"gpu0": 0.0}}), ("points", [{}]), ("load_error", False)],
)
def test_damaged_observations_are_called_so(key: str, value: Any) -> None:
    facts = observed(arm())
    facts["arms"]["candidate"][key] = value
    if key == "load_error":
        del facts["arms"]["candidate"]["points"]
    with pytest.raises(RecordingError, match="is damaged"):
        judge_operation(facts)


def test_one_that_cannot_be_loaded_fails() -> None:
    facts = observed({**arm(), "points": [], "load_error": "llm: load of version 2 failed: CUDA out of memory"})
    assert judge_operation(facts).verdict == "rollback"


def test_a_limit_in_bytes_is_the_same_as_its_share() -> None:
    share, size = observed(arm()), observed(arm())
    size["limits"]["memory"] = {"limit": 0.92 * 80 * GIB, "limit_kind": "absolute"}
    assert [f.reason for f in judge_operation(share).findings] == [f.reason for f in judge_operation(size).findings]


# ------------------------------------------------------------ what was done on OOM


def reduced(to: int | None, *, reads: int | None = None, refuses: bool = True) -> dict[str, Any]:
    """Batch 4 runs out of memory; 2 was tried."""
    version = Version(llama(WEIGHTS, 2.5 * TOKEN), CAPACITY, noise=0.02 * GIB)
    candidate = measure(version)
    for repeat in range(3):
        candidate["points"] += [
            version.point("reduced", round(share * 8192), 2, repeat) for share in (0.5, 0.75, 0.9, 1, 1.1)
        ]
    action = {"before": 4, "goal": 4, "tried": [2], "to": to, "put_back": to is None}
    if to is not None:
        action |= {"reads": reads or to, "refuses_more": refuses}
    return observed(candidate, action=action, on_oom=True)


def test_a_smaller_batch_that_was_verified_is_promoted_and_said() -> None:
    verdict = judge_operation(reduced(2))
    assert verdict.verdict == "promote", verdict.reason
    assert "of llm, of all its versions, was reduced from 4 to 2" in found(reduced(2))["action"].reason
    assert "at batch 2" in verdict.reason
    assert "max_batch_size is 2 now" in verdict.reason


@pytest.mark.parametrize(
    "facts", [reduced(None), reduced(2, reads=4), reduced(2, refuses=False)], ids=["none", "reads 4", "takes 3"]
)
def test_one_that_was_not_is_rolled_back(facts: dict[str, Any]) -> None:
    assert judge_operation(facts).verdict == "rollback"


# ------------------------------------------------------------ engines that take their memory at the load


def kv(usage: float, outcome: str = "ok") -> dict[str, Any]:
    """Usage grows with the tokens and is `usage` at the goal; beyond all blocks an engine preempts."""
    version = Version(lambda c, b: usage * c * b / (8192 * 4), {"llm": 1.0})
    candidate = measure(version)
    for point in candidate["points"]:
        if point["outcome"] != "ok":
            point |= {"outcome": outcome, "error": "", "recovered_s": 0.1}
    candidate["watched"] |= {"source": "vllm", "metric": "kv_cache.usage", "preallocated": True}
    return observed(candidate)


def test_an_engine_with_a_cache_of_its_own_is_judged_by_its_blocks() -> None:
    assert judge_operation(kv(0.6)).verdict == "promote"
    verdict = judge_operation(kv(1.3, "preempted"))
    assert verdict.verdict == "rollback"
    assert "had sequences preempted" in verdict.reason
    assert "had requests wait" in judge_operation(kv(1.3, "queued")).reason


# ------------------------------------------------------------ the table


@pytest.mark.parametrize("seed", range(10))
def test_every_verified_cell_is_right(seed: int) -> None:
    version = Version(llama(WEIGHTS, (1 + seed / 6) * TOKEN), CAPACITY, noise=0.02 * GIB, seed=seed)
    facts = observed(measure(version))
    cells = long_table(facts, "candidate")
    assert len(cells) == 5 * 3
    for cell in cells:
        truth = version.needs(cell.context, cell.batch) / CAPACITY["gpu0"]
        if cell.answer == "fits":
            assert truth <= 0.925
        elif cell.answer == "tight":
            assert 0.915 <= truth <= 1
        elif cell.answer == "does not":
            assert truth > 1
    assert {cell.answer for cell in cells} >= {"fits"}


def test_beyond_what_was_measured_is_unverified() -> None:
    facts = observed(arm())
    facts["arms"]["candidate"]["points"] = [
        point for point in facts["arms"]["candidate"]["points"] if point["context"] <= 2048
    ]
    cells = {(cell.context, cell.batch): cell for cell in long_table(facts, "candidate")}
    assert cells[8192, 4].answer == "unverified"
    assert cells[8192, 4].foretold is None  # six points are too few
    assert cells[2048, 4].answer == "fits"
    assert largest_safe(list(cells.values()), 8192) is None
    assert largest_safe(list(cells.values()), 1024) == 4


def test_what_runs_at_more_runs_at_less_and_is_not_called_measured() -> None:
    facts = observed(arm(), contexts=(512, 1024, 2048, 4096, 6144))
    cell = next(cell for cell in long_table(facts, "candidate") if (cell.context, cell.batch) == (512, 1))
    assert (cell.answer, cell.measured) == ("fits", False)


def test_estimates_are_of_the_parts_that_they_are_said_to_change() -> None:
    derived = long_derived(observed(arm(2.5 * TOKEN)), "candidate")
    by = {row["what"]: row["share"] for row in derived["estimates"]}
    peak = (16 + 2.5 * 8 * 4) / 80
    assert by["KV cache in 8 bits instead of 16"] == pytest.approx((16 + 2.5 * 8 * 4 / 2) / 80, abs=0.02)
    assert by["tensor parallelism over 2 GPUs, of each"] == pytest.approx(peak / 2, abs=0.02)
    assert derived["headroom"]["measured"] is None  # it was not reached
    assert derived["headroom"]["foretold"] < 0


def test_the_verdict_is_the_same_whenever_it_is_judged() -> None:
    facts = observed(arm())
    assert judge_operation(facts) == judge_operation(deepcopy(facts))
