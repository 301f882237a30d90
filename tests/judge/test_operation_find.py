"""The search for the highest load that holds: on simulated servers, whose true limit is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from harness.judge import Ask, judge_operation, judge_trial
from harness.judge.operations.search import replay
from harness.report.operation_tables import tables
from tests.judge.queues import Facts, World, facts, find, single_server, trial

CAPACITY, LIMIT_S = 400.0, 0.1
TRUE = CAPACITY - math.log(100) / LIMIT_S
"""The highest rate at which 1 % of an M/M/1's requests take longer than the limit: 353.9/s."""


def fixed(took_s: float, capacity: float, lag_s: float = 1e-5) -> World:
    """Every request takes as long up to the capacity, and a second beyond it."""

    def send(rng: np.random.Generator, ask: Ask) -> Facts:
        due = np.sort(rng.uniform(0, 1 + ask.seconds, rng.poisson(ask.level * (1 + ask.seconds))))
        took = np.full(len(due), took_s if ask.level <= capacity else 1.0)
        return trial(ask, due, took, facts()["objectives"], lag_s=lag_s)

    return send


# ---------------------------------------------------------------- one trial


def shown_at(rate: float, seconds: float, count: int) -> int:
    """In how many of so many trials the objective was said to hold."""
    of = facts(LIMIT_S)
    world = single_server(CAPACITY, of["objectives"])
    trials = (world(np.random.default_rng([9, seed]), Ask(rate, seconds, "bisect")) for seed in range(count))
    return sum(judge_trial(one, of["objectives"], 0.95).outcome == "holds" for one in trials)


@pytest.mark.parametrize("seconds", [5, 20, 60])
def test_at_the_limit_itself_it_hardly_ever_holds(seconds: float) -> None:
    """At most 5 % of the trials may say so, however much the slow requests come together; 12 % is beyond chance."""
    assert shown_at(TRUE, seconds, 80) <= 9


def test_well_below_the_limit_a_trial_tells() -> None:
    assert shown_at(0.7 * TRUE, 30, 40) >= 30


def test_well_above_the_limit_it_misses() -> None:
    of = facts(LIMIT_S)
    world = single_server(CAPACITY, of["objectives"])
    for seed in range(10):
        one = world(np.random.default_rng([4, seed]), Ask(1.2 * TRUE, 10.0, "bisect"))
        assert judge_trial(one, of["objectives"], 0.95).outcome == "misses"


@pytest.mark.parametrize(("count", "expected"), [(298, "undecided"), (320, "holds")])
def test_without_any_slow_request_the_bound_is_nearly_the_exact_one(count: int, expected: str) -> None:
    """0 of 299 shows less than 1 % with 95 % (the rule of three); that blocks are fewer than requests costs 4 %."""
    due = 1 + (np.arange(count) + 0.5) * 5 / count
    one = trial(Ask(count / 5, 5.0, "bisect"), due, np.full(count, 0.01), facts()["objectives"])
    assert judge_trial(one, facts()["objectives"], 0.95).outcome == expected


def test_failed_requests_are_beyond_every_limit() -> None:
    due = 1 + np.arange(1000) / 200
    failed = np.arange(1000) % 20 == 0
    one = trial(Ask(200.0, 5.0, "bisect"), due, np.full(1000, 0.01), facts()["objectives"], failed=failed)
    found = judge_trial(one, facts()["objectives"], 0.95)
    assert (found.outcome, found.shares[0].beyond, found.good) == ("misses", 50, 190.0)


def test_what_was_not_sent_says_nothing_of_the_server() -> None:
    due = 1 + np.arange(500) / 100
    one = trial(Ask(200.0, 5.0, "bisect"), due, np.full(500, 0.01), facts()["objectives"])
    found = judge_trial(one, facts()["objectives"], 0.95)
    assert found.outcome == "behind"
    assert "sent 100/s and not 200/s" in found.reason


@pytest.mark.parametrize(("lag_s", "expected"), [(0.009, "holds"), (0.011, "behind")])
def test_a_tenth_of_the_limit_is_what_the_generator_may_be_late(lag_s: float, expected: str) -> None:
    due = 1 + np.arange(1000) / 200
    one = trial(Ask(200.0, 5.0, "bisect"), due, np.full(1000, 0.01), facts(0.1)["objectives"], lag_s=lag_s)
    assert judge_trial(one, facts(0.1)["objectives"], 0.95).outcome == expected


# ---------------------------------------------------------------- the search


def test_the_answer_lies_below_the_true_limit_and_close_to_it() -> None:
    """95 % of the searches at least; of 24 more than 4 above it are beyond chance. Half are within 15 %."""
    of = facts(LIMIT_S)
    answers = [find(single_server(CAPACITY, of["objectives"]), of, seed)[2] for seed in range(24)]
    levels = np.array([answer.level for answer in answers if answer.ended == "found"])
    assert len(levels) >= 22
    assert (levels > TRUE).sum() <= 4
    assert np.median(levels) >= 0.85 * TRUE


