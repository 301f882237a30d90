"""What GitHub shows: annotations that say what decided, and a summary that it takes."""

from __future__ import annotations

import dataclasses
import re

import pytest

from harness.report.annotations import MOST, SUMMARY_BYTES, fit, workflow_commands
from harness.types import Finding, StageVerdict, Verdict
from tests.report import factory


def shown(line: str) -> tuple[str, str, str]:
    """Level, title and message as GitHub's runner reads a line."""
    match = re.fullmatch(r"::(error|warning|notice) title=([^:,]*)::(.*)", line)
    assert match, line
    texts = []
    for text in match.groups():
        for sign, code in ((":", "%3A"), (",", "%2C"), ("\n", "%0A"), ("\r", "%0D"), ("%", "%25")):
            text = text.replace(code, sign)
        texts.append(text)
    return texts[0], texts[1], texts[2]


def annotations(verdict: Verdict) -> list[tuple[str, str, str]]:
    return [shown(line) for line in workflow_commands("fp8-canary", verdict.verdict, verdict)]


def test_a_rollback_is_an_error_and_so_is_what_failed() -> None:
    assert annotations(factory.rollback("tpot.p50")) == [
        ("error", "fp8-canary: rollback", "tpot.p50 of the candidate is beyond its margin: look at the build."),
        ("error", "tpot.p50: fail", "tpot.p50 of the candidate is beyond its margin: look at the build."),
    ]


def test_what_is_open_warns_and_says_what_it_would_take() -> None:
    found = annotations(factory.inconclusive())
    assert {level for level, _, _ in found} == {"warning"}
    assert found[0][1:] == (
        "fp8-canary: inconclusive",
        "tpot.p50 could be either side of its margin. What it would take: About 140 s more of the paired stage.",
    )
    assert [title for _, title, _ in found[1:]] == [
        "validity.pairs: fail",
        "tpot.p50: inconclusive",
        "quality.kl: no data",
    ]


def test_a_promoted_run_has_one_notice() -> None:
    """Also where a watch had no data, or something that was no gate stayed open."""
    verdict = factory.promote()
    open_ = factory.finding("tpot.p50", "inconclusive", kind="watch", stage=1)
    stage = dataclasses.replace(verdict.stages[1], findings=(*verdict.stages[1].findings, open_))
    verdict = dataclasses.replace(verdict, stages=(verdict.stages[0], stage))
    assert annotations(verdict) == [("notice", "fp8-canary: promote", "Every gate holds in all 5 stages.")]


def test_an_unsound_measurement_is_no_error_of_the_candidate() -> None:
    broken = Finding("validity.load", "fail", "The generator was late.", kind="validity")
    verdict = dataclasses.replace(
        factory.rollback(), stages=(StageVerdict(0, "rollback", "x", (*factory.rollback().findings, broken)),)
    )
    assert ("warning", "validity.load: fail", "The generator was late.") in annotations(verdict)


def test_there_are_no_more_than_github_shows_and_the_last_says_so() -> None:
    findings = tuple(factory.finding(f"steps.s{n}", "fail") for n in range(25))
    findings += tuple(factory.finding(f"quality.q{n}", "inconclusive") for n in range(MOST))
    found = annotations(Verdict("rollback", "many", (StageVerdict(0, "rollback", "many", findings),)))
    errors = [entry for entry in found if entry[0] == "error"]
    assert len(errors) == len(found) - len(errors) == MOST
    assert errors[-1][2] == "17 more are in the report"
    assert len(errors) - 1 + 17 == 1 + 25
    assert found[-1] == ("warning", "quality.q9: inconclusive", "quality.q9 of the candidate could be either.")


@pytest.mark.parametrize("evil", ["a\n::stop-commands::x", "100%, :: %0A::error::x", "a\r\nb\x1b[31m", "a: b, c"])
def test_no_text_is_a_command_of_its_own(evil: str) -> None:
    bad = factory.finding("tpot.p50", "fail", reason=evil)
    verdict = dataclasses.replace(factory.rollback(), stages=(StageVerdict(0, "rollback", "x", (bad,)),))
    lines = workflow_commands(evil, "rollback", verdict)
    assert all(len(line.splitlines()) == 1 for line in lines)
    plain = " ".join(evil.split()).replace("\x1b", "\N{REPLACEMENT CHARACTER}")
    assert shown(lines[0])[1] == f"{plain}: rollback"
    assert shown(lines[1])[2] == plain


def test_a_summary_that_fits_is_whole() -> None:
    assert fit("## ✓\n", 0) == "## ✓\n"
    text = "é" * (SUMMARY_BYTES // 2)
    assert fit(text, 0) == text
    assert fit("", SUMMARY_BYTES + 5) == ""


@pytest.mark.parametrize("taken", [0, 1000, SUMMARY_BYTES - 400])
def test_a_summary_that_does_not_fit_is_cut_at_a_line_and_says_so(taken: int) -> None:
    text = "".join(f"| row {n} | é |\n" for n in range(100_000))
    cut = fit(text, taken)
    assert SUMMARY_BYTES - 30 < taken + len(cut.encode()) <= SUMMARY_BYTES
    kept, mark, rest = cut.partition("\n\n**Cut here")
    assert mark
    assert "report.md" in rest
    assert text.startswith(kept + "\n")
    assert kept.endswith("|")


def test_a_summary_without_room_stays_away() -> None:
    assert fit("x" * 500, SUMMARY_BYTES - 20) == ""
