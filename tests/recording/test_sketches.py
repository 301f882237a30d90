"""The guarantee of a sketch, against exact quantiles; and that parts add up."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from harness.recording import SCHEMAS, histogram, merge, quantile
from harness.recording.sketches import FIRST_BIN, LAST_BIN, LEAST, MOST, bins_of, log_of

QUANTILES = np.array([0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1])
Make = Callable[[np.random.Generator, int], np.ndarray]

# Seconds. As in sketches-py: all kinds of shapes, sorted both ways, constant, with gaps, over many magnitudes.
DATA: dict[str, Make] = {
    "lognormal": lambda rng, n: rng.lognormal(-5, 0.4, n),
    "exponential": lambda rng, n: rng.exponential(0.02, n),
    "gamma": lambda rng, n: rng.gamma(0.3, 0.05, n),
    "pareto": lambda rng, n: 1e-3 * (1 + rng.pareto(1.1, n)),
    "weibull": lambda rng, n: rng.weibull(0.4, n),
    "uniform": lambda rng, n: rng.uniform(0.001, 0.002, n),
    "uniform from zero": lambda rng, n: rng.uniform(0, 1, n),
    "increasing": lambda rng, n: np.linspace(1e-4, 2.0, n),
    "decreasing": lambda rng, n: np.linspace(3e4, 1e-2, n),
    "constant": lambda rng, n: np.full(n, 0.0123),
    "two values": lambda rng, n: rng.choice([0.001, 1.0], n),
    "cache hits": lambda rng, n: np.where(rng.random(n) < 0.6, rng.normal(2e-4, 1e-6, n), rng.normal(0.5, 0.01, n)),
    "rare outliers": lambda rng, n: np.where(rng.random(n) < 0.01, 60.0, rng.normal(0.01, 0.001, n)),
    "magnitudes": lambda rng, n: 10 ** rng.uniform(-9, 5, n),
    "nanoseconds": lambda rng, n: rng.integers(1, 30, n) * 1e-9,
    "powers of the ratio": lambda rng, n: 1.01 ** rng.integers(-900, 300, n),
    "just below them": lambda rng, n: np.nextafter(1.01 ** rng.integers(-900, 300, n), 0),
    "just above them": lambda rng, n: np.nextafter(1.01 ** rng.integers(-900, 300, n), 1e9),
    "censored": lambda rng, n: np.minimum(rng.exponential(4.0, n), 10.0),
    "token counts": lambda rng, n: rng.geometric(0.01, n).astype(float),
}


def counted(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.unique(bins_of(log_of(values)), return_counts=True)


@pytest.mark.parametrize("size", [1, 2, 3, 10, 101, 5000])
@pytest.mark.parametrize("name", DATA)
def test_any_quantile_is_within_one_percent(name: str, size: int) -> None:
    for seed in range(5):
        values = DATA[name](np.random.default_rng(seed), size)
        exact = np.maximum(np.quantile(values, QUANTILES), LEAST)
        error = np.abs(quantile(*counted(values), QUANTILES) / exact - 1)
        # 1e-9: the width of a bin is 1 %, and rounding may put a value that is its edge on either side of it.
        assert error.max() <= 0.01 + 1e-9, QUANTILES[error.argmax()]


def test_where_values_lie_dense_it_is_far_better() -> None:
    """What a paired comparison lives on: a shift of 2 % is seen as 2 %, not as 1 or 3."""
    values = np.random.default_rng(1).lognormal(-5, 0.4, 20_000)
    middle = (0.1, 0.5, 0.9)
    before, after = quantile(*counted(values), middle), quantile(*counted(values * 1.02), middle)
    assert np.abs(after / before - 1.02).max() < 0.001


def test_what_is_out_of_range_counts_at_its_edge() -> None:
    low, high = bins_of(log_of(np.array([0.0, 1e-12, LEAST]))), bins_of(log_of(np.array([MOST, 1e9])))
    assert set(low) == {FIRST_BIN}
    assert set(high) == {LAST_BIN}


def test_parts_add_up_to_the_whole_in_any_order() -> None:
    values = DATA["lognormal"](np.random.default_rng(0), 3000)
    whole = quantile(*counted(values), QUANTILES)
    parts = [counted(part) for part in np.array_split(values, 7)]
    bins, counts = (np.concatenate(columns) for columns in zip(*reversed(parts), strict=True))
    assert np.array_equal(quantile(bins, counts, QUANTILES), whole)


def test_nothing_has_no_quantile() -> None:
    assert np.isnan(quantile([], [], 0.5))
    assert np.isnan(quantile([3], [0], [0.5, 0.9])).all()


def rows(*entries: tuple[object, ...]) -> pa.Table:
    names = SCHEMAS["sketches"].names
    return pa.table({n: list(c) for n, c in zip(names, zip(*entries, strict=True), strict=True)}, SCHEMAS["sketches"])


def test_merging_adds_rows_of_one_key_and_sorts() -> None:
    first = rows((0, 1, "candidate", "ttft", True, 5, 2), (0, 0, "baseline", "ttft", True, 5, 1))
    second = rows((0, 1, "candidate", "ttft", True, 5, 3), (0, 1, "candidate", "ttft", False, 5, 7))
    merged = merge(first, second)
    assert merged.schema.equals(SCHEMAS["sketches"], check_metadata=True)
    assert [tuple(row.values()) for row in merged.to_pylist()] == [
        (0, 0, "baseline", "ttft", True, 5, 1),
        (0, 1, "candidate", "ttft", False, 5, 7),
        (0, 1, "candidate", "ttft", True, 5, 5),
    ]
    assert merge(second, first).equals(merged)


def test_a_histogram_takes_the_rows_that_are_asked_for() -> None:
    table = rows((0, 1, "candidate", "ttft", True, 5, 2), (0, 1, "candidate", "tpot", True, 5, 9))
    table = pa.concat_tables([table, rows((0, 2, "candidate", "ttft", False, 6, 3))])
    bins, counts = histogram(table, "ttft", arm="candidate")
    assert (bins.tolist(), counts.tolist()) == ([5, 6], [2, 3])
    bins, counts = histogram(table, "ttft", paired=True)
    assert (bins.tolist(), counts.tolist()) == ([5], [2])
