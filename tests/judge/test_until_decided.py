"""A stage that lasts until it is decided: any look may let it pass or fail, and its last one promises no more."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from harness.judge import Evidence, judge_stage
from harness.types import Gate, StageRecord, StageVerdict
from tests.judge.worlds import S, bulk, plan

GATES = (Gate("errors", margin=0.02, margin_kind="absolute"), Gate("response_time.p50", margin=0.10))


def evidence(ratio: float, *, until_decided: bool = True, seed: int = 0, decided_s: float | None = None) -> Evidence:
    """600 s at 20 pairs/s, of the first 300 s."""
    rng, n = np.random.default_rng(seed), 6000
    due = np.sort(rng.uniform(0, 300, n))
    shared = 0.05 * np.exp(0.1 * rng.standard_normal(n))
    tables = [
        bulk(arm, due, shared * factor * np.exp(0.2 * rng.standard_normal(n)))
        for arm, factor in (("baseline", 1.0), ("candidate", ratio))
    ]
    stage = dataclasses.replace(plan(0, "paired", 600.0, rate=20.0), until_decided=until_decided)
    decided = None if decided_s is None else round(decided_s * S)
    record = StageRecord(stage, 0, end_ns=None if decided is None else decided + S, decided_ns=decided)
    return Evidence.from_tables(pa.concat_tables(tables), stages=[record], gates=GATES, seed=seed)


def at(found: Evidence, seconds: float) -> StageVerdict:
    return judge_stage(found, 0, now_ns=round(seconds * S))


def test_equal_builds_are_promoted_early() -> None:
    found = evidence(1.0)
    assert at(found, 4).verdict == "inconclusive", "there are no 12 blocks yet"
    verdict = at(found, 120)
    assert verdict.verdict == "promote"
    assert "Every gate holds" in verdict.reason


def test_a_slower_build_is_rolled_back_early() -> None:
    assert at(evidence(1.3), 90).verdict == "rollback"


def test_a_stage_of_planned_length_passes_at_its_end_only() -> None:
    verdict = at(evidence(1.0, until_decided=False), 120)
    assert verdict.verdict == "inconclusive"
    assert "the stage is not over" in verdict.reason


def test_judging_again_repeats_the_decision() -> None:
    verdict = judge_stage(evidence(1.0, decided_s=120), 0)
    assert verdict.verdict == "promote"
    live = at(evidence(1.0), 120)
    assert [f.interval for f in verdict.findings] == [f.interval for f in live.findings]


@pytest.mark.parametrize(("ratio", "never"), [(1.10, "promote"), (1.08, "rollback")])
def test_looking_all_the_time_keeps_the_promise(ratio: float, never: str) -> None:
    """Exactly at the margin at most 5 % may ever be promoted, within it at most 1 % ever rolled back."""
    wrong = 0
    for seed in range(40):
        found = evidence(ratio, seed=seed)
        decided = next((v for t in range(60, 301, 30) if (v := at(found, t).verdict) != "inconclusive"), "inconclusive")
        wrong += decided == never
    assert wrong <= 4
