"""An operation's report: HTML, Markdown and JUnit from its verdict and observations, and from nothing else.

In verdict.json an operation has a canary's words, so that machines know them; for people promote is "done", rollback
"failed", and an A/B test says its answer.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.files import atomic_write
from harness.report import facts, frame, operation_ab, words
from harness.report.about import title
from harness.report.junit import begin, clean, document
from harness.report.markdown import escape
from harness.report.openmetrics import gauges, openmetrics
from harness.report.operation_tables import tables
from harness.report.progress import Progress
from harness.report.terminal import COLOR
from harness.types import Decision, Finding, Verdict, answer_in

WORD: dict[Decision, str] = {"promote": "done", "rollback": "failed", "inconclusive": "inconclusive"}
TONE: dict[Decision, str] = {"promote": "pass", "rollback": "fail", "inconclusive": "inconclusive"}
SENTENCE: dict[Decision, str] = {
    "promote": "All of it was done, and seen to be done.",
    "rollback": "Something is proven to be wrong.",
    "inconclusive": "It is not known whether all of it was done.",
}


def render_operation(
    meta: Mapping[str, Any], observations: Mapping[str, Any], verdict: Verdict, folder: Path
) -> tuple[Path, ...]:
    """Write report.html, report.md, junit.xml and metrics.txt; each whole or not at all. Raises RecordingError."""
    contents = {
        "report.html": operation_page(meta, observations, verdict),
        "report.md": operation_markdown(meta, observations, verdict),
        "junit.xml": _junit(meta, verdict),
        "metrics.txt": openmetrics(gauges(meta, verdict)),
    }
    for name, text in contents.items():
        atomic_write(folder / name, text.encode())
    return tuple(folder / name for name in contents)


def operation_summary(verdict: Verdict, meta: Mapping[str, Any], folder: Path | None) -> RenderableType:
    """What the terminal shows at the end."""
    head = Text(f"{words.SIGN[verdict.verdict]} {operation_word(verdict)}", style=f"bold {COLOR[verdict.verdict]}")
    head.append(f"  {words.one_line(title(meta))}", style="bold not dim default")
    parts: list[RenderableType] = [Text(), head, Text(words.one_line(operation_ab.because(verdict.reason)))]
    if verdict.needs:
        parts.append(Text(f"What it would take: {words.one_line(verdict.needs)}"))
    if operation_ab.measured(verdict):
        parts += [Text(), _effects(verdict)]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("outcome", "finding"):
        table.add_column(name, no_wrap=True)
    table.add_column("because")
    in_figures = operation_ab.measured(verdict)
    for finding in _ordered(verdict):
        if finding not in in_figures:
            said = words.one_line(operation_ab.because(finding.reason))
            outcome = f"{words.SIGN[finding.outcome]} {operation_ab.outcome(finding)}"
            table.add_row(Text(outcome, style=COLOR[finding.outcome]), Text(finding.metric), Text(said))
    if table.row_count:
        parts += [Text(), table]
    if verdict.findings:
        parts.append(Text())
    if folder is not None:
        parts.append(Text(f"report: {folder / 'report.html'}", overflow="fold"))
    return Group(*parts)


def operation_word(verdict: Verdict) -> str:
    """The verdict as people are told it."""
    return operation_ab.word(verdict, WORD[verdict.verdict])


def _effects(verdict: Verdict) -> Table:
    """Of an A/B test, to fit 80 columns; the units are in the report."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for name in ("metric", "A", "B", "change", "interval", "margin", "answer"):
        plain = name in ("metric", "answer")
        table.add_column(name, justify="left" if plain else "right", no_wrap=plain)
    for finding, row in zip(operation_ab.measured(verdict), operation_ab.effects(verdict), strict=True):
        metric, a, b, change, interval, margin, *_ = row
        said = Text(operation_ab.outcome(finding), style=COLOR[finding.outcome])
        table.add_row(*map(Text, (metric, a, b, change, interval, margin)), said)
    return table


