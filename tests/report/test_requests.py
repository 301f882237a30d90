"""Requests as a page needs them: exact ones, and the same numbers to 0.1 % where they are too many to be kept."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.recording import Recording
from harness.recording.schema import CHUNKS, SAMPLES
from harness.report.requests import (
    ANSWERED,
    ARMS,
    FAILED,
    SCORED,
    SCORING_FAILED,
    Requests,
    Spread,
    equal_load,
    extent,
    requests,
)
from harness.report.requests.kinds import MOST_KINDS, OTHERS
from harness.types import StagePlan
from tests.report import factory

SHARES = np.array([0, 0.001, 0.01, 0.5, 0.9, 0.99, 0.999, 1])


def summed(recording: Recording, bins: int = 8, **more: int) -> Requests:
    first, last = extent(recording) or (0.0, 1.0)
    return requests(recording, [np.linspace(first, last, bins + 1)], sorted(set(_column(recording, "stage"))), **more)


def _column(recording: Recording, name: str) -> list[object]:
    return recording.whole().samples[name].to_pylist()


@pytest.fixture(scope="module")
def run() -> Recording:
    return factory.recording(failing=0.1)


@pytest.fixture(scope="module")
def many() -> Recording:
    return factory.big(60_000)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 1000])
def test_a_spread_has_the_quantiles_of_its_values(n: int) -> None:
    values = np.random.default_rng(n).lognormal(0, 1, n).round(1)  # with ties
    parts = np.array_split(values, 3)
    together = Spread.of(map(Spread.exact, parts))
    np.testing.assert_array_equal(together.quantile(SHARES), np.quantile(values, SHARES))
    assert together.quantile(0.5) == np.quantile(values, 0.5)
    assert len(together) == n


def test_a_spread_of_nothing_knows_nothing() -> None:
    nothing = Spread.of([])
    assert len(nothing) == 0
    assert np.isnan(nothing.quantile(0.5))
    assert np.isnan(nothing.quantile([0.1, 0.9])).all()


def test_times_by_their_definitions() -> None:
    world = factory.World()
    world.request("baseline", 0, 1, 2.0)
    world.request("baseline", 0, 2, 3.0, score=True)
    data = summed(Recording(Path("run"), {}, factory.table(world.samples, SAMPLES)))
    row = world.samples[0]
    for metric, took_ns in (
        ("ttft", row.first_ns - row.sent_ns),
        ("tpot", (row.done_ns - row.first_ns) / 7),
        ("response_time", row.done_ns - row.due_ns),
        ("request_latency", row.done_ns - row.sent_ns),
    ):
        times = data.times(metric, "baseline")
        assert times.values.tolist() == [pytest.approx(took_ns * 1e-9)]  # scoring has no latency
    assert (data.count("baseline", ANSWERED), data.count("baseline", SCORED), data.count("baseline")) == (1, 1, 2)
    assert data.arms == ("baseline",)


def test_what_the_samples_say_is_what_is_counted(run: Recording) -> None:
    data = summed(run)
    rows = run.samples.to_pylist()
    kinds = {
        ANSWERED: ("plan", True),
        FAILED: ("plan", False),
        SCORED: ("score", True),
        SCORING_FAILED: ("score", False),
    }
    for arm in data.arms:
        for kind, (assignment, ok) in kinds.items():
            mine = [
                row for row in rows if (row["arm"], row["assignment"], row["status"] == "ok") == (arm, assignment, ok)
            ]
            assert data.count(arm, kind) == len(mine) == data.counts(arm, kind).sum()
            for stage in data.stages:
                assert data.count(arm, kind, stage=stage) == sum(row["stage"] == stage for row in mine)
    assert data.count("candidate", FAILED) > 5
    assert data.count("candidate", stage=99) == 0
    assert len(data) == len(rows)


def test_bins_hold_the_requests_that_were_sent_in_them(run: Recording) -> None:
    first, last = extent(run) or (0.0, 0.0)
    middle = first + (last - first) / 3
    # Two stages with a gap between them, in which nothing is counted.
    edges = [np.linspace(first, middle, 5), np.linspace(middle + 10.0, last, 4)]
    data = requests(run, edges, [0])
    sent = np.array([row["sent_ns"] * 1e-9 for row in run.samples.to_pylist() if row["arm"] == "baseline"])
    expected = [*np.histogram(sent, edges[0])[0], *np.histogram(sent, edges[1])[0]]
    np.testing.assert_array_equal(data.counts("baseline"), expected)
    took = [len(spread) for spread in data.over_time("response_time", "baseline")]
    np.testing.assert_array_equal(took, data.counts("baseline", ANSWERED))


def test_quantiles_are_exact(run: Recording) -> None:
    data = summed(run)
    rows = [row for row in run.samples.to_pylist() if row["status"] == "ok" and row["assignment"] == "plan"]
    for arm in data.arms:
        took = [(row["done_ns"] - row["due_ns"]) * 1e-9 for row in rows if row["arm"] == arm]
        np.testing.assert_allclose(
            data.times("response_time", arm).quantile(SHARES), np.quantile(took, SHARES), rtol=1e-12
        )
        paired = [(r["done_ns"] - r["due_ns"]) * 1e-9 for r in rows if r["arm"] == arm and r["stage"] in (0, 2)]
        assert data.times("response_time", arm, [0, 2]).quantile(0.5) == pytest.approx(np.quantile(paired, 0.5))


def test_too_many_requests_are_counted_to_a_thousandth(many: Recording) -> None:
    exact, counted = summed(many), summed(many, most_exact=1000)
    assert (exact.exact, counted.exact) == (True, False)
    assert counted.arms == exact.arms
    assert counted.metrics == exact.metrics
    assert counted.errors == exact.errors
    np.testing.assert_array_equal(counted.by_stage, exact.by_stage)
    np.testing.assert_array_equal(counted.by_bin, exact.by_bin)
    for metric in exact.metrics:
        for arm in exact.arms:
            for stages in (None, [1]):
                one, two = exact.times(metric, arm, stages), counted.times(metric, arm, stages)
                assert len(one) == len(two) > 1000
                np.testing.assert_allclose(two.quantile(SHARES), one.quantile(SHARES), rtol=1e-3)
            for one, two in zip(exact.over_time(metric, arm), counted.over_time(metric, arm), strict=True):
                assert len(one) == len(two)
                np.testing.assert_allclose(two.quantile([0.5, 0.9]), one.quantile([0.5, 0.9]), rtol=1e-3)
            for one, two in zip(exact.points(metric, arm), counted.points(metric, arm), strict=True):
                np.testing.assert_array_equal(two, one)


def test_what_is_kept_does_not_grow_with_the_requests() -> None:
    small, large = (summed(factory.big(n), 1, most_exact=1000) for n in (60_000, 240_000))
    kept = [sum(len(spread.values) for spread in data.cells.values()) for data in (small, large)]
    assert kept[1] < 1.5 * kept[0]
    assert len(large.points("response_time", "baseline").at) == len(small.points("response_time", "baseline").at) == 300


def test_a_file_that_is_left_on_disk_gives_the_same(many: Recording, tmp_path: Path) -> None:
    path = tmp_path / "samples.parquet"
    pq.write_table(many.samples, path, row_group_size=7000)
    on_disk = Recording.open(path, most=1000)
    assert on_disk.large is not None
    assert extent(on_disk) == extent(many)
    for most_exact in (1000, 10**6):
        one, two = summed(many, most_exact=most_exact), summed(on_disk, most_exact=most_exact)
        for field in dataclasses.fields(Requests):
            if field.name not in ("cells", "points_of", "edges"):
                np.testing.assert_array_equal(getattr(two, field.name), getattr(one, field.name))
        assert one.cells.keys() == two.cells.keys()
        for cell, spread in one.cells.items():
            np.testing.assert_array_equal(two.cells[cell].values, spread.values)
            np.testing.assert_array_equal(two.cells[cell].counts, spread.counts)


def test_when_requests_were_sent_is_known_without_reading_them(many: Recording, tmp_path: Path) -> None:
    path = tmp_path / "samples.parquet"
    sent = many.samples["sent_ns"].to_numpy().copy()
    sent[[0, -1]] = -1  # now the due time counts
    place = SAMPLES.names.index("sent_ns")
    unsent = many.samples.set_column(place, SAMPLES.field("sent_ns"), pa.array(sent))
    pq.write_table(unsent, path)
    due = many.samples["due_ns"].to_numpy()
    expected = due.min() * 1e-9, due.max() * 1e-9
    assert extent(Recording.open(path, most=1000)) == extent(many) == expected
    pq.write_table(unsent.drop_columns(["sent_ns", "stage", "error", "code", "osl", "assignment"]), path)
    bare = Recording.open(path, most=1000)
    assert extent(bare) == expected
    data = summed(bare, most_exact=1000)
    assert data.metrics == ("response_time",)
    assert {(row.status, row.error, row.code) for row in data.errors} == {("timeout", "", "")}
    assert extent(factory.nothing()) is None


def test_points_are_a_draw_without_favourites(many: Recording) -> None:
    points = summed(many).points("response_time", "baseline")
    assert len(points.at) == 300
    assert (np.diff(points.at) >= 0).all()
    halves = np.histogram(points.at, 4)[0]
    assert halves.min() > 40  # 75 expected, 8 to a standard deviation
    every = summed(many).times("response_time", "baseline")
    assert abs((points.value > every.quantile(0.5)).mean() - 0.5) < 0.15
    assert np.isin(points.value.round(9), every.values.round(9)).all()


def test_latency_is_compared_at_equal_load_only() -> None:
    stages, text = equal_load(factory.PLANS)
    assert stages == (0,)
    assert "stage 1," in text
    unequal = [StagePlan(0, "split", "poisson", 10.0, 0.1, rate=1.0)]
    assert equal_load(unequal)[0] is None
    assert "never had equal load" in equal_load(unequal)[1]
    assert equal_load([]) == (None, "All requests that were answered.")


def test_equal_parts_beside_stable_may_be_compared() -> None:
    three = [StagePlan(0, "split", "poisson", 10.0, 0.1, rate=1.0, baseline_share=0.1)]
    stages, text = equal_load(three)
    assert stages == (0,)
    assert "where both arms had equal load" in text


def test_errors_by_class_add_up() -> None:
    recording = factory.recording(plans=factory.PLANS[:1], failing=0.3)
    rows = summed(recording).errors
    failed = [row for row in recording.samples.to_pylist() if row["status"] != "ok"]
    assert sum(row.count for row in rows) == len(failed) > 10
    assert {row.arm for row in rows} == {"candidate"}
    assert rows[0].first_s == pytest.approx(min(row["sent_ns"] for row in failed) * 1e-9)
    asked = sum(row["arm"] == "candidate" for row in recording.samples.to_pylist())
    assert sum(row.share for row in rows) == pytest.approx(len(failed) / asked)


def test_errors_that_all_differ_do_not_fill_the_memory(many: Recording) -> None:
    n = MOST_KINDS + 5000
    part = many.samples.slice(0, n)
    texts = {"status": ["error"] * n, "error": [f"request {i} failed" for i in range(n)]}
    for name, values in texts.items():
        part = part.set_column(SAMPLES.names.index(name), SAMPLES.field(name), pa.array(values))
    rows = summed(Recording(Path("run"), {}, part)).errors
    assert len(rows) <= MOST_KINDS + len(ARMS)
    assert sum(row.count for row in rows) == n
    assert [row.error for row in rows[:2]] == [OTHERS, OTHERS]


def test_gaps_between_chunks() -> None:
    recording = factory.recording(plans=factory.PLANS[:1])
    pairs = [(arm, pair) for pair in range(3) for arm in ("baseline", "candidate")]
    ms = 1_000_000
    rows = [
        (pair, arm, 10**10 + pair * 10**9 + k * (20 if arm == "baseline" else 30) * ms)
        for arm, pair in pairs
        for k in range(5)
    ]
    recording = dataclasses.replace(recording, chunks=factory.table(rows, CHUNKS))
    data = summed(recording, icl=True)
    for arm, gap in (("baseline", 0.020), ("candidate", 0.030)):
        times = data.times("icl", arm, [0])
        assert len(times) == 12  # four gaps of each of three requests
        np.testing.assert_allclose(times.quantile([0, 0.5, 1]), gap)
    assert "icl" not in summed(recording).metrics


def test_an_arm_that_is_none_of_ours_is_counted_in_the_total_alone() -> None:
    table = factory.recording(plans=factory.PLANS[:1]).samples
    place = SAMPLES.names.index("arm")
    unknown = table.set_column(place, SAMPLES.field("arm"), pa.array(["unknown"] * table.num_rows))
    data = summed(Recording(Path("run"), {}, unknown))
    assert (len(data), data.arms, data.metrics) == (table.num_rows, (), ())
