"""One pass over samples, held to what the judge computes from all of them at once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.errors import RecordingError
from harness.judge import Evidence, judge, verdict_json
from harness.judge.columns import BASELINE, CANDIDATE, Columns
from harness.judge.errors.failures import tally
from harness.judge.sketched import evidence as sketched
from harness.judge.sketched.counts import StageCounts
from harness.judge.sketched.passing import counted as one_pass
from harness.judge.sketched.reading import COLUMNS
from harness.judge.sketched.view import CountedEvidence
from harness.judge.times.latency import Matched, matched
from harness.judge.validity import examine
from harness.judge.view import StageView
from harness.recording import Recording
from harness.recording.codes import CODES, SECONDS, TOKENS, code_of
from harness.recording.large import SampleFile
from harness.recording.schema import SAMPLES
from harness.types import Gate
from tests.judge.sketched.worlds import World, counted


def broken(world: World, seed: int = 0) -> pa.Table:
    """With partners that are missing, requests that came twice, times that are not known or run backwards, two
    workers, and requests that score.
    """
    rng = np.random.default_rng(seed)
    table = world.samples()
    n = table.num_rows
    table = table.filter(pa.array(rng.random(n) > 0.02))
    table = pa.concat_tables([table, table.slice(100, 5)])
    n = table.num_rows
    lost, back, scores = rng.random(n) < 0.03, rng.random(n) < 0.004, rng.random(n) < 0.02
    sent = table["sent_ns"].to_numpy().copy()
    first = np.where(lost, -1, table["first_ns"].to_numpy())
    done = np.where(back, sent - 5, table["done_ns"].to_numpy())
    changed = {
        "first_ns": first, "done_ns": done, "worker": rng.integers(0, 2, n),
        "assignment": np.where(scores, "score", "plan"),
    }  # fmt: skip
    for name, values in changed.items():
        at = SAMPLES.get_field_index(name)
        table = table.set_column(at, name, pa.array(values, SAMPLES.field(name).type))
    return table


def stage(table: pa.Table, world: World) -> StageCounts:
    return one_pass(table.to_batches(max_chunksize=999), [world.record], world.gates).stages[0].counts


@pytest.mark.parametrize("mode", ["paired", "interleaved"])
@pytest.mark.parametrize("world", [World(seed=1), World(seed=2, fails=0.1, timeouts=0.02, begin_s=77.7)])
def test_counts_are_those_of_the_samples(world: World, mode: str) -> None:
    world = replace(world, mode=mode)
    table = broken(world)
    counts = stage(table, world)
    evidence = Evidence.from_tables(table, stages=[world.record], gates=world.gates, planned=1)
    view = StageView.of(evidence, 0, None)
    columns = Columns.of(table)
    for arm in (BASELINE, CANDIDATE):
        assert counts.tallies[arm] == tally(columns, arm, {0: world.seconds})
        assert counts.requests(arm) == view.asked(arm)
        assert counts.answered(arm) == view.answered[arm]
        assert (counts.known("osl", arm), round(counts.sum("osl", arm))) == view.tokens(arm)
    for metric in ("ttft", "tpot", "response_time", "osl"):
        exact = matched(view, metric if metric == "osl" else f"{metric}.p50")
        assert isinstance(exact, Matched)
        one, two = counts.both(metric, exact.paired)
        assert (one.total, two.total) == exact.counts
        assert exact.blocks is not None
        blocks = counts.blocks(metric, exact.paired, mean=False)
        assert blocks is not None
        for arm in (0, 1):
            sizes = np.add.reduceat(blocks.weights[arm], blocks.start[arm][:-1])  # type: ignore[index]
            assert sizes.tolist() == np.diff(exact.blocks.start[arm]).tolist()
        if exact.paired:
            lost = sum(counts.lost[metric, arm] for arm in (0, 1))
            assert lost / (lost + one.total) == pytest.approx(exact.dropped, abs=0.003)
    wanted = examine(view)
    assert counts.last_ns == view.last_ns
    assert counts.numbers == (wanted.audit.planned, wanted.audit.sent) or mode == "interleaved"
    assert {w: s.requests for w, s in counts.senders.items()} == view.sent_by
    faults = {fault.finding.metric: fault.finding.reason for fault in wanted.faults}
    found = {f.metric: f.reason for f in judge(counted(Recording(Path(), world.meta(), table))).findings}
    assert "validity.clock" in faults
    for metric, reason in faults.items():
        if metric not in ("validity.warm-up", "validity.steady"):
            assert reason in found[metric]


def test_the_order_of_the_rows_is_of_no_consequence() -> None:
    world = World(seed=8, fails=0.03)
    table = world.samples()
    orders = [
        table,
        table.sort_by([("arm", "ascending"), ("due_ns", "ascending")]),
        table.take(np.random.default_rng(0).permutation(table.num_rows)),
    ]
    texts = {verdict_json(judge(counted(Recording(Path(), world.meta(), one))), world.meta()) for one in orders}
    assert len(texts) == 1


def test_numbers_of_pairs_may_be_anything() -> None:
    """Somebody else's file calls pairs as it likes: far apart, and with -1 for requests that belong to none."""
    world = World(seed=9, gates=())
    table = world.samples()
    ids = table["pair_id"].to_numpy()
    far = np.random.default_rng(1).choice(1 << 60, ids.max() + 1, replace=False)[ids]
    far[np.flatnonzero(np.array(table["arm"].to_pylist()) == "baseline")[::400]] = -1
    renamed = table.set_column(SAMPLES.get_field_index("pair_id"), "pair_id", pa.array(far))
    recording = Recording(Path(), {}, renamed)
    exact, found = judge(Evidence.of(recording)), judge(counted(recording))
    assert found.verdict == exact.verdict == "promote"
    numbers = [{f.metric: f.n_baseline for f in v.findings if f.margin is not None} for v in (exact, found)]
    assert numbers[0] == numbers[1]


