"""Things that two rooms must say alike, and may not import from each other."""

from __future__ import annotations

from harness import judge, load, scenario


def test_the_scenario_accepts_exactly_the_metrics_that_the_judge_judges() -> None:
    assert set(scenario.JUDGED) == set(judge.KNOWN)


def test_the_plan_numbers_as_many_payloads_as_the_load_makes() -> None:
    assert load.spec.RANDOM_PAYLOADS == scenario.PAYLOADS
