"""icl: gaps between chunks."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from harness.judge import Evidence, judge_stage
from harness.judge.times.gaps import gaps
from harness.recording.schema import CHUNKS
from harness.types import Finding, Gate, StageRecord
from tests.judge.worlds import S, plan, sample, table

P50 = Gate("icl.p50", margin=0.10)


def chunks(rows: list[tuple[int, str, float]]) -> pa.Table:
    pair, arm, seconds = zip(*rows, strict=True)
    return pa.table([pair, arm, [round(t * S) for t in seconds]], schema=CHUNKS)


def streams(ratio: float, *, stall: float = 0.0, n: int = 200, seed: int = 0) -> Evidence:
    """Pairs of 20 chunks each; `stall`: the share of the candidate's gaps that are ten times as long."""
    rng = np.random.default_rng(seed)
    rows, kept = [], []
    for i in range(n):
        for arm in ("baseline", "candidate"):
            gap = 0.02 * np.exp(0.2 * rng.standard_normal(20)) * (ratio if arm == "candidate" else 1.0)
            if arm == "candidate":
                gap = np.where(rng.random(20) < stall, 10 * gap, gap)
            at = i * 0.5 + np.cumsum(gap)
            rows.append(sample(arm, i, i * 0.5, float(at[-1]) - i * 0.5, first_ns=round(at[0] * S), osl=20))
            kept += [(i, arm, float(t)) for t in at]
    record = StageRecord(plan(0, "paired", n * 0.5, rate=2.0), 0, end_ns=round(n * 0.5 * S) + S)
    gates = [P50, Gate("icl.p99", margin=0.10)]
    return Evidence.from_tables(table(rows), stages=[record], gates=gates, seed=seed, chunks=chunks(kept))


def found(evidence: Evidence, metric: str = "icl.p50") -> Finding:
    return next(f for f in judge_stage(evidence, 0).findings if f.metric == metric)


def test_gaps_are_those_of_one_request() -> None:
    rows = gaps(chunks([(1, "baseline", 1.0), (1, "baseline", 1.5), (1, "candidate", 9.0), (2, "baseline", 3.0),
                        (2, "baseline", 3.1), (1, "candidate", 9.25)]))  # fmt: skip
    assert rows is not None
    took = (rows.done_ns - rows.first_ns) / S
    assert sorted(zip(rows.arm.tolist(), took.tolist(), strict=True)) == [
        (0, pytest.approx(0.1)), (0, pytest.approx(0.5)), (1, pytest.approx(0.25))
    ]  # fmt: skip


def test_chunks_may_come_in_any_order_and_a_gap_is_due_when_it_ends() -> None:
    rows = gaps(chunks([(1, "baseline", 1.5), (1, "baseline", 1.0), (1, "baseline", 1.1)]))
    assert rows is not None
    assert (rows.first_ns / S).tolist() == [1.0, 1.1]
    assert (rows.done_ns / S).tolist() == (rows.due_ns / S).tolist() == [1.1, 1.5]


def test_the_stage_is_in_the_number_of_the_pair() -> None:
    rows = gaps(chunks([((3 << 32) | 7, "baseline", 1.0), ((3 << 32) | 7, "baseline", 1.5)]))
    assert rows is not None
    assert rows.stage.tolist() == [3]


def test_slower_tokens_fail_and_equal_ones_pass() -> None:
    assert found(streams(1.3)).outcome == "fail"
    equal = found(streams(1.0))
    assert equal.outcome == "pass"
    assert equal.n_baseline == 200 * 19
    assert equal.baseline == pytest.approx(0.02, rel=0.05)


def test_a_stall_now_and_then_is_in_the_tail() -> None:
    evidence = streams(1.0, stall=0.03)
    assert found(evidence).outcome == "pass"
    assert found(evidence, "icl.p99").outcome == "fail"


def test_a_look_sees_no_later_gap() -> None:
    verdict = judge_stage(streams(1.3), 0, now_ns=80 * S)
    one = next(f for f in verdict.findings if f.metric == "icl.p50")
    assert one.n_baseline == pytest.approx(160 * 19, abs=40)


def test_without_chunks_there_is_no_icl_and_the_cure_is_said() -> None:
    whole = streams(1.0)
    without = Evidence(samples=whole.samples, stages=whole.stages, gates=whole.gates)
    none = found(without)
    assert none.outcome == "no data"
    assert "load.chunks: true keeps them" in none.reason


def test_a_limit_holds_for_gaps_too() -> None:
    whole = streams(1.0)
    for limit, outcome in ((0.1, "pass"), (0.01, "fail")):
        evidence = Evidence(
            samples=whole.samples, stages=whole.stages, gates=(Gate("icl.p50", limit=limit),), gaps=whole.gaps
        )
        assert found(evidence).outcome == outcome
