"""Looks that are made again: each sees what was done by then, and the first that decides ends its stage."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from harness.judge import Evidence, judge, judge_stage, looks, replay
from harness.report import looks_table
from harness.types import Decision, Look, StageRecord, StageVerdict
from tests.judge.test_second_opinion import world
from tests.judge.worlds import GATES, Llm, S, sample, table


def slow(seed: int = 3) -> Evidence:
    return world(seed, ratio=1.4)


def decided(made: tuple[Look, ...]) -> list[Look]:
    return [look for look in made if look.decides]


def test_a_clear_difference_is_decided_before_the_end() -> None:
    found = replay(slow(), 10 * S)
    (last,) = decided(found.looks)
    assert found.verdict.verdict == "rollback"
    assert 10 <= last.after_s < 300
    assert last is found.looks[-1]
    assert found.verdict.reason.endswith(f"; decided after {last.after_s:g} s of 300 s")
    assert [look.after_s for look in found.looks] == [10.0 * (n + 1) for n in range(len(found.looks))]


def test_each_look_is_what_the_judge_said_at_that_moment() -> None:
    evidence = slow()
    found = replay(evidence, 20 * S)
    for look in found.looks:
        now_ns = round(look.after_s * S)
        assert look.verdict == judge_stage(evidence, 0, now_ns=now_ns)
        assert look.verdict == judge_stage(evidence.upto(now_ns), 0, now_ns=now_ns)  # nothing that came later counts
    assert all(look.verdict.verdict == "inconclusive" for look in found.looks[:-1])


def test_undecided_looks_change_nothing() -> None:
    evidence = world(2)
    found = replay(evidence, 60 * S)
    assert found.verdict == judge(evidence)
    assert [look.after_s for look in found.looks] == [60, 120, 180, 240, 300]
    assert [look.end for look in found.looks] == [False] * 4 + [True]
    assert decided(found.looks) == []


def test_no_look_just_before_the_end() -> None:
    evidence = world(2)
    stage = replace(evidence.stages[0], plan=replace(evidence.stages[0].plan, duration_s=300.4), end_ns=300_400_000_000)
    made = replay(replace(evidence, stages=(stage,)), 100 * S).looks
    assert [look.after_s for look in made] == [100, 200, 300.4]


def test_a_step_longer_than_the_stage_is_one_look_at_the_end() -> None:
    evidence = slow()
    found = replay(evidence, 3600 * S)
    assert found.verdict == judge(evidence)
    assert len(found.looks) == 1


def test_stages_after_a_rollback_are_not_judged() -> None:
    run = Llm(seed=1, tpot_ratio=1.6).paired(120).split(0.5, 30).split(1.0, 20)
    evidence = run.evidence()
    assert [stage.stage for stage in judge(evidence).stages] == [0, 1, 2]
    found = replay(evidence, 10 * S)
    assert found.verdict.verdict == "rollback"
    assert [stage.stage for stage in found.verdict.stages] == [0]
    assert [record.plan.index for record in found.evidence.stages] == [0]


def test_several_stages_are_named() -> None:
    run = Llm(seed=1).paired(90)
    run.tpot_ratio = 1.5
    found = replay(run.split(1.0, 60).evidence(), 10 * S)
    (last,) = decided(found.looks)
    assert last.verdict.stage == 1
    assert found.verdict.reason.endswith(f"; decided after {last.after_s:g} s of stage 2's 60 s")
    # The looks of a stage count from its begin, not from the run's.
    assert next(look.after_s for look in found.looks if look.verdict.stage == 1) == 10


def test_a_live_decision_stands() -> None:
    evidence = slow()
    begun = evidence.stages[0]
    live = replace(evidence, stages=(replace(begun, end_ns=123 * S, decided_ns=123 * S),))
    found = replay(live, 10 * S)
    (look,) = found.looks
    assert look.live
    assert look.decides
    assert look.after_s == 123
    assert look.verdict == judge(live).stages[0]
    assert found.verdict.reason == judge(live).reason + "; decided after 123 s of 300 s"


def test_a_stage_that_was_cut_short_is_looked_at_as_far_as_it_came() -> None:
    evidence = world(2)
    cut = replace(evidence.upto(95 * S), stages=(replace(evidence.stages[0], end_ns=None),), finished=False)
    found = replay(cut, 30 * S)
    assert [look.after_s for look in found.looks] == pytest.approx([30, 60, 90, 95], abs=0.5)
    assert found.verdict == judge(cut)
    assert found.verdict.verdict == "inconclusive"


def test_a_run_that_recorded_nothing() -> None:
    nothing = Evidence.from_tables(
        table([]), stages=[StageRecord(world(2).stages[0].plan, 0)], gates=GATES, finished=False
    )
    found = replay(nothing, 30 * S)
    assert [look.end for look in found.looks] == [True]
    assert found.verdict == judge(nothing)
    assert replay(replace(nothing, stages=()), 30 * S).verdict.reason == "No stage was run"


def says(decisions: dict[tuple[int, int], Decision], seen: dict[tuple[int, int], int]) -> Callable[..., StageVerdict]:
    """A judge that decides at (stage, seconds) and else does not know; -1 s is the end. Notes how much it was given."""

    def judge_stage(evidence: Evidence, index: int, *, now_ns: int | None = None) -> StageVerdict:
        at = (index, -1 if now_ns is None else now_ns // S)
        seen[at] = len(evidence.samples)
        return StageVerdict(index, decisions.get(at, "inconclusive"), f"stage {index} at {at[1]}", ())

    return judge_stage


def test_a_look_may_let_a_stage_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the stage recorded after that is hidden from the next one: a live run would not have sent it."""
    run = Llm(seed=1).paired(60).paired(60)
    evidence = run.evidence()
    begin = evidence.stages[1].begin_ns // S
    seen: dict[tuple[int, int], int] = {}
    decisions: dict[tuple[int, int], Decision] = {(0, 20): "promote", (1, -1): "promote"}
    monkeypatch.setattr(looks, "judge_stage", says(decisions, seen))
    found = replay(evidence, 10 * S)
    assert [(look.verdict.stage, look.decides, look.end) for look in found.looks[:3]] == [
        (0, False, False), (0, True, False), (1, False, False),
    ]  # fmt: skip
    assert found.verdict.stages[0].reason == "stage 0 at 20"
    assert [stage.verdict for stage in found.verdict.stages] == ["promote", "promote"]
    assert found.verdict.reason.endswith("; decided after 20 s of stage 1's 60 s")
    late = int(((evidence.samples.stage == 0) & (evidence.samples.done_ns > 20 * S)).sum())
    assert late > 0
    assert seen[0, 20] - seen[1, begin + 10] == late
    assert found.evidence.stages[0].decided_ns == 20 * S


