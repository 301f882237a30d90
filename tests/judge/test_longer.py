"""A build whose answers are longer takes longer, and is not slower."""

from __future__ import annotations

import numpy as np
import pytest

from harness.judge import Evidence, judge_stage
from harness.types import Finding, Gate, StageRecord
from tests.judge.worlds import S, plan, sample, table


def found(tokens: float, tpot: float, *, counted: bool = True, seed: int = 0) -> Finding:
    """Of 150 pairs whose candidate gives `tokens` times as many tokens and takes `tpot` times as long for each."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(150):
        asked = int(rng.integers(40, 120))
        for arm in ("baseline", "candidate"):
            osl = round(asked * (tokens if arm == "candidate" else 1.0))
            each = 0.01 * np.exp(0.05 * rng.standard_normal()) * (tpot if arm == "candidate" else 1.0)
            rows.append(sample(arm, i, i * 2.0, osl * each, osl=osl if counted else -1))
    record = StageRecord(plan(0, "paired", 300.0, rate=0.5), 0, end_ns=305 * S)
    gates = [Gate("request_latency.p50", margin=0.10)]
    verdict = judge_stage(Evidence.from_tables(table(rows), stages=[record], gates=gates), 0)
    return next(f for f in verdict.findings if f.metric == "request_latency.p50")


def test_longer_answers_are_told_from_slower_ones() -> None:
    finding = found(1.3, 1.0)
    assert finding.outcome == "fail"
    assert "; answers are 30." in finding.reason or "; answers are 29." in finding.reason
    assert "for each output token it takes" in finding.reason
    effect = float(finding.reason.rpartition("it takes ")[2].partition(" %")[0].replace("the same", "0"))
    assert effect < 4


def test_shorter_answers_do_not_hide_slower_tokens() -> None:
    finding = found(0.75, 1.34)
    assert finding.outcome == "pass"
    assert "% shorter, so for each output token it takes 3" in finding.reason
    assert finding.reason.endswith("% more")


@pytest.mark.parametrize("counted", [True, False])
def test_answers_of_one_length_need_no_words(counted: bool) -> None:
    assert "answers are" not in found(1.0, 1.3, counted=counted).reason
