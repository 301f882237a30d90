"""What an A/B test shows in place of the words of an operation: its answer, its effects in figures, who was dealt out.

Nothing is promoted or rolled back here. What the judge says begins with the answer (`types.ANSWERS`); of every other
operation these functions give the operation's own words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.report import words
from harness.report.fact_table import FactTable
from harness.report.operation_memory import memory_table
from harness.types import NO_DIFFERENCE, Decision, Finding, Verdict, answer_in

Facts = Mapping[str, Any]

COLUMNS = ("metric", "A", "B", "B against A", "interval", "margin", "units of A, B", "answer")
_SENTENCE: dict[Decision, str] = {
    "promote": "The experiment was sound, and every metric has an answer.",
    "rollback": "The experiment itself is broken, so its figures mean nothing.",
    "inconclusive": "It is not known which of the two is better, nor that they are alike.",
}
_HOW = {"hash": "the hash", "header": "the client's header"}


def word(verdict: Verdict, otherwise: str) -> str:
    """The answer, where the verdict is that of an A/B test."""
    return answer_in(verdict.reason) or otherwise


def sentence(verdict: Verdict, otherwise: str) -> str:
    return _SENTENCE[verdict.verdict] if answer_in(verdict.reason) else otherwise


def outcome(finding: Finding) -> str:
    """In a table: what was answered, or the outcome."""
    said = answer_in(finding.reason)
    return "no difference" if said == NO_DIFFERENCE else said or finding.outcome


def because(reason: str) -> str:
    """A reason without the answer that stands beside it."""
    said = answer_in(reason)
    return reason.removeprefix(f"{said}: ") if said else reason


def source(verdict: Verdict) -> str:
    """What all of it follows from."""
    if answer_in(verdict.reason):
        return (
            "Every request is in samples.parquet, with its unit and assignment; the answer follows from that file and "
            "observations.json alone."
        )
    return "All facts are in observations.json; the verdict follows from them alone."


def measured(verdict: Verdict) -> list[Finding]:
    """The effects that have figures."""
    return [one for one in verdict.findings if answer_in(one.reason) and one.effect is not None]


def effects(verdict: Verdict) -> list[tuple[str, ...]]:
    """A row of COLUMNS for each effect; [] where nothing was measured, or it means nothing."""
    return [
        (
            one.metric,
            words.measured(one.metric, one.baseline),
            words.measured(one.metric, one.candidate),
            words.effect(one),
            words.interval(one),
            f"±{words.margin(one).removeprefix('+')}",
            f"{one.n_baseline:,}, {one.n_candidate:,}",
            f"{words.SIGN[one.outcome]} {outcome(one)}",
        )
        for one in measured(verdict)
    ]


def effects_table(verdict: Verdict) -> list[FactTable]:
    rows = effects(verdict)
    return [FactTable("Effects", COLUMNS, rows)] if rows else []


def ab_tables(observations: Facts) -> list[FactTable]:
    """Who the arms are, and who was dealt out to them."""
    arms = observations.get("arms") or {}
    through = observations.get("ingress") or ""
    header = observations.get("header", "")
    shown = [
        (
            name,
            arm["model"],
            str(arm["version"] or "any"),
            f"{through} with {header}: {name}" if through else str(arm["url"]),
            arm["api"],
        )
        for name, arm in arms.items()
    ]
    seen: Sequence[Facts] = observations.get("seen") or []
    dealt = [
        (
            row["arm"],
            _HOW.get(row["assignment"], str(row["assignment"])),
            f"{row['units']:,}",
            f"{row['requests']:,}",
            words.number(row["requests"] / row["units"]) if row["units"] else words.NONE,
            f"{row['failed']:,}",
        )
        for row in seen
    ]
    return [
        FactTable("Arms", ("arm", "model", "version", "called at", "api"), shown),
        FactTable(
            "Units and their requests, warm-up included",
            ("arm", "assigned by", "units", "requests", "requests a unit", "failed"),
            dealt,
        ),
        memory_table([("both arms", observations.get("memory") or {})]),
    ]
