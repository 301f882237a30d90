"""Peak memory by context and batch: the right form, bounds that hold, edges that are where they are."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from harness.judge.statistics.memory_fit import Point, fit

GIB = 2.0**30
CAPACITY = 80 * GIB
GRID = tuple(product((1024, 2048, 4096, 6144), (1, 2, 4)))
WEIGHTS, TOKEN = 16 * GIB, 0.5 * 2**20


def points(needs: object, noise: float = 0.0, seed: int = 1, grid: tuple[tuple[int, int], ...] = GRID) -> list[Point]:
    rng = np.random.default_rng(seed)
    assert callable(needs)
    return [Point(c, b, needs(c, b) + (rng.normal(0, noise) if noise else 0.0)) for c, b in grid]


@pytest.mark.parametrize(
    ("needs", "terms"),
    [
        (lambda c, b: WEIGHTS + TOKEN * c * b, ("tokens",)),
        (lambda c, b: WEIGHTS + TOKEN * c * b + 3 * GIB * b, ("tokens", "batch")),
        (lambda c, b: WEIGHTS + TOKEN * c * b + 2**20 * c, ("tokens", "context")),
        (lambda c, b: WEIGHTS + TOKEN * c * b + 600.0 * c * c, ("tokens", "context squared")),
        (lambda c, b: WEIGHTS + TOKEN * c * b + 100.0 * c * c * b, ("tokens", "context squared * batch")),
    ],
)
def test_the_form_is_the_one_that_there_is(needs: object, terms: tuple[str, ...]) -> None:
    found = fit(points(needs), CAPACITY)
    assert found is not None
    assert found.terms == terms
    assert callable(needs)
    for context, batch in ((512, 1), (8192, 4), (3000, 3)):
        assert found.peak(context, batch) == pytest.approx(needs(context, batch), rel=1e-6)


def test_an_edge_is_where_the_capacity_is_reached() -> None:
    found = fit(points(lambda c, b: WEIGHTS + TOKEN * c * b), CAPACITY)
    assert found is not None
    truth = (CAPACITY - WEIGHTS) / TOKEN
    assert found.edge(1, CAPACITY) == pytest.approx(truth, rel=1e-5)
    assert found.edge(4, CAPACITY) == pytest.approx(truth / 4, rel=1e-5)
    assert found.safe(4, CAPACITY) < found.edge(4, CAPACITY)
    assert found.edge(1, WEIGHTS / 2) == 0.0


def test_what_does_not_grow_has_no_edge() -> None:
    found = fit(points(lambda c, b: WEIGHTS), CAPACITY)
    assert found is None or math.isinf(found.edge(1, CAPACITY))


def test_seven_points_are_too_few() -> None:
    assert fit(points(lambda c, b: WEIGHTS + TOKEN * c * b)[:7], CAPACITY) is None
    assert fit(points(lambda c, b: WEIGHTS + TOKEN * c * b)[:8], CAPACITY) is not None


def test_a_need_that_falls_with_the_context_is_no_fit() -> None:
    assert fit(points(lambda c, b: WEIGHTS - TOKEN * c * b), CAPACITY) is None


def test_points_that_cannot_tell_batch_from_context_give_no_such_terms() -> None:
    found = fit(points(lambda c, b: WEIGHTS + TOKEN * c * b, grid=tuple((1024 * n, 1) for n in range(1, 9))), CAPACITY)
    assert found is not None
    assert "context" not in found.terms


def test_what_lies_on_a_line_is_not_taken_to_be_certain() -> None:
    """A thousandth of the capacity at the least: a bound is never the line itself."""
    found = fit(points(lambda c, b: WEIGHTS + TOKEN * c * b), CAPACITY)
    assert found is not None
    assert found.upper(8192, 4) - found.peak(8192, 4) > 0.001 * CAPACITY


@pytest.mark.parametrize(("context", "batch"), [(8192, 4), (2048, 2)], ids=["beyond the ladder", "amid it"])
@pytest.mark.parametrize("noise", [0.1 * GIB, 1.0 * GIB])
def test_the_upper_bound_holds_for_new_measurements(noise: float, context: int, batch: int) -> None:
    """99 % each; the form is chosen from the same points, which costs a little."""
    rng, above = np.random.default_rng(7), 0
    worlds = 400
    for seed in range(worlds):
        found = fit(points(lambda c, b: WEIGHTS + TOKEN * c * b + GIB * b, noise, seed), CAPACITY)
        assert found is not None
        new = WEIGHTS + TOKEN * context * batch + GIB * batch + rng.normal(0, noise)
        above += new > found.upper(context, batch)
    assert above / worlds <= 0.03


def test_the_upper_bound_holds_where_the_points_are_too_noisy_to_show_that_it_curves() -> None:
    """Eight points of one batch, and a goal half as far again: the simplest form that they allow is often a line."""
    rng, above, worlds = np.random.default_rng(7), 0, 200
    grid = tuple((1024 * number, 4) for number in range(1, 9))

    def needs(context: float, batch: int) -> float:
        return WEIGHTS + TOKEN * context * batch + 150.0 * context**2

    for seed in range(worlds):
        found = fit(points(needs, 0.5 * GIB, seed, grid), CAPACITY)
        assert found is not None
        above += needs(12288, 4) + rng.normal(0, 0.5 * GIB) > found.upper(12288, 4)
    assert above / worlds <= 0.03


def test_the_nearer_bound_is_the_tighter_one() -> None:
    found = fit(points(lambda c, b: WEIGHTS + TOKEN * c * b, 0.5 * GIB), CAPACITY)
    assert found is not None
    reach = [found.upper(context, 4) - found.peak(context, 4) for context in (4096, 8192, 32768)]
    assert reach == sorted(reach)
