"""An operation's report: HTML, Markdown and JUnit from its verdict and observations, and from nothing else.

In verdict.json an operation has a canary's words, so that machines know them; for people promote is "done", rollback
"failed".
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.recording import atomic_write
from harness.report import facts, words
from harness.report.about import title
from harness.report.junit import clean, document
from harness.report.markdown import escape
from harness.report.operation_tables import tables
from harness.report.terminal import COLOR, outcome_text
from harness.types import Decision, Finding, Verdict

WORD: dict[Decision, str] = {"promote": "done", "rollback": "failed", "inconclusive": "inconclusive"}
SENTENCE: dict[Decision, str] = {
    "promote": "All of it was done, and seen to be done.",
    "rollback": "Something is proven to be wrong.",
    "inconclusive": "It is not known whether all of it was done.",
}


def render_operation(
    meta: Mapping[str, Any], observations: Mapping[str, Any], verdict: Verdict, folder: Path
) -> tuple[Path, ...]:
    """Write report.html, report.md and junit.xml; each whole or not at all. Raises RecordingError."""
    contents = {
        "report.html": _page(meta, observations, verdict),
        "report.md": _markdown(meta, observations, verdict),
        "junit.xml": _junit(meta, verdict),
    }
    for name, text in contents.items():
        atomic_write(folder / name, text.encode())
    return tuple(folder / name for name in contents)


def operation_summary(verdict: Verdict, meta: Mapping[str, Any], folder: Path | None) -> RenderableType:
    """What the terminal shows at the end."""
    head = Text(f"{words.SIGN[verdict.verdict]} {WORD[verdict.verdict]}", style=f"bold {COLOR[verdict.verdict]}")
    head.append(f"  {words.one_line(title(meta))}", style="bold not dim default")
    parts: list[RenderableType] = [Text(), head, Text(words.one_line(verdict.reason))]
    if verdict.needs:
        parts.append(Text(f"What it would take: {words.one_line(verdict.needs)}"))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("outcome", "finding"):
        table.add_column(name, no_wrap=True)
    table.add_column("because")
    for finding in _ordered(verdict):
        table.add_row(outcome_text(finding.outcome), Text(finding.metric), Text(words.one_line(finding.reason)))
    if verdict.findings:
        parts += [Text(), table, Text()]
    if folder is not None:
        parts.append(Text(f"report: {folder / 'report.html'}", overflow="fold"))
    return Group(*parts)


def _ordered(verdict: Verdict) -> list[Finding]:
    """What failed, what is open, what passed; each in the order in which it was judged."""
    return sorted(
        verdict.findings, key=lambda finding: ("fail", "inconclusive", "no data", "pass").index(finding.outcome)
    )


def _page(meta: Mapping[str, Any], observations: Mapping[str, Any], verdict: Verdict) -> str:
    environment = Environment(
        loader=PackageLoader("harness.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: words.visible(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("operation.html.j2")
    scenario = meta.get("scenario")
    return template.render(
        words=words, verdict=verdict, word=WORD, sentence=SENTENCE[verdict.verdict], title=title(meta),
        description=scenario.get("description", "") if isinstance(scenario, Mapping) else "",
        started=str(meta.get("started_utc", "")), finished=bool(observations.get("finished")),
        findings=_ordered(verdict), tables=tables(observations),
        facts=[
            (heading, facts.flat(meta.get(key, {})))
            for heading, key in (("Scenario", "scenario"), ("Versions", "software"), ("Host", "host"))
        ],
    ) + "\n"  # fmt: skip


def _markdown(meta: Mapping[str, Any], observations: Mapping[str, Any], verdict: Verdict) -> str:
    lines = [f"## {words.SIGN[verdict.verdict]} {WORD[verdict.verdict]}: {escape(title(meta))}", ""]
    lines += [f"**{escape(verdict.reason)}**", ""]
    if verdict.needs:
        lines += [f"What it would take: {escape(verdict.needs)}", ""]
    lines += ["| finding | outcome | because |", "|---|---|---|"]
    for finding in _ordered(verdict):
        cells = [finding.metric, f"{words.SIGN[finding.outcome]} {finding.outcome}", finding.reason]
        lines.append("| " + " | ".join(map(escape, cells)) + " |")
    for table in tables(observations):
        lines += ["", f"### {escape(table.title)}", ""]
        lines += ["| " + " | ".join(table.columns) + " |", "|---" * len(table.columns) + "|"]
        lines += ["| " + " | ".join(map(escape, row)) + " |" for row in table.rows]
    return "\n".join(lines) + "\n"


def _junit(meta: Mapping[str, Any], verdict: Verdict) -> str:
    """One test case a finding, and one for the verdict; what is not known is an error, because a skip looks green."""
    name = clean(title(meta))
    suite = ET.Element("testsuite", name=f"triton-canary {name}")

    def case(label: str, outcome: str, message: str) -> None:
        element = ET.SubElement(suite, "testcase", classname=f"triton-canary.{name}", name=clean(label))
        tag = {"pass": "", "promote": "", "fail": "failure", "rollback": "failure"}.get(outcome, "error")
        if tag:
            ET.SubElement(element, tag, message=clean(message), type=outcome)
        else:
            ET.SubElement(element, "system-out").text = clean(message)

    for finding in verdict.findings:
        case(finding.metric, finding.outcome, finding.reason)
    case("verdict", verdict.verdict, verdict.reason)
    return document(suite)
