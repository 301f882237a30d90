"""The sketcher, held to what the judge computes from the samples themselves; and its bounds."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from harness.judge.columns import BASELINE, CANDIDATE, Columns
from harness.judge.times.derived import lengths, seconds
from harness.recording import BLOCK_NS, SCHEMAS, Sketcher, histogram, merge, quantile, sketch
from harness.recording.blocks import METRICS, OPEN
from harness.recording.sketcher import TOGETHER, WAITING
from harness.types import StagePlan, StageRecord
from tests.recording.rows import sample

SAMPLES = SCHEMAS["samples"]
QUANTILES = np.array([0.1, 0.5, 0.9, 0.99])
PAIRED = StageRecord(StagePlan(0, "paired", "poisson", 60.0, 0.5, rate=20.0), begin_ns=3_000_000_000)
SPLIT = StageRecord(StagePlan(1, "split", "poisson", 60.0, 0.1, rate=20.0), begin_ns=70_000_000_000)
STAGES = (PAIRED, SPLIT)
TIMES = [metric for metric in METRICS if metric not in ("icl", "osl")]


def recording(pairs: int = 1200, seed: int = 0) -> pa.Table:
    """A paired stage and a split one, in the order of their ends; with failures, time-outs, unknown times, scoring."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(2 * pairs):
        record = STAGES[number // pairs]
        paired = record is PAIRED
        due = record.begin_ns + int(rng.uniform(0, 60e9))
        arms = ("baseline", "candidate") if paired else (rng.choice(["baseline", "candidate", "stable"]),)
        for arm in arms:
            sent = due + int(rng.exponential(1e5))
            first = sent + int(rng.lognormal(17, 0.5))
            osl = int(rng.integers(0, 60))
            status = rng.choice(["ok", "error", "timeout", "cancelled"], p=[0.9, 0.04, 0.04, 0.02])
            rows.append(
                sample(
                    2 * number,
                    arm=str(arm),
                    stage=record.plan.index,
                    pair_id=record.plan.index << 32 | number,
                    due_ns=due,
                    sent_ns=-1 if status == "cancelled" else sent,
                    first_ns=first if rng.random() < 0.95 else -1,
                    done_ns=first + osl * int(rng.lognormal(15, 0.3)),
                    status=str(status),
                    error="Unavailable" if status == "error" else "",
                    version="" if status == "error" else "2" if arm == "candidate" else "1",
                    osl=osl if status == "ok" else -1,
                    assignment="plan",
                )
            )
            if rng.random() < 0.05:
                rows.append(rows[-1]._replace(assignment="score", done_ns=rows[-1].done_ns + 5))
    rows.sort(key=lambda row: row.done_ns)
    return pa.table([list(column) for column in zip(*rows, strict=True)], schema=SAMPLES)


def values_of(columns: Columns, metric: str) -> np.ndarray:
    if metric == "osl":
        return lengths(columns)
    if metric == "send_lag":
        known = (columns.sent_ns >= 0) & (columns.due_ns >= 0)
        return np.where(known, (columns.sent_ns - columns.due_ns) / 1e9, np.nan)
    return seconds(columns, metric)


def planned(columns: Columns, stage: int, arm: int) -> Columns:
    return columns.take((columns.stage == stage) & (columns.arm == arm) & ~columns.score)


def pairs_of(columns: Columns, metric: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Due time and both arms' values of the pairs that the judge would compare."""
    one, two = planned(columns, 0, BASELINE), planned(columns, 0, CANDIDATE)
    _, first, second = np.intersect1d(one.pair_id, two.pair_id, return_indices=True)
    a, b = values_of(one, metric)[first], values_of(two, metric)[second]
    both = np.isfinite(a) & np.isfinite(b)
    return one.due_ns[first][both], a[both], b[both]


@pytest.fixture(scope="module")
def samples() -> pa.Table:
    return recording()


@pytest.fixture(scope="module")
def columns(samples: pa.Table) -> Columns:
    return Columns.of(samples)


@pytest.fixture(scope="module")
def sketched(samples: pa.Table) -> tuple[pa.Table, pa.Table]:
    return sketch(samples, STAGES)


@pytest.mark.parametrize("metric", [metric for metric in METRICS if metric != "icl"])
def test_what_the_judge_compares_in_a_paired_stage(
    columns: Columns, sketched: tuple[pa.Table, pa.Table], metric: str
) -> None:
    due, *values = pairs_of(columns, metric)
    block = (due - PAIRED.begin_ns) // BLOCK_NS
    for number in range(12):
        for arm, mine in zip(("baseline", "candidate"), values, strict=True):
            here = np.maximum(mine[block == number], 1e-9)
            where = {"stage": 0, "block": number, "arm": arm, "paired": True}
            bins, counts = histogram(sketched[0], metric, **where)
            assert counts.sum() == len(here) > 20
            assert np.abs(quantile(bins, counts, QUANTILES) / np.quantile(here, QUANTILES) - 1).max() <= 0.01 + 1e-9


@pytest.mark.parametrize("metric", [metric for metric in METRICS if metric != "icl"])
@pytest.mark.parametrize("stage", [0, 1])
def test_what_an_arm_answered_whether_or_not_its_partner_did(
    columns: Columns, sketched: tuple[pa.Table, pa.Table], metric: str, stage: int
) -> None:
    for arm, name in ((BASELINE, "baseline"), (CANDIDATE, "candidate"), (2, "stable")):
        mine = values_of(planned(columns, stage, arm), metric)
        mine = np.maximum(mine[np.isfinite(mine)], 1e-9)
        bins, counts = histogram(sketched[0], metric, stage=stage, arm=name)
        assert counts.sum() == len(mine)
        if len(mine):
            assert np.abs(quantile(bins, counts, QUANTILES) / np.quantile(mine, QUANTILES) - 1).max() <= 0.01 + 1e-9
    assert not pc.any(histogram_rows(sketched[0], stage=1)["paired"]).as_py()


def histogram_rows(table: pa.Table, **where: object) -> pa.Table:
    for column, value in where.items():
        table = table.filter(pc.equal(table[column], value))
    return table


@pytest.mark.parametrize("metric", TIMES)
def test_the_sums_of_pairs(columns: Columns, sketched: tuple[pa.Table, pa.Table], metric: str) -> None:
    due, first, second = pairs_of(columns, metric)
    block = (due - PAIRED.begin_ns) // BLOCK_NS
    for number in range(12):
        x, y = first[block == number], second[block == number]
        for arm, mine in (("baseline", x), ("candidate", y)):
            (row,) = histogram_rows(sketched[1], stage=0, block=number, arm=arm, metric=metric, paired=True).to_pylist()
            ln = np.log(np.maximum(mine, 1e-9))
            cross = (np.log(np.maximum(x, 1e-9)) * np.log(np.maximum(y, 1e-9))).sum()
            wanted = [len(mine), mine.sum(), (mine**2).sum(), ln.sum(), (ln**2).sum(), cross]
            assert [row[name] for name in SCHEMAS["sums"].names[5:]] == pytest.approx(wanted)


def labels(sums: pa.Table) -> Counter[tuple[int, str, str]]:
    found: Counter[tuple[int, str, str]] = Counter()
    for row in sums.to_pylist():
        if "." in row["metric"]:
            found[row["stage"], row["arm"], row["metric"]] += row["n"]
            assert (row["total"], row["log_cross"], row["paired"]) == (0, 0, False)
    return found


def test_what_is_only_counted(samples: pa.Table, columns: Columns, sketched: tuple[pa.Table, pa.Table]) -> None:
    wanted: Counter[tuple[int, str, str]] = Counter()
    for row in samples.to_pylist():
        where = row["stage"], row["arm"]
        wanted[*where, f"{'score' if row['assignment'] == 'score' else 'status'}.{row['status']}"] += 1
        wanted[*where, f"error.{row['error']}"] += bool(row["error"])
        wanted[*where, f"version.{row['version']}"] += bool(row["version"])
    one, two = planned(columns, 0, BASELINE), planned(columns, 0, CANDIDATE)
    _, first, second = np.intersect1d(one.pair_id, two.pair_id, return_indices=True)
    fine = (one.status[first] == 0) & (two.status[second] == 0)
    for metric in ("ttft", "tpot"):
        a, b = (np.isfinite(seconds(arm, metric)[rows]) for arm, rows in ((one, first), (two, second)))
        wanted[0, "baseline", f"lost.{metric}"] = int((fine & a & ~b).sum())
        wanted[0, "candidate", f"lost.{metric}"] = int((fine & b & ~a).sum())
        assert wanted[0, "baseline", f"lost.{metric}"] > 5
    assert labels(sketched[1]) == +wanted


@pytest.mark.parametrize("rows", [1, 37, 1500])
def test_batches_of_any_size_from_two_workers_give_the_same(
    samples: pa.Table, sketched: tuple[pa.Table, pa.Table], rows: int
) -> None:
    """Pairs meet across batches, and blocks come and go: the rows of a key add up."""
    worker = np.asarray(samples["pair_id"]) % 2
    out = []
    for mine in (0, 1):
        sketcher = Sketcher()
        for record in STAGES:
            sketcher.stage(record.plan, record.begin_ns)
        part = samples.filter(pa.array(worker == mine))
        for at in range(0, part.num_rows, rows):
            sketcher.add(part.slice(at, rows))
            out.append(sketcher.closed())
        out.append(sketcher.rest())
        assert sketcher.rest() is None
        assert sketcher.bound == (0, 0, 0)
    found = [each for each in out if each is not None]
    assert len(found) > 4
    sketches = merge(*(pa.Table.from_batches([each.sketches]) for each in found))
    sums = merge(*(pa.Table.from_batches([each.sums]) for each in found))
    assert sketches.equals(sketched[0])
    assert sums.select(["stage", "block", "arm", "metric", "paired", "n"]).equals(
        sketched[1].select(["stage", "block", "arm", "metric", "paired", "n"])
    )
    for name in SCHEMAS["sums"].names[6:]:
        assert np.allclose(sums[name], sketched[1][name])


def stream(sketcher: Sketcher, count: int, rows: int = 500, **changes: object) -> list[tuple[int, int, int]]:
    """`count` samples at 100/s in batches; what the sketcher keeps after each."""
    bounds = []
    for first in range(0, count, rows):
        batch = []
        for number in range(first, first + rows):
            due = number * 10_000_000
            batch.append(sample(number, due_ns=due, sent_ns=due, done_ns=due + 1_000_000, **changes))
        sketcher.add(pa.record_batch([list(column) for column in zip(*batch, strict=True)], schema=SAMPLES))
        sketcher.closed()
        bounds.append(sketcher.bound)
    return bounds


def test_a_block_goes_out_while_the_run_goes_on_and_few_are_open() -> None:
    sketcher = Sketcher()
    sketcher.stage(PAIRED.plan, 0)
    blocks = []
    for second in range(60):
        rows = []
        for number in range(100 * second, 100 * (second + 1)):
            due = number // 2 * 20_000_000
            rows.append(sample(number, due_ns=due, sent_ns=due, done_ns=due + 1_000_000))
        sketcher.add(pa.record_batch([list(column) for column in zip(*rows, strict=True)], schema=SAMPLES))
        rows_out = sketcher.closed()
        if rows_out is not None:
            blocks += [(second, block) for block in set(rows_out.sketches["block"].to_pylist())]
        assert sketcher.bound[2] <= 4
    assert [block for _, block in blocks] == sorted({block for _, block in blocks})
    assert len(blocks) >= 8
    assert all(second >= 5 * (block + 2) for second, block in blocks)


def test_memory_is_bounded_whatever_comes() -> None:
    """Partners that never come, and requests of hundreds of blocks at once."""
    sketcher = Sketcher()
    sketcher.stage(PAIRED.plan, 0)
    bounds = stream(sketcher, 3 * WAITING, arm="baseline")
    assert max(waiting for _, waiting, _ in bounds) == WAITING
    assert max(held for held, _, _ in bounds) < TOGETHER + 500
    rng = np.random.default_rng(0)
    for _ in range(3):
        due = rng.integers(0, 100, 300) * BLOCK_NS
        rows = [sample(2 * i, stage=1, due_ns=int(t), sent_ns=int(t), done_ns=10**13) for i, t in enumerate(due)]
        sketcher.add(pa.record_batch([list(column) for column in zip(*rows, strict=True)], schema=SAMPLES))
        sketcher.closed()
        assert sketcher.bound[2] <= OPEN
    assert sketcher.rest() is not None
    assert sketcher.bound == (0, 0, 0)


def test_who_waited_in_vain_counts_without_a_partner() -> None:
    sketcher = Sketcher()
    sketcher.stage(PAIRED.plan, 0)
    stream(sketcher, 500, arm="baseline", pair_id=-1)
    stream(sketcher, 500, arm="candidate")
    rows = sketcher.rest()
    assert rows is not None
    table = pa.Table.from_batches([rows.sketches])
    for arm in ("baseline", "candidate"):
        assert histogram(table, "request_latency", arm=arm, paired=False)[1].sum() == 500


def test_gaps_between_chunks_belong_to_the_block_in_which_they_ended() -> None:
    """Also where a request's chunks come in two batches; the first chunk of a request ends no gap."""
    second, begin = 1_000_000_000, PAIRED.begin_ns
    chunks = [
        (7, "baseline", 1.0),
        (7, "baseline", 1.5),
        (7, "candidate", 4.9),
        (7, "candidate", 5.5),
        (8, "candidate", 6),
    ]
    sketcher = Sketcher()
    sketcher.stage(PAIRED.plan, begin)
    for part in (chunks[:3], chunks[3:], [(8, "candidate", 6.25)]):
        pairs, arms, times = zip(*part, strict=True)
        t_ns = [begin + int(t * second) for t in times]
        sketcher.add_chunks(pa.record_batch([pairs, arms, t_ns], schema=SCHEMAS["chunks"]))
    rows = sketcher.rest()
    assert rows is not None
    found = {
        (row["block"], row["arm"]): (row["metric"], row["n"], round(row["total"], 9)) for row in rows.sums.to_pylist()
    }
    assert found == {(0, "baseline"): ("icl", 1, 0.5), (1, "candidate"): ("icl", 2, 0.85)}


def test_a_file_that_knows_neither_stage_nor_pair_is_sketched() -> None:
    table = pa.table(
        [[value] * 3 if value != "candidate" else ["candidate"] * 3 for value in sample(1, stage=-1, pair_id=-1)],
        schema=SAMPLES,
    )
    sketches, _ = sketch(table, ())
    assert set(sketches["stage"].to_pylist()) == {0}
    assert histogram(sketches, "request_latency")[1].sum() == 3


def test_an_empty_recording_has_empty_sketches() -> None:
    sketches, sums = sketch(SAMPLES.empty_table(), STAGES)
    assert sketches.num_rows == sums.num_rows == 0
    assert sums.schema == SCHEMAS["sums"]