@pytest.mark.parametrize("mode", ["paired", "interleaved"])
def test_a_bare_file_with_the_required_columns_only(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketched, "MOST_SAMPLES", 1000)
    world = World(mode=mode, seed=3, slow=1.5)
    columns = ["arm", "due_ns", "done_ns", "status", *(["pair_id"] if mode == "paired" else [])]
    path = tmp_path / "theirs.parquet"
    pq.write_table(world.samples().select(columns), path)
    recording = Recording.open(path, most=1000)
    assert recording.large is not None
    assert recording.samples.num_rows == 0
    exact, found = judge(Evidence.of(Recording.open(path))), judge(sketched.evidence_of(recording))
    assert found.verdict == exact.verdict == "rollback"
    assert [f.metric for f in found.findings if f.outcome == "fail"] == [
        f.metric for f in exact.findings if f.outcome == "fail"
    ]


def test_what_counts_cannot_tell_is_judged_from_the_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many they are."""
    monkeypatch.setattr(sketched, "MOST_SAMPLES", 1000)
    path = tmp_path / "samples.parquet"
    pq.write_table(World(seed=3).samples(), path)
    recording = Recording.open(path, most=1000)
    assert isinstance(sketched.evidence_of(recording), CountedEvidence)
    gates = [Gate("goodput", limit=0.9, within={"response_time": 1.0})]
    evidence = sketched.evidence_of(recording, gates)
    assert not isinstance(evidence, CountedEvidence)
    assert len(evidence.samples) == recording.rows


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("arm", "control", "column arm: row 7: expected one of stable, baseline, candidate, unknown, found 'control'"),
        ("status", "fine", "column status: row 7: expected one of ok, error, timeout, oom, refused, cancelled"),
        ("due_ns", None, "column due_ns: 1 rows have no value"),
    ],
)
def test_a_wrong_value_is_named(column: str, value: object, message: str, tmp_path: Path) -> None:
    table = World(seed=1, seconds=5).samples()
    values = table[column].to_pylist()
    values[7] = value
    path = tmp_path / "samples.parquet"
    pq.write_table(table.set_column(SAMPLES.get_field_index(column), column, pa.array(values)), path)
    with pytest.raises(RecordingError, match=r"samples\.parquet: ") as caught:
        list(SampleFile.open(path).batches(COLUMNS))
    assert message in str(caught.value)


def test_codes_are_within_a_thousandth() -> None:
    rng = np.random.default_rng(0)
    ns = np.concatenate([[0, 1, 2, 3], np.exp(rng.uniform(0, np.log(1e15), 10_000)).astype(np.int64)])
    codes = code_of(ns, np.zeros(len(ns), np.bool_))
    assert codes.min() > 0
    assert np.abs(np.log(SECONDS[codes] / (np.maximum(ns, 1) * 1e-9))).max() <= np.log1p(1 / 1024) / 2 + 1e-12
    tokens = np.arange(0, 2047)
    assert TOKENS[code_of(tokens + 1, np.zeros(len(tokens), np.bool_))].tolist() == tokens.tolist()
    assert code_of(np.array([2**62, 5]), np.array([False, True])).tolist()[1] == 0
    assert int(code_of(np.array([2**63 - 1]), np.array([False]))[0]) < CODES


def test_another_tools_recording_is_judged_of_its_requests_however_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sketched, "MOST_SAMPLES", 100)
    data = Path(__file__).parents[2] / "recording" / "data"
    recording = Recording.open(data / "k6_both.csv")
    many = replace(recording, samples=pa.concat_tables([recording.samples] * 20))
    assert many.rows > 100
    evidence = sketched.evidence_of(many)
    assert not isinstance(evidence, CountedEvidence)
    assert any(f.metric == "validity.imported" for f in judge(evidence).findings)