def _ordered(verdict: Verdict) -> list[Finding]:
    """What failed, what is open, what passed; each in the order in which it was judged."""
    return sorted(
        verdict.findings, key=lambda finding: ("fail", "inconclusive", "no data", "pass").index(finding.outcome)
    )


def operation_page(
    meta: Mapping[str, Any], observations: Mapping[str, Any], verdict: Verdict, *, progress: Progress | None = None
) -> str:
    """report.html as text. With `progress` it is the page of an operation under way, and follows it."""
    # matplotlib takes half a second to import; only those who draw pay for it.
    from harness.report.operation_figures import operation_figures

    scenario = meta.get("scenario")
    context = {
        "words": words,
        "verdict": verdict,
        "progress": progress,
        "word": operation_word(verdict),
        "tone": TONE[verdict.verdict],
        "ab": operation_ab,
        "sentence": operation_ab.sentence(verdict, SENTENCE[verdict.verdict]),
        "title": title(meta),
        "figure": _figure(verdict),
        "drawn": operation_figures(observations),
        "description": scenario.get("description", "") if isinstance(scenario, Mapping) else "",
        "started": str(meta.get("started_utc", "")),
        "finished": bool(observations.get("finished")),
        "source": operation_ab.source(verdict),
        "effects": list(zip(operation_ab.measured(verdict), operation_ab.effects(verdict), strict=True)),
        "findings": _ordered(verdict),
        "tables": tables(observations),
        "facts": [
            (heading, facts.flat(meta.get(key, {})))
            for heading, key in (
                ("Scenario", "scenario"),
                ("Versions", "software"),
                ("Host", "host"),
                ("Server", "server"),
                ("SHA-256 of the files", "files"),
            )
        ],
    }
    return frame.render("operation.html.j2", context, live=progress is not None)


def _figure(verdict: Verdict) -> Markup:
    if not operation_ab.measured(verdict):
        return Markup("")
    # matplotlib takes half a second to import; only those who draw pay for it.
    from harness.report.figures import two_sided

    return Markup(two_sided(operation_ab.measured(verdict)))


def operation_markdown(meta: Mapping[str, Any], observations: Mapping[str, Any], verdict: Verdict) -> str:
    """report.md."""
    lines = [f"## {words.SIGN[verdict.verdict]} {operation_word(verdict)}: {escape(title(meta))}", ""]
    lines += [f"**{escape(operation_ab.because(verdict.reason))}**", ""]
    if verdict.needs:
        lines += [f"What it would take: {escape(verdict.needs)}", ""]
    lines += ["| finding | outcome | because |", "|---|---|---|"]
    for finding in _ordered(verdict):
        said = f"{words.SIGN[finding.outcome]} {operation_ab.outcome(finding)}"
        cells = [finding.metric, said, operation_ab.because(finding.reason)]
        lines.append("| " + " | ".join(map(escape, cells)) + " |")
    for table in (*operation_ab.effects_table(verdict), *tables(observations)):
        lines += ["", f"### {escape(table.title)}", ""]
        lines += ["| " + " | ".join(table.columns) + " |", "|---" * len(table.columns) + "|"]
        lines += ["| " + " | ".join(map(escape, row)) + " |" for row in table.rows]
    return "\n".join(lines) + "\n"


def _junit(meta: Mapping[str, Any], verdict: Verdict) -> str:
    """One test case a finding, and one for the verdict; what is not known is an error, because a skip looks green."""
    name = clean(title(meta))
    suite = begin(meta)

    def case(label: str, outcome: str, message: str) -> None:
        element = ET.SubElement(suite, "testcase", classname=f"triton-canary.{name}", name=clean(label))
        tag = {"pass": "", "promote": "", "fail": "failure", "rollback": "failure"}.get(outcome, "error")
        if tag:
            ET.SubElement(element, tag, message=clean(message), type=answer_in(message) or outcome)
        else:
            ET.SubElement(element, "system-out").text = clean(message)

    for finding in verdict.findings:
        case(finding.metric, finding.outcome, finding.reason)
    case("verdict", verdict.verdict, verdict.reason)
    return document(suite)
