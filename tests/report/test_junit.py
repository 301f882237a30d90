"""junit.xml as others read it: junitparser, and what GitLab and Jenkins make of names, times and counts."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import junitparser
import pytest

from harness.judge import judge_operation
from harness.report import render_operation
from harness.report.junit import junit
from harness.types import Finding, StageVerdict, Verdict
from tests.judge.operations import GOOD
from tests.report import factory

# The elements and attributes of Jenkins' schema (junit-10.xsd), as far as they are used here.
ATTRIBUTES = {
    "testsuites": {"name", "time", "tests", "failures", "errors"},
    "testsuite": {"name", "tests", "failures", "errors", "time", "skipped", "timestamp", "hostname", "id", "package"},
    "testcase": {"name", "time", "classname", "status", "class", "file", "line"},
    "failure": {"type", "message"},
    "error": {"type", "message"},
    "skipped": {"type", "message"},
    "system-out": set(),
}
CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"properties", "testcase", "system-out", "system-err"},
    "testcase": {"skipped", "error", "failure", "system-out", "system-err"},
}
VERDICTS = [factory.promote, factory.rollback, factory.inconclusive, factory.empty_verdict]


def document(verdict: Verdict) -> str:
    meta = factory.meta(factory.stage_records(), "fp8")
    return junit(dataclasses.replace(factory.nothing(), meta=meta), verdict)


def keeps_to_the_schema(text: str) -> None:
    root = ET.fromstring(text.encode())
    assert root.tag == "testsuites"
    for element in root.iter():
        assert set(element.keys()) <= ATTRIBUTES[element.tag], element.tag
        assert {child.tag for child in element} <= CHILDREN.get(element.tag, set()), element.tag
    for case in root.iter("testcase"):
        assert len([child for child in case if child.tag != "system-out"]) <= 1
        assert case.get("name")


@pytest.mark.parametrize("verdict", VERDICTS, ids=lambda v: v.__name__)
def test_it_keeps_to_jenkins_schema(verdict: Callable[[], Verdict]) -> None:
    keeps_to_the_schema(document(verdict()))


@pytest.mark.parametrize("verdict", VERDICTS, ids=lambda v: v.__name__)
def test_junitparser_counts_what_is_there(verdict: Callable[[], Verdict]) -> None:
    parsed = junitparser.JUnitXml.fromstring(document(verdict()).encode())
    (suite,) = list(parsed)
    said = (suite.tests, suite.failures, suite.errors, suite.skipped)
    cases = list(suite)
    suite.update_statistics()
    assert said == (suite.tests, suite.failures, suite.errors, suite.skipped)
    assert len(cases) == said[0] > 0
    red = any(case.is_failure or case.is_error for case in cases)
    assert red == (verdict().exit_code != 0)
    assert cases[-1].is_passed == (verdict().verdict == "promote")


def test_the_run_s_time_counts_once() -> None:
    parsed = junitparser.JUnitXml.fromstring(document(factory.promote()).encode())
    (suite,) = list(parsed)
    last = max(stage.end_ns or 0 for stage in factory.stage_records()) / 1e9
    assert suite.time == pytest.approx(last)
    assert sum(case.time or 0 for case in suite) == pytest.approx(last)
    assert datetime.fromisoformat(suite.timestamp).isoformat() == suite.timestamp


def test_two_findings_of_one_name_are_two_cases() -> None:
    """GitLab keeps one case of a name: the failure must not be lost behind what passed."""
    twice = (
        Finding("quality.x", "fail", "bad", unit="pp", margin=0.1),
        Finding("quality.x", "pass", "good", unit="pp", margin=0.1),
    )
    root = ET.fromstring(document(Verdict("rollback", "bad", (StageVerdict(0, "rollback", "bad", twice),))))
    names = [(case.get("classname"), case.get("name")) for case in root.iter("testcase")]
    assert len(set(names)) == len(names) == 3


@pytest.mark.parametrize("kind", GOOD)
def test_operations_keep_to_it_too(tmp_path: Path, kind: str) -> None:
    facts = GOOD[kind]()
    meta = {"scenario": {"name": "an-operation"}, "started_utc": "2026-01-01T00:00:00+00:00"}
    paths = {path.name: path for path in render_operation(meta, facts, judge_operation(facts), tmp_path)}
    text = paths["junit.xml"].read_text()
    keeps_to_the_schema(text)
    (suite,) = list(junitparser.JUnitXml.fromstring(text.encode()))
    assert suite.timestamp == "2026-01-01T00:00:00"
    assert suite.failures == suite.errors == 0
