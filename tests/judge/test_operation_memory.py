"""Limits on memory in operations: what breaks one, what is not known, and what that does to the verdict."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.judge import Ask, Scene, Whose, judge_operation, memory_facts
from harness.judge.operations.memory import judged
from harness.judge.operations.trials import judge_trial
from harness.recording.schema import READINGS
from harness.report.operation_tables import tables as shown
from harness.types import Finding, Verdict
from tests.judge import experiments
from tests.judge.loads import LIMIT, TOTAL, night_batch, peak
from tests.judge.queues import Facts, World, facts, find, single_server
from tests.judge.worlds import table

GAP = {"peaks": [peak("gpu0", 0.5 * TOTAL, gap="nobody read gpu0 for 5.00 s of the trial")]}
UNREAD = {"missing": "no memory was read in this trial"}


def at(share: float, **other: Any) -> Facts:
    return {"peaks": [peak("gpu0", share * TOTAL, **other)]}


def of(verdict: Verdict) -> Finding:
    (one,) = (finding for finding in verdict.findings if finding.metric == "memory.peak")
    return one


# ---------------------------------------------------------------- facts, and several windows


def test_facts_are_what_was_read_in_the_window_alone() -> None:
    rows: list[tuple[object, ...]] = []
    for second in range(20):
        used = {5: 70.0, 15: 79.0}.get(second, 30.0)
        for metric, gib in (("used", used), ("total", 80.0)):
            rows.append((second * 10**9, "nvml", "gpu0", f"gpu.memory.{metric}", gib * 2.0**30, "bytes"))
    readings = table(rows, READINGS)
    read = memory_facts(Scene(readings, 10**9, 11 * 10**9, 11 * 10**9, "trial"), Whose(), "share", blocks=5)
    (one,) = read["peaks"]
    assert (one["used"], one["began"], one["capacity"]) == (70 * 2.0**30, 30 * 2.0**30, 80 * 2.0**30)
    assert [size / 2.0**30 for size in one["blocks"]] == [30.0, 30.0, 70.0, 30.0, 30.0]
    assert judged([("trial 1", read)], LIMIT, True).outcome == "pass"
    late = memory_facts(Scene(readings, 0, 60 * 10**9, 60 * 10**9, "trial"), Whose(), "share")
    assert judged([("trial 1", late)], LIMIT, True).outcome == "fail", "what was seen was seen"
    assert "from 19.00 s on" in late["peaks"][0]["gap"]
    assert memory_facts(Scene(None, 0, 1, 1), Whose(), "share")["missing"].startswith("no memory was read")


@pytest.mark.parametrize(
    ("windows", "outcome", "said"),
    [
        ([at(0.5), at(0.7)], "pass", "70.0 % of its 80 GiB, limit 90 %; read every 100.0 ms, what rose and fell in"),
        ([at(0.5), at(0.95)], "fail", "95.0 % of its 80 GiB, limit 90 %"),
        ([UNREAD, at(0.95)], "fail", "(phase 2)"),
        ([at(0.7), GAP], "no data", "(phase 1); but phase 2: nobody read gpu0 for 5.00 s"),
        ([at(0.7), UNREAD], "no data", "(phase 1); but phase 2: no memory was read in this trial"),
        ([UNREAD], "no data", "Memory was not measured: phase 1: no memory was read in this trial"),
        ([], "no data", "Memory was not measured: it was not seen"),
    ],
)
def test_over_several_windows(windows: list[Facts], outcome: str, said: str) -> None:
    found = judged([(f"phase {number}", read) for number, read in enumerate(windows, 1)], LIMIT, True)
    assert found.outcome == outcome
    assert said in found.reason


def test_a_window_that_is_missing_never_passes() -> None:
    assert judged([("phase 1", at(0.5))], LIMIT, False).outcome == "no data"
    assert judged([("phase 1", at(0.95))], LIMIT, False).outcome == "fail"


# ---------------------------------------------------------------- find-max-load


def using(world: World, share: Any) -> World:
    """Memory that grows with the load."""
    return lambda rng, ask: {**world(rng, ask), "memory": at(share(ask.level))}


def test_the_highest_load_is_where_its_memory_ends_though_times_would_hold() -> None:
    of_memory = facts(memory=LIMIT)
    server = single_server(400.0, of_memory["objectives"])
    seen, _, answer = find(using(server, lambda level: level / 200), of_memory, 3)
    assert answer.ended == "found"
    assert answer.level is not None
    assert 0.9 * 200 / 1.05**2 < answer.level <= 0.9 * 200
    verdict = judge_operation(seen)
    assert verdict.verdict == "promote"
    assert "and its memory (peak memory of gpu0 was " in verdict.reason
    assert " misses: peak memory of gpu0 was " in verdict.reason
    assert of(verdict).outcome == "pass"
    peaks = next(one for one in shown(seen) if one.title == "Peaks of memory")
    assert len(peaks.rows) == len(seen["trials"])


def test_memory_beyond_its_limit_at_the_low_end_is_a_rollback() -> None:
    of_memory = facts(memory=LIMIT)
    seen, _, answer = find(using(single_server(400.0, of_memory["objectives"]), lambda _: 0.95), of_memory, 3)
    assert answer.ended == "below"
    verdict = judge_operation(seen)
    assert verdict.verdict == "rollback"
    assert verdict.reason.startswith("Even the low end misses: 50/s misses: peak memory of gpu0 was 76 GiB")
    assert of(verdict).outcome == "fail"


@pytest.mark.parametrize("read", [UNREAD, GAP, None])
def test_memory_that_is_not_known_shows_nothing(read: Facts | None) -> None:
    of_memory = facts(memory=LIMIT)
    server = single_server(400.0, of_memory["objectives"])

    def world(rng: np.random.Generator, ask: Ask) -> Facts:
        found = server(rng, ask)
        return found if read is None else {**found, "memory": read}

    seen, _, answer = find(world, of_memory, 3)
    assert answer.ended == "undecided"
    verdict = judge_operation(seen)
    assert verdict.verdict == "inconclusive"
    assert of(verdict).outcome == "no data"


def test_a_server_that_keeps_what_it_took_is_told_apart() -> None:
    of_memory = facts(memory=LIMIT)
    one = single_server(400.0, of_memory["objectives"])(np.random.default_rng(1), Ask(100.0, 5.0, "bisect"))
    kept = judge_trial({**one, "memory": at(0.95, began=0.94 * TOTAL)}, of_memory["objectives"], 0.95, LIMIT)
    assert (kept.outcome, "that was so when the trial began" in kept.reason) == ("misses", True)
    rose = judge_trial({**one, "memory": at(0.95)}, of_memory["objectives"], 0.95, LIMIT)
    assert "when the trial began" not in rose.reason


# ---------------------------------------------------------------- night-batch, ab-test


def night(*reads: Facts) -> Facts:
    seen = night_batch(memory=[{"stage": stage, "when": f"stage {stage + 1}", **r} for stage, r in enumerate(reads)])
    return {**seen, "limits": {**seen["limits"], "memory": LIMIT}}


def test_a_night_that_needs_more_memory_than_it_may() -> None:
    kept = judge_operation(night(*[at(0.5)] * 8))
    assert (kept.verdict, of(kept).outcome) == ("promote", "pass")
    broke = judge_operation(night(*[at(0.5)] * 3, at(0.97), *[at(0.5)] * 4))
    assert broke.verdict == "rollback"
    assert of(broke).reason.endswith("(stage 4)")
    unseen = judge_operation(night(*[at(0.5)] * 7))
    assert (unseen.verdict, of(unseen).outcome) == ("inconclusive", "no data")
    assert all(finding.metric != "memory.peak" for finding in judge_operation(night_batch()).findings)


def test_an_ab_test_beyond_its_limit_names_no_better_arm() -> None:
    users = experiments.Users(b=0.7)

    def verdict(read: Facts | None) -> Verdict:
        return experiments.judged(users, experiments.facts("response_time.p50", limits={"memory": LIMIT}, memory=read))

    assert verdict(at(0.5)).reason.startswith("B better")
    broke = verdict(at(0.97))
    assert broke.verdict == "rollback"
    assert broke.reason.startswith("nothing can be said: Peak memory of gpu0 was 77.6 GiB, 97.0 % of its 80 GiB")
    for read in (UNREAD, GAP, None):
        unknown = verdict(read)
        assert (unknown.verdict, of(unknown).outcome) == ("inconclusive", "no data")
        assert unknown.reason.startswith("not enough: ")
