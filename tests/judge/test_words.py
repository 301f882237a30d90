"""How the judge's sentences write their numbers."""

from __future__ import annotations

import pytest

from harness.judge import words


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.298, "29.8 %"),
        (0.00096, "0.1 %"),
        (0.00012, "0.012 %"),
        (0.0000012, "0.00012 %"),
        (1.2e-8, "0.0 %"),
        (0.0, "0.0 %"),
    ],
)
def test_small_shares_keep_two_digits_as_far_as_they_say_anything(share: float, text: str) -> None:
    assert words.percent(share) == text


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        (0.143, "14.3 percentage points"),
        (0.01, "1 percentage point"),
        (0.0096, "1 percentage point"),
        (0.00134, "0.13 percentage points"),
        (0.0002, "0.02 percentage points"),
        (-0.0003, "-0.03 percentage points"),
        (-1e-9, "0 percentage points"),
        (0.0, "0 percentage points"),
    ],
)
def test_small_differences_keep_two_digits(difference: float, text: str) -> None:
    assert words.points(difference) == text
