"""Sketches as they are shipped: in any order, of many workers, and their memory."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from harness.judge import Evidence, evidence_of, judge, verdict_json
from harness.judge.columns import BASELINE, CANDIDATE, Columns
from harness.judge.errors.failures import tally
from harness.judge.sketched.view import CountedEvidence
from harness.recording import Recording, sketch
from harness.recording.schema import SAMPLES, SKETCHES, SUMS
from harness.recording.sketches import FIRST_BIN, LAST_BIN, bins_of, log_of
from harness.types import Gate, StagePlan, StageRecord
from tests.judge.sketched.worlds import World

Shuffle = Callable[[pa.Table], pa.Table]


def as_bytes(recording: Recording) -> str:
    return verdict_json(judge(evidence_of(recording)), recording.meta)


def shuffled(table: pa.Table, seed: int) -> pa.Table:
    return table.take(np.random.default_rng(seed).permutation(table.num_rows))


@pytest.mark.parametrize("world", [World(seed=1, fails=0.03), World(mode="interleaved", seed=2, slow=1.1)])
def test_the_same_bytes_twice_and_in_any_order_of_the_rows(world: World) -> None:
    recording = world.as_sketches()
    assert recording.sketches is not None
    assert recording.sums is not None
    wanted = as_bytes(recording)
    assert as_bytes(recording) == wanted
    for seed in range(3):
        other = replace(recording, sketches=shuffled(recording.sketches, seed), sums=shuffled(recording.sums, seed))
        assert as_bytes(other) == wanted


def test_workers_that_each_sent_a_part_add_up() -> None:
    world = World(seed=5)
    whole = world.recording()
    odd = whole.samples["pair_id"].to_numpy() % 2 == 1
    halves = [whole.samples.filter(pa.array(which)) for which in (odd, ~odd)]
    parts = [sketch(half, [world.record]) for half in halves]
    sketches, sums = (pa.concat_tables(tables) for tables in zip(*parts, strict=True))
    shipped = replace(whole, samples=SAMPLES.empty_table(), sketches=sketches, sums=sums)
    assert as_bytes(shipped) == as_bytes(world.as_sketches(whole))


def test_failures_are_counted_as_the_samples_are() -> None:
    """With classes, time-outs that have none, and cancelled requests, whose class is no failure's."""
    world = World(seed=6, fails=0.05, timeouts=0.02)
    whole = world.recording()
    status = np.array(whole.samples["status"].to_pylist(), object)
    error = np.array(whole.samples["error"].to_pylist(), object)
    status[::50], error[::50] = "cancelled", "cancelled"
    error[(status == "error") & (np.arange(len(status)) % 3 == 0)] = "internal"
    samples = whole.samples.set_column(10, "status", pa.array(status)).set_column(11, "error", pa.array(error))
    whole = replace(whole, samples=samples)
    evidence = evidence_of(world.as_sketches(whole))
    assert isinstance(evidence, CountedEvidence)
    for arm in (BASELINE, CANDIDATE):
        exact = tally(Columns.of(samples), arm, {0: world.seconds})
        found = evidence.counts[0].tallies[arm]
        assert (found.requests, found.failures, found.classes) == (exact.requests, exact.failures, exact.classes)
        assert 0.5 * exact.capped <= found.capped <= exact.capped


def hour(rate: int, record: StageRecord) -> Recording:
    """The sketch of an hour of that many pairs a second: what the sketcher would count, without the requests."""
    rng = np.random.default_rng(rate)
    bins = np.arange(bins_of(log_of(np.array([0.001])))[0], bins_of(log_of(np.array([1.0])))[0])
    middle = (bins + 0.5) * np.log(1.01)
    share = np.exp(-(((middle - np.log(0.02)) / 0.4) ** 2) / 2)
    rows: dict[str, list[np.ndarray]] = {name: [] for name in ("block", "arm", "metric", "bin", "count")}
    sums: dict[str, list[object]] = {name: [] for name in ("block", "arm", "metric", "paired", "n", "total")}
    for block in range(720):
        for arm in ("baseline", "candidate"):
            for metric in ("response_time", "request_latency", "send_lag"):
                counts = rng.multinomial(rate * 5, share / share.sum())
                found = np.flatnonzero(counts)
                rows["block"].append(np.full(len(found), block))
                rows["arm"].append(np.full(len(found), arm))
                rows["metric"].append(np.full(len(found), metric))
                rows["bin"].append(bins[found] - (700 if metric == "send_lag" else 0))
                rows["count"].append(counts[found])
                total = float((counts * np.exp(middle)).sum())
                for name, value in zip(sums, (block, arm, metric, True, rate * 5, total), strict=True):
                    sums[name].append(value)
            for name, value in zip(sums, (block, arm, "status.ok", False, rate * 5, 0.0), strict=True):
                sums[name].append(value)
    columns = {name: np.concatenate(parts) for name, parts in rows.items()}
    n = len(columns["bin"])
    columns |= {"stage": np.zeros(n, np.int32), "paired": np.ones(n, np.bool_)}
    sketches = pa.table([pa.array(columns[field.name], field.type) for field in SKETCHES], schema=SKETCHES)
    length = len(sums["n"])
    filled = {"stage": [0] * length, **sums}
    table = pa.table([pa.array(filled.get(f.name, [0.0] * length), f.type) for f in SUMS], schema=SUMS)
    meta = {
        "format": 1, "finished": True,
        "stages": [{"plan": {**_plain(record.plan)}, "begin_ns": 0, "end_ns": record.end_ns}],
        "gates": [{"metric": "response_time.p99", "margin": 0.1}, {"metric": "response_time.p50", "margin": 0.1}],
    }  # fmt: skip
    return Recording(Path(), meta, SAMPLES.empty_table(), sketches=sketches, sums=table)


