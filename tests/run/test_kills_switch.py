"""SIGKILL at every line of the journal where traffic comes back in an emergency, and where blue becomes green."""

from __future__ import annotations

import pytest

from tests.run.test_kills import (
    course,
    test_at_every_step,
    test_recover_itself_may_be_killed_anywhere,
    test_the_next_run_puts_it_back_first,
    test_with_something_dead_at_that_moment,
    whole,
)

__all__ = [
    "course",
    "test_at_every_step",
    "test_recover_itself_may_be_killed_anywhere",
    "test_the_next_run_puts_it_back_first",
    "test_with_something_dead_at_that_moment",
    "whole",
]

pytestmark = [pytest.mark.triton, pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module", params=["emergency", "blue-green"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)
