"""report.md, junit.xml, and how the files get into the folder."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from markupsafe import escape

from harness.errors import RecordingError
from harness.judge import Evidence, judge
from harness.recording import Recording
from harness.report import render
from harness.report.junit import junit
from harness.report.markdown import markdown
from harness.report.words import SIGN
from harness.types import Finding, Verdict
from tests.report import factory


def described() -> Recording:
    return dataclasses.replace(factory.nothing(), meta=factory.meta(factory.stage_records(), "fp8"))


def cases(verdict: Verdict) -> tuple[ET.Element, dict[str, str]]:
    """The suite, and by test case the tag that says how it went."""
    root = ET.fromstring(junit(described(), verdict).encode())
    suite = root[0]
    found = {
        f"{case.get('classname')} {case.get('name')}": next((c.tag for c in case if c.tag != "system-out"), "")
        for case in suite
    }
    for tag, count in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        assert suite.get(count) == str(list(found.values()).count(tag))
        assert root.get(count) == (suite.get(count) if tag != "skipped" else None)  # as Jenkins' schema has it
    assert suite.get("tests") == str(len(found)) == str(len(list(suite)))
    return suite, found


def test_a_rollback_is_a_failure_of_its_gate_and_of_the_verdict() -> None:
    suite, found = cases(factory.rollback("quality.kl"))
    assert found == {
        "triton-canary.fp8-canary.stage 1 paired errors (comparison)": "",
        "triton-canary.fp8-canary.stage 1 paired ttft.p50 (comparison)": "",
        "triton-canary.fp8-canary.stage 1 paired tpot.p50 (comparison)": "",
        "triton-canary.fp8-canary.stage 1 paired quality.kl (comparison)": "failure",
        "triton-canary.fp8-canary.verdict verdict": "failure",
    }
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "quality.kl of the candidate is beyond its margin: look at the build."
    assert "margin 0.0600 nats" in (failure.text or "")


def test_what_is_open_is_an_error_never_green() -> None:
    suite, found = cases(factory.inconclusive())
    assert sorted(found.values()) == ["", "error", "error", "error"]
    assert not any("validity" in name for name in found)
    last = suite.findall("testcase/error")[-1]
    assert "31 of 110 pairs lack an arm." in (last.text or "")
    assert "About 140 s more" in (last.text or "")


def test_a_promoted_run_is_green_even_if_a_watch_had_no_data() -> None:
    suite, found = cases(factory.promote())
    assert suite.get("failures") == suite.get("errors") == "0"
    assert list(found.values()).count("skipped") == 4
    assert len(found) == 4 + 4 * 2 + 1


@pytest.mark.parametrize("verdict", [factory.promote, factory.rollback, factory.inconclusive, factory.empty_verdict])
def test_red_exactly_if_not_promoted(verdict: Callable[[], Verdict]) -> None:
    suite, _ = cases(verdict())
    red = int(suite.get("failures", "")) + int(suite.get("errors", "")) > 0
    assert red == (verdict().exit_code != 0)


def test_control_characters_do_not_break_the_xml() -> None:
    bad = factory.finding("tpot.p50", "fail", reason="ends \x00\x1b[31m here ]]> & <now> \ud800")
    stage = dataclasses.replace(factory.rollback().stages[0], findings=(bad,))
    suite, _ = cases(dataclasses.replace(factory.rollback(), reason="\x0b", stages=(stage,)))
    message = suite.find("testcase/failure").get("message")  # type: ignore[union-attr]
    assert message == "ends \ufffd\ufffd[31m here ]]> & <now> \ufffd"


def test_what_decides_is_a_case_and_what_informs_is_not() -> None:
    recording = described()
    recording.meta["gates"] = [{"metric": "ttft", "margin": 0.1}]
    findings = (
        Finding("ttft.p50", "no data", "Nobody answered."),  # asked for, by its short name
        Finding(
            "quality.broken", "fail", "Half of the answers are empty.", unit="pp", margin=0.03
        ),  # a rule of its own
        Finding("osl", "pass", "Answers are as long as before.", effect=1.0),
        Finding("validity.pairs", "pass", "All pairs are whole.", kind="validity", margin=1.1),
    )
    verdict = factory.rollback()
    verdict = dataclasses.replace(verdict, stages=(dataclasses.replace(verdict.stages[0], findings=findings),))
    root = ET.fromstring(junit(recording, verdict))
    names = [case.get("name") for case in root.iter("testcase")]
    assert names == ["ttft.p50 (comparison)", "quality.broken (comparison)", "verdict"]


def test_markdown_has_verdict_reason_and_a_whole_table() -> None:
    text = markdown(described(), factory.rollback())
    assert text.startswith("## ✗ rollback: fp8-canary\n\n**tpot.p50 of the candidate is beyond its margin")
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 4
    assert {line.count("|") for line in table} == {9}
    assert table[2] == "| 1: paired | tpot.p50 | ✗ fail | 48.0 ms | 62.5 ms | +30.2 % | +28.2 to +32.2 % | +10 % |"
    assert len(text) < 4000


def test_markdown_of_an_open_run_says_what_is_missing() -> None:
    recording = described()
    recording.meta["finished"] = False
    text = markdown(recording, factory.inconclusive())
    assert "What it would take: About 140 s more of the paired stage." in text
    assert "This run did not finish." in text
    assert "- 31 of 110 pairs lack an arm." in text
    assert "– no data" in text


def test_markdown_of_nothing() -> None:
    text = markdown(factory.nothing(), factory.empty_verdict())
    assert "inconclusive: recording" in text
    assert "No rule had anything to judge." in text


def test_markdown_cannot_be_broken_out_of() -> None:
    evil = "a | b\n\n# big <img src=x> [x](https://e.example) @team `code` **bold** www.e.example $x$"
    bad = factory.finding("tpot.p50", "fail", reason=evil)
    stage = dataclasses.replace(factory.rollback().stages[0], findings=(bad,))
    text = markdown(described(), dataclasses.replace(factory.rollback(), stages=(stage,)))
    line = next(line for line in text.splitlines() if line.startswith("- a"))
    assert "\\# big" in line
    for part in ("<img", "https://", "@team", " `code`", " **bold**", " | b", " [x]", "www.", " $"):
        assert part not in line, part


def test_render_writes_all_files_and_nothing_else(tmp_path: Path) -> None:
    recording = factory.nothing()
    (tmp_path / "report.html").write_text("old")
    paths = render(recording, factory.empty_verdict(), tmp_path)
    assert [path.name for path in paths] == ["report.html", "report.md", "junit.xml", "metrics.txt"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    first = [path.read_bytes() for path in paths]
    assert first[0].startswith(b"<!doctype html>")
    render(recording, factory.empty_verdict(), tmp_path)
    assert [path.read_bytes() for path in paths] == first


def test_render_into_nowhere_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"report\.html: cannot be written"):
        render(factory.nothing(), factory.empty_verdict(), tmp_path / "absent")


WORLDS: dict[str, dict[str, float]] = {
    "good": {},
    "slow": {"slower": 1.3},
    "erring": {"failing": 0.3},
    "shifted": {"drifts": 1.5},
}


@pytest.mark.parametrize("name", WORLDS)
def test_what_the_judge_really_says_is_in_every_file(name: str, tmp_path: Path) -> None:
    recording = factory.recording(**WORLDS[name])
    verdict = judge(Evidence.of(recording))
    html, text, xml, _ = (path.read_text() for path in render(recording, verdict, tmp_path))
    assert f"{SIGN[verdict.verdict]} {verdict.verdict}: fp8-canary" in text
    assert escape(verdict.reason) in html
    for finding in verdict.findings:
        assert finding.metric in html
        # What only informs stands as a sentence of its own in some places.
        assert escape(finding.reason.removeprefix("for information: ")[1:]) in html
    elements = list(ET.fromstring(xml).iter("testcase"))
    red = [case.get("name") for case in elements if case.find("failure") is not None]
    failed = [found for found in verdict.findings if found.outcome == "fail" and found.kind != "validity"]
    names = [f"{found.metric} ({found.kind})" for found in failed]
    assert red == names + ["verdict"] * (verdict.verdict == "rollback")