def test_an_early_rollback_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[tuple[int, int], int] = {}
    monkeypatch.setattr(looks, "judge_stage", says({(0, -1): "rollback"}, seen))
    found = replay(Llm(seed=1).paired(60).paired(60).evidence(), 25 * S)
    assert list(seen) == [(0, 25), (0, 50), (0, -1)]
    assert found.verdict.verdict == "rollback"
    assert found.verdict.reason == "stage 0 at -1"  # at its end: nothing came early


# ---------------------------------------------------------------- in the terminal


def drawn(made: tuple[Look, ...], width: int = 100) -> list[str]:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(looks_table(made))
    return console.file.getvalue().split("\n")  # type: ignore[attr-defined]


def test_the_trail_is_short_and_ends_with_the_decision() -> None:
    made = replay(slow(), 5 * S).looks
    rows = drawn(made)
    assert len(rows) < 16
    assert rows[0].startswith(f"{len(made)} looks")
    last = [row for row in rows if row.strip()][-1]
    assert last.split()[:4] == [f"{made[-1].after_s:g}", "s", "✗", "rollback"]
    assert "✗ response_time.p50" in last
    assert "+10 %" in last


def test_the_trail_names_stages_and_what_was_decided_live() -> None:
    rows = drawn(replay(Llm(seed=1).paired(60).split(0.5, 30).evidence(), 10 * S).looks)
    assert any(row.split()[:1] == ["stage"] for row in rows)
    assert sum(", end" in row for row in rows) == 2
    evidence = slow()
    live = replace(evidence, stages=(replace(evidence.stages[0], end_ns=123 * S, decided_ns=123 * S),))
    assert any("rollback, live" in row for row in drawn(replay(live, 10 * S).looks))


def test_a_trail_without_any_finding() -> None:
    look = Look(10.0, 60.0, StageVerdict(0, "inconclusive", "No gate was judged", ()))
    assert "10 s" in "".join(drawn((look,)))


def test_samples_of_one_request_are_enough_to_look_at() -> None:
    rows = [sample("baseline", 0, 1.0, 0.1), sample("candidate", 0, 1.0, 0.1)]
    evidence = Evidence.from_tables(table(rows), gates=GATES[:1])
    assert replay(evidence, S).verdict.verdict == "inconclusive"
