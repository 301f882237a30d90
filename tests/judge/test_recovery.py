"""Whether an arm served again after failures that may have ended it."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from harness.judge import Evidence, evidence_of, judge, judge_stage
from harness.judge.errors.recovery import RECOVERED, RECOVERED_AFTER, RECOVERED_LIVE, RECOVERED_READY
from harness.recording.schema import READINGS
from harness.types import Finding, Gate, Reading, StageRecord, StageVerdict
from tests.judge.sketched.worlds import World, counted
from tests.judge.worlds import VERSIONS, S, plan, sample, table

GATES = [Gate("errors", 0.03, "absolute")]
BOTH = ("baseline", "candidate")
PAIRS, SECONDS = 400, 200.0


def found(arm: str, at_s: float, live: int, ready: int, answered: int, after_s: float) -> list[Reading]:
    known = {RECOVERED_LIVE: live, RECOVERED_READY: ready, RECOVERED: answered}
    t_ns = round(at_s * S)
    rows = [Reading(t_ns, "server", arm, metric, float(value), "1") for metric, value in known.items()]
    return [*rows, Reading(t_ns, "server", arm, RECOVERED_AFTER, after_s, "s")]


def evidence(
    errors: dict[str, list[str]], readings: list[Reading], *, asked: tuple[str, ...] = BOTH, purpose: str = "compare",
    end_s: float | None = SECONDS + 1, more: tuple[StageRecord, ...] = (),
) -> Evidence:  # fmt: skip
    """400 pairs in 200 s, of which each arm's last ones failed with those errors."""
    rows = []
    for arm in BOTH:
        failed = errors.get(arm, [])
        for i in range(PAIRS):
            at = i - (PAIRS - len(failed))
            status = {} if at < 0 else {"status": "oom" if "memory" in failed[at] else "error", "error": failed[at]}
            rows.append(sample(arm, i, i * SECONDS / PAIRS, 0.1 + 0.01 * (i % 7), **status))
    record = StageRecord(plan(0, "paired", SECONDS, rate=2.0, purpose=purpose), 0, end_s and round(end_s * S))
    return Evidence.from_tables(
        table(rows), stages=[record, *more], gates=GATES, versions=VERSIONS, asked=asked,
        readings=table(readings, READINGS),
    )  # fmt: skip


def recovery(verdict: StageVerdict) -> dict[str, Finding]:
    return {f.metric: f for f in verdict.findings if f.metric.startswith("recovery")}


def test_without_such_a_failure_nothing_is_said() -> None:
    assert recovery(judge_stage(evidence({}, []), 0)) == {}
    assert recovery(judge_stage(evidence({"candidate": ["deadline", "internal"]}, []), 0)) == {}


def test_a_version_that_served_again_is_told_for_information() -> None:
    seen = evidence({"candidate": ["out of memory"] * 2}, found("candidate", 201, 1, 1, 1, 0.3))
    verdict = judge_stage(seen, 0)
    assert verdict.verdict == "promote", verdict.reason
    (finding,) = recovery(verdict).values()
    assert (finding.metric, finding.outcome, finding.effect) == ("recovery", "pass", 0.3)
    assert finding.reason == (
        "for information: v2 served again: it answered 300.0 ms after it was first asked "
        "(2 requests failed with out of memory before)"
    )


@pytest.mark.parametrize(
    ("steps", "how"),
    [
        ((1, 1, 0), "v2 was READY and did not answer, however often it was asked for"),
        ((1, 0, 0), "v2 was not READY any more"),
        ((0, 0, 0), "v2 did not serve any more: its server did not answer"),
    ],
)
def test_a_candidate_that_did_not_come_back_is_rolled_back_though_its_errors_are_few(
    steps: tuple[int, int, int], how: str
) -> None:
    errors = {"candidate": ["stub died"]}
    assert judge_stage(evidence(errors, found("candidate", 201, 1, 1, 1, 0.1)), 0).verdict == "promote"
    seen = evidence(errors, found("candidate", 201, *steps, 10.5))
    verdict = judge_stage(seen, 0)
    assert verdict.verdict == "rollback"
    assert verdict.reason.startswith(how)
    assert "1 request failed with stub died before" in verdict.reason
    assert judge(seen).verdict == "rollback"


def test_a_baseline_that_did_not_come_back_promotes_nobody() -> None:
    verdict = judge_stage(evidence({"baseline": ["out of memory"]}, found("baseline", 201, 1, 1, 0, 10)), 0)
    assert verdict.verdict == "inconclusive"
    assert recovery(verdict)["recovery.baseline"].outcome == "inconclusive"


