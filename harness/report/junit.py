"""junit.xml: one test case a gate and stage, and one for the verdict.

The suite is red exactly if the verdict is not promote:
  fail                      <failure>
  inconclusive, no data     <error>, because a skipped test looks green and nothing was shown; in a run that
                            was promoted <skipped>: the judge needed no answer in that stage
  the verdict itself        <failure> on rollback, <error> on inconclusive
Checks of the measurement (validity) are no gates; those that did not pass are in the verdict's text.

The time of the run is that of the case `verdict`, so that a reader who adds up the cases has it once. No two cases have
the same name: of two GitLab keeps one, and it could be the green one.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.recording import gates, stage_records
from harness.report import words
from harness.report.about import summary_line, title
from harness.types import Finding, Verdict

if TYPE_CHECKING:
    from harness.recording import Recording

# What JUnit's schema has for a timestamp: UTC is not said in it.
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
# XML 1.0 has no way to write these, not even escaped.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(recording: Recording, verdict: Verdict) -> str:
    """The document as text with an XML declaration."""
    meta = recording.meta
    rules = gates(meta)
    names = {stage.plan.index: words.stage_name(stage.plan) for stage in stage_records(meta)}
    name = clean(title(meta))
    suite = begin(meta)

    def case(place: str, label: str) -> ET.Element:
        return ET.SubElement(suite, "testcase", classname=f"triton-canary.{name}.{place}", name=clean(label))

    def mark(element: ET.Element, tag: str, message: str, text: str, kind: str) -> None:
        ET.SubElement(element, tag, message=clean(message), type=kind).text = clean(text)

    for stage in verdict.stages:
        label = names.get(stage.stage, str(stage.stage + 1))
        for finding in stage.findings:
            if not words.is_gate(finding, rules):
                continue
            element = case(f"stage {label}".replace(": ", " "), f"{finding.metric} ({finding.kind})")
            if finding.outcome == "fail":
                mark(element, "failure", finding.reason, _figures(finding), finding.metric)
            elif finding.outcome != "pass":
                tag = "skipped" if verdict.verdict == "promote" else "error"
                mark(element, tag, finding.reason, _figures(finding), finding.outcome)
            else:
                ET.SubElement(element, "system-out").text = clean(f"{finding.reason}\n{_figures(finding)}")
    element = case("verdict", "verdict")
    text = "\n".join([verdict.reason, *([verdict.needs] if verdict.needs else []), *_broken(verdict)])
    if verdict.verdict == "promote":
        ET.SubElement(element, "system-out").text = clean(text)
    else:
        tag = "failure" if verdict.verdict == "rollback" else "error"
        mark(element, tag, f"{verdict.verdict}: {summary_line(verdict)}", text, verdict.verdict)
    ends = [stage.end_ns for stage in stage_records(meta) if stage.end_ns is not None]
    if ends:
        element.set("time", f"{max(ends) / 1e9:.3f}")
    return document(suite)


def begin(meta: Mapping[str, Any]) -> ET.Element:
    """An empty suite of a run, by its name and when it started."""
    suite = ET.Element("testsuite", name=f"triton-canary {clean(title(meta))}")
    started = _DATE.match(str(meta.get("started_utc", "")))
    if started:
        suite.set("timestamp", started[0])
    return suite


def document(suite: ET.Element) -> str:
    """The whole document around a suite, which is given its counts and its time; cases get names of their own."""
    seen: Counter[tuple[str | None, str | None]] = Counter()
    for case in suite.iter("testcase"):
        name = (case.get("classname"), case.get("name"))
        seen[name] += 1
        if seen[name] > 1:
            case.set("name", f"{name[1]} ({seen[name]})")
    times = [float(time) for time in (case.get("time") for case in suite.iter("testcase")) if time]
    root = ET.Element("testsuites", name="triton-canary")
    root.append(suite)
    tags = {"tests": "testcase", "failures": "failure", "errors": "error", "skipped": "skipped"}
    for key, tag in tags.items():
        count = str(sum(1 for _ in suite.iter(tag)))
        suite.set(key, count)
        if key != "skipped":  # Jenkins' schema has no such attribute there
            root.set(key, count)
    if times:
        root.set("time", f"{sum(times):.3f}")
        suite.set("time", f"{sum(times):.3f}")
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _figures(finding: Finding) -> str:
    rows = (
        ("baseline", words.measured(finding.metric, finding.baseline)),
        ("candidate", words.measured(finding.metric, finding.candidate)),
        ("effect", words.effect(finding)),
        ("interval", words.interval(finding)),
        ("margin", words.margin(finding)),
    )
    return "; ".join(f"{key} {text}" for key, text in rows if text != words.NONE)


def _broken(verdict: Verdict) -> list[str]:
    return [
        f"{finding.metric}: {finding.reason}"
        for finding in verdict.findings
        if finding.kind == "validity" and finding.outcome != "pass"
    ]


def clean(text: str) -> str:
    """`text` without what XML cannot hold."""
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)
