"""Arms that share a machine, judged by the whole judge: v1 alone, then v1 beside v2."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from harness.judge import Evidence, judge_stage
from harness.types import Gate, StagePlan, StageRecord
from tests.campaigns.study.worlds import SPREAD, weather
from tests.judge.worlds import S, bulk

SECONDS, RATE = 120.0, 20.0
GATES = (Gate("response_time.p50", margin=0.10),)


def coupled(slower: float, dragged: float, seed: int) -> dict[str, Any]:
    """Two stages of 120 s at 20 pairs/s. `slower`: v2 beside v1, `dragged`: v1 beside v2, both against v1 alone.

    `watched alone`: what the judge says with the first stage, `not watched alone` without it.
    """
    rng = np.random.default_rng([seed, 7, round(100 * slower)])
    end = 2 * SECONDS
    shared = weather(rng, 0.05, 20.0, end)
    n = round(RATE * SECONDS)
    tables, records = [], []
    for index, purpose in enumerate(("alone", "compare")):
        due = np.sort(rng.uniform(0, SECONDS, n)) + index * SECONDS
        arms = ("baseline", "baseline") if purpose == "alone" else ("baseline", "candidate")
        for number, arm in enumerate(arms):
            factor = 1.0 if purpose == "alone" else (dragged, slower)[number]
            took = 0.05 * factor * np.exp(shared(due) + SPREAD * rng.standard_normal(n))
            pair = (index << 32) + np.arange(n) + (number * n if purpose == "alone" else 0)
            tables.append(bulk(arm, due, took, pair, stage=index))
        plan = StagePlan(index, "paired", "poisson", SECONDS, 0.5, rate=RATE, purpose=purpose)  # type: ignore[arg-type]
        over = round((index + 1) * SECONDS * S) + S // 2
        records.append(StageRecord(plan, round(index * SECONDS * S), end_ns=over, decided_ns=over))
    samples = pa.concat_tables(tables)
    with_it = judge_stage(Evidence.from_tables(samples, stages=records, gates=GATES, seed=seed), 1).verdict
    without = judge_stage(Evidence.from_tables(samples, stages=records[1:], gates=GATES, seed=seed), 1).verdict
    return {
        "promoted": with_it == "promote",
        "rolled back": with_it == "rollback",
        "promoted without v1 alone": without == "promote",
    }