def test_a_step_is_found_within_the_precision() -> None:
    of = facts()
    seen, _, answer = find(fixed(0.01, 300.0), of, 1)
    assert answer.ended == "found"
    assert answer.level is not None
    assert 300 / 1.06 <= answer.level <= 300
    assert answer.beyond is not None
    assert 300 < seen["trials"][answer.beyond]["level"] <= answer.level * 1.06
    verdict = judge_operation(seen)
    assert verdict.verdict == "promote"
    assert verdict.reason.startswith(f"{answer.level:g}/s holds response_time.p99 < 100ms (95 % sure: at most 0.")
    assert "misses it (100.0 % of" in verdict.reason
    assert "; goodput " in verdict.reason
    found = {finding.metric: finding for finding in verdict.findings}
    assert found["max_load"].candidate == answer.level
    assert set(found) == {"max_load", "response_time.p99"}


def test_judged_again_the_trials_lead_to_the_same_answer() -> None:
    of = facts(LIMIT_S)
    seen, outcomes, answer = find(single_server(CAPACITY, of["objectives"]), of, 3)
    assert replay(seen, seen["trials"]) == (outcomes, answer)
    assert replay(seen, seen["trials"][:-1])[1] is None


def test_the_low_end_misses() -> None:
    seen, _, answer = find(fixed(0.01, 10.0), facts(), 1)
    assert (answer.ended, answer.level) == ("below", None)
    verdict = judge_operation(seen)
    assert verdict.verdict == "rollback"
    assert verdict.reason.startswith("Even the low end misses: 50/s misses it (100.0 % of ")


def test_the_high_end_holds() -> None:
    seen, _, answer = find(fixed(0.01, 1e6), facts(), 1)
    assert (answer.ended, answer.level) == ("at least", 800.0)
    verdict = judge_operation(seen)
    assert verdict.verdict == "inconclusive"
    assert verdict.reason.startswith("At least 800/s holds")
    assert verdict.needs == "a higher end of `between`"


def test_a_late_generator_leads_to_no_answer() -> None:
    seen, outcomes, answer = find(fixed(0.01, 300.0, lag_s=0.05), facts(), 1)
    assert answer.ended == "behind"
    assert {found.outcome for found in outcomes} == {"behind"}
    verdict = judge_operation(seen)
    assert verdict.verdict == "inconclusive"
    assert "fell behind" in verdict.reason
    assert "faster machine" in verdict.needs
    assert len({one["seconds"] for one in seen["trials"]}) == 1, "a longer trial is as late"


def test_no_trial_is_long_enough() -> None:
    """At 2 to 4 requests a second 299 take minutes."""
    of = facts(between=[2.0, 4.0], trial_s=2.0, repeats=0)
    seen, _, answer = find(fixed(0.01, 1e6), of, 1)
    assert answer.ended == "undecided"
    verdict = judge_operation(seen)
    assert verdict.verdict == "inconclusive"
    assert verdict.reason.startswith("No load was shown to hold: 2/s was not shown to hold it (0.0 % of ")
    assert "longer trials" in verdict.needs


def test_two_objectives_and_which_of_them_is_missed() -> None:
    errors = {"metric": "errors", "words": "errors < 1%", "allowed": 0.01, "within": {}}
    of = facts(objectives=[*facts()["objectives"], errors])

    def send(rng: np.random.Generator, ask: Ask) -> Facts:
        due = np.sort(rng.uniform(0, 1 + ask.seconds, rng.poisson(ask.level * (1 + ask.seconds))))
        failed = rng.random(len(due)) < (0.2 if ask.level > 200 else 0)
        return trial(ask, due, np.full(len(due), 0.01), of["objectives"], failed=failed)

    seen, _, answer = find(send, of, 1)
    assert answer.ended == "found"
    reason = judge_operation(seen).reason
    assert "and errors < 1% (95 % sure: at most" in reason
    assert "misses response_time.p99 < 100ms (" in reason
    assert " and errors < 1% (" in reason.partition("misses")[2]
    assert " failed, " in reason


def test_cut_short_it_has_no_answer() -> None:
    seen, _, _ = find(fixed(0.01, 300.0), facts(), 1)
    verdict = judge_operation({**seen, "trials": seen["trials"][:3], "finished": False, "error": "SIGTERM"})
    assert (verdict.verdict, verdict.findings[0].outcome) == ("inconclusive", "no data")
    assert "SIGTERM" in verdict.reason
    assert judge_operation({"kind": "find-max-load"}).verdict == "inconclusive"


def test_every_trial_is_a_row() -> None:
    seen, outcomes, _ = find(fixed(0.01, 300.0), facts(), 1)
    (table,) = tables(seen)
    assert len(table.rows) == len(outcomes)
    assert {len(row) for row in table.rows} == {len(table.columns)}
    rows: Any = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert rows[0]["load"] == "50/s"
    assert rows[0]["to"] == "doubling"
    assert rows[-1]["to"] == "confirming"
    assert rows[-1]["outcome"] == "holds"
    missed = next(row for row in rows if row["outcome"].startswith("misses"))
    assert missed["goodput/s"] == "0"
    assert "response_time.p99 < 100ms" in table.columns[5]
