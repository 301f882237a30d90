"""Where memory ends is found, however wrong the forecast is."""

from __future__ import annotations

import math

import pytest

from harness.run.operations.long_context import MOST_TRIES
from harness.run.operations.long_edge import FAR, next_context

GOAL, WITHIN = 640, 0.02


def search(edge: float, foretold: float | None, ok: float = 0, bad: float | None = None) -> tuple[float, float | None]:
    """What is known when there is nothing more to ask of a version whose memory ends at `edge`."""
    for _ in range(MOST_TRIES):
        context = next_context(ok, bad, foretold, GOAL, WITHIN)
        if context is None:
            return ok, bad
        assert ok < context < (bad or math.inf), "what was asked is not asked again"
        ok, bad = (context, bad) if context <= edge else (ok, context)
    raise AssertionError(f"not found in {MOST_TRIES} tries: {ok} to {bad}")


@pytest.mark.parametrize("foretold", [1.0, 300.0, 577.0, 590.0, 610.0, 639.0, 900.0, math.inf, None])
@pytest.mark.parametrize("edge", [580, 590, 601, 610, 633])
def test_between_two_that_are_known(edge: float, foretold: float | None) -> None:
    ok, bad = search(edge, foretold, 576, 640)
    assert bad is not None
    assert ok <= edge < bad
    assert bad / ok - 1 <= WITHIN


def test_first_where_it_is_foretold() -> None:
    """Also where that is less than a tenth below what ran out of memory."""
    assert next_context(576, 640, 610, GOAL, WITHIN) == 604
    assert next_context(604, 640, 610, GOAL, WITHIN) == 616
    assert search(610, 610, 576, 640) == (604, 616)


@pytest.mark.parametrize("off", [0.9, 0.97, 1.0, 1.03, 1.1, 1.4])
@pytest.mark.parametrize("edge", [700, 900, 1200])
def test_beyond_all_that_was_answered(edge: float, off: float) -> None:
    ok, bad = search(edge, edge * off, 640)
    assert bad is not None
    assert ok <= edge < bad
    assert bad / ok - 1 <= 2 * WITHIN


@pytest.mark.parametrize("foretold", [200.0, math.inf, None])
def test_where_nothing_was_answered_yet(foretold: float | None) -> None:
    ok, bad = search(210, foretold, 0, 300)
    assert bad is not None
    assert ok <= 210 < bad
    assert bad / ok - 1 <= WITHIN


@pytest.mark.parametrize("foretold", [2000.0, math.inf, None])
def test_too_far_is_not_looked_for(foretold: float | None) -> None:
    assert search(10_000, foretold, 640) == (FAR * GOAL, None)


def test_nothing_lies_between_two_that_are_next_to_each_other() -> None:
    assert next_context(20, 21, 20.5, GOAL, WITHIN) is None
    assert next_context(0, 1, None, GOAL, WITHIN) is None