def test_where_neither_came_back_nobody_knows_whose_doing_that_is() -> None:
    errors = {arm: ["connection broken"] for arm in BOTH}
    readings = [*found("candidate", 201, 0, 0, 0, 10), *found("baseline", 201, 0, 0, 0, 10)]
    verdict = judge_stage(evidence(errors, readings), 0)
    assert verdict.verdict == "inconclusive"
    assert {f.outcome for f in recovery(verdict).values()} == {"inconclusive"}
    assert "nor did v1" in recovery(verdict)["recovery"].reason


def test_what_should_have_been_asked_and_was_not_never_promotes() -> None:
    errors = {"candidate": ["out of memory"]}
    verdict = judge_stage(evidence(errors, []), 0)
    assert (verdict.verdict, recovery(verdict)["recovery"].outcome) == ("inconclusive", "no data")
    # Nobody was to ask: a front end without control, or a recording of another tool.
    assert judge_stage(evidence(errors, [], asked=()), 0).verdict == "promote"
    assert judge_stage(evidence(errors, [], asked=("baseline",)), 0).verdict == "promote"


def test_the_answer_belongs_to_its_own_stage_and_the_last_one_counts() -> None:
    errors = {"candidate": ["out of memory"]}
    later = StageRecord(plan(1, "split", 60.0, 0.5, rate=2.0), 205 * S, None)
    after = evidence(errors, found("candidate", 206, 1, 1, 0, 10), more=(later,))
    assert recovery(judge_stage(after, 0))["recovery"].outcome == "no data"
    twice = [*found("candidate", 203, 1, 1, 1, 0.2), *found("candidate", 201, 1, 1, 0, 10)]
    assert recovery(judge_stage(evidence(errors, twice, more=(later,)), 0))["recovery"].outcome == "pass"


def test_a_stage_under_way_and_looks_are_not_held_up_by_it() -> None:
    errors = {"candidate": ["out of memory"]}
    assert recovery(judge_stage(evidence(errors, [], end_s=None), 0, now_ns=200 * S)) == {}
    assert recovery(judge_stage(evidence(errors, [], end_s=None), 0)) == {}
    seen = evidence(errors, found("candidate", 201, 1, 1, 0, 10))
    assert recovery(judge_stage(seen, 0, now_ns=100 * S)) == {}


@pytest.mark.parametrize("purpose", ["warm-up", "alone", "deploy"])
def test_stages_after_which_nobody_asks(purpose: str) -> None:
    assert recovery(judge_stage(evidence({"candidate": ["out of memory"]}, [], purpose=purpose), 0)) == {}


def test_readings_of_other_things_tell_nothing() -> None:
    readings = [Reading(201 * S, "triton", "candidate", "requests.stray", 1.0, "1")]
    readings += [Reading(201 * S, "server", "stable", RECOVERED, 0.0, "1")]
    verdict = judge_stage(evidence({"candidate": ["stub died"]}, readings), 0)
    assert recovery(verdict)["recovery"].outcome == "no data"
    no_table = evidence({"candidate": ["stub died"]}, [])
    assert isinstance(no_table.readings, pa.Table)


@pytest.mark.parametrize(
    ("answered", "decision", "outcome"),
    [(1, "promote", "pass"), (0, "rollback", "fail"), (None, "inconclusive", "no data")],
)
def test_of_a_large_run_of_which_only_counts_are_known_it_is_told_as_well(
    answered: int | None, decision: str, outcome: str
) -> None:
    """By run.json and the readings; None: it was to be asked, and there is no answer."""
    world = World(seconds=75, gates=(Gate("errors", margin=0.02, margin_kind="absolute"),))
    samples = world.samples()
    died = pc.if_else(pc.equal(samples["error"], ""), "", "stub died")
    samples = samples.set_column(samples.schema.get_field_index("error"), "error", died)
    readings = table([] if answered is None else found("candidate", 78, 1, 1, answered, 0.4), READINGS)
    meta = {**world.meta(), "recovery": ["candidate"]}
    whole = replace(world.recording(), meta=meta, samples=samples, readings=readings)
    verdicts = [judge(seen) for seen in (Evidence.of(whole), evidence_of(world.as_sketches(whole)), counted(whole))]
    for verdict in verdicts:
        (finding,) = [f for f in verdict.findings if f.metric == "recovery"]
        assert (verdict.verdict, finding.outcome) == (decision, outcome), verdict.reason
    assert len({next(f.reason for f in v.findings if f.metric == "recovery") for v in verdicts}) == 1
