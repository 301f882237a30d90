"""Classes of failures that tell the arms apart."""

from __future__ import annotations

from harness.judge import Evidence, judge_stage
from harness.types import Finding, StageRecord
from tests.judge.worlds import S, plan, sample, table


def findings(failures: dict[str, dict[str, int]], n: int = 400) -> dict[str, Finding]:
    """Of a stage with `n` pairs, in which so many requests of an arm failed with that class, spread over it."""
    rows = []
    for arm in ("baseline", "candidate"):
        classes = [name for name, count in failures.get(arm, {}).items() for _ in range(count)]
        step = n / max(len(classes), 1)
        at = {round((i + 0.5) * step): name for i, name in enumerate(classes)}
        for i in range(n):
            more = {"status": "error", "error": at[i]} if i in at else {}
            rows.append(sample(arm, i, i * 0.5, 0.1 + 0.01 * (i % 7), **more))
    record = StageRecord(plan(0, "paired", n * 0.5, rate=2.0), 0, end_ns=round(n * 0.5 * S) + S)
    verdict = judge_stage(Evidence.from_tables(table(rows), stages=[record]), 0)
    return {f.metric: f for f in verdict.findings if f.metric.startswith("errors.")}


def test_what_v2_alone_fails_with_is_told_and_decides_nothing() -> None:
    found = findings({"baseline": {"timeout": 40}, "candidate": {"timeout": 4, "oom": 14}})
    assert set(found) == {"errors.oom", "errors.timeout"}
    assert (
        "14 requests to the candidate failed with oom, none to the baseline: more than chance"
        in found["errors.oom"].reason
    )
    assert "40 requests to the baseline failed with timeout" in found["errors.timeout"].reason
    assert {f.outcome for f in found.values()} == {"pass"}


def test_a_first_failure_is_told_as_what_it_is() -> None:
    found = findings({"candidate": {"oom": 2}})
    assert "2 requests to the candidate failed with oom, none to the baseline: too few" in found["errors.oom"].reason


def test_what_both_fail_with_about_as_often_is_not_told() -> None:
    assert findings({"baseline": {"timeout": 9}, "candidate": {"timeout": 12}}) == {}


def test_many_classes_are_not_all_told() -> None:
    found = findings({"candidate": {f"class {i}": 3 for i in range(9)}})
    assert len(found) == 5