def _plain(plan: StagePlan) -> dict[str, object]:
    keys = ("index", "mode", "arrival", "duration_s", "candidate_share", "rate")
    return {key: getattr(plan, key) for key in keys}


def test_memory_does_not_grow_with_the_number_of_requests() -> None:
    """An hour at 200/s and at 2,000/s: blocks, arms and bins are the same, or a few more in the tail."""
    peaks = {}
    for rate in (200, 2000):
        plan = StagePlan(0, "paired", "poisson", 3600.0, 0.5, rate=float(rate))
        recording = hour(rate, StageRecord(plan, 0, end_ns=3600 * 10**9))
        assert recording.sketches is not None
        assert (int(pa.compute.sum(recording.sketches["count"]).as_py())) == rate * 3600 * 6
        tracemalloc.start()
        verdict = judge(evidence_of(recording))
        peaks[rate] = tracemalloc.get_traced_memory()[1] / recording.sketches.num_rows
        tracemalloc.stop()
        assert verdict.verdict == "promote", verdict.reason
        assert peaks[rate] * recording.sketches.num_rows < 400 << 20
    assert peaks[2000] < 1.25 * peaks[200]


def test_a_block_of_another_epoch_takes_no_memory() -> None:
    world = World(seed=7)
    recording = world.as_sketches()
    assert recording.sums is not None
    stray = recording.sums.slice(0, 1)
    stray = stray.set_column(1, "block", pa.array([2_000_000_000], pa.int32()))
    recording = replace(recording, sums=pa.concat_tables([recording.sums, stray.cast(SUMS)]))
    tracemalloc.start()
    judge(evidence_of(recording))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300 << 20


def test_a_difference_that_only_bins_hide_is_said_so() -> None:
    """So near its margin that half a bin decides; the finding says that the samples would have passed."""
    world = World(seed=3, seconds=150, gates=(Gate("response_time.p50", margin=0.15),))
    recording = world.recording()
    (exact,) = judge(Evidence.of(recording)).findings[:1]
    assert exact.interval is not None
    assert exact.interval[1] is not None
    margin = exact.interval[1] - 1 + 0.003
    near = replace(world, gates=(Gate("response_time.p50", margin=margin),))
    found = judge(evidence_of(near.as_sketches(replace(recording, meta=near.meta()))))
    finding = next(f for f in found.findings if f.metric == "response_time.p50")
    assert finding.outcome == "inconclusive"
    assert "known to bins of 1 % only, which alone keeps it from passing" in finding.reason


def test_bins_reach_from_a_nanosecond_to_a_day() -> None:
    """What `Hundredths` spreads are the bins of `recording.sketches`."""
    from harness.judge.sketched.tables import HUNDREDTHS
    from harness.recording.sketches import quantile

    rng = np.random.default_rng(0)
    bins = np.sort(rng.choice(np.arange(FIRST_BIN, LAST_BIN), 50, replace=False))
    counts = rng.integers(1, 40, 50)
    _, values, weights = HUNDREDTHS.spread(bins, counts)
    assert weights.sum() == counts.sum()
    assert (np.diff(values) > 0).all()
    for q in (0.1, 0.5, 0.9):
        upto = np.cumsum(weights)
        found = values[np.searchsorted(upto, q * upto[-1])]
        assert abs(np.log(found / quantile(bins, counts, q))) < 0.011 or q * counts.sum() % 1 < 1
