"""report.md: short enough for a pull request or a CI job's summary ($GITHUB_STEP_SUMMARY)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.recording import stage_records
from harness.report import changed, measurement, steps, words
from harness.report.about import arm_titles, reasons, summary_line, title
from harness.types import Verdict

if TYPE_CHECKING:
    from harness.recording import Recording

_MOST_ROWS = 60


def markdown(recording: Recording, verdict: Verdict) -> str:
    """Verdict, reasons, and a table of the findings, in GitHub's dialect; all text is escaped."""
    meta = recording.meta
    names = {stage.plan.index: words.stage_name(stage.plan) for stage in stage_records(meta)}
    lines = [f"## {words.SIGN[verdict.verdict]} {verdict.verdict}: {escape(title(meta))}", ""]
    lines += [f"**{escape(verdict.reason or summary_line(verdict))}**", ""]
    if verdict.needs:
        lines += [f"What it would take: {escape(verdict.needs)}", ""]
    if meta and not meta.get("finished"):
        lines += ["This run did not finish.", ""]
    arms = arm_titles(meta)
    if arms:
        lines += ["; ".join(f"{arm}: {escape(text)}" for arm, text in arms.items()), ""]
    found = reasons(verdict)
    lines += [f"- {escape(reason)}" for reason in found]
    lines += [""] if found else []
    lines += _changed(meta)
    rows = [
        (names.get(stage.stage, str(stage.stage + 1)), finding)
        for stage in verdict.stages
        for finding in words.telling(stage.findings)
        if not words.informs(finding)
    ]
    if rows:
        lines += [
            "| stage | metric | outcome | baseline | candidate | effect | interval | margin |",
            "|---|---|---|--:|--:|--:|--:|--:|",
        ]
        for name, finding in rows[:_MOST_ROWS]:
            cells = [
                name, finding.metric, f"{words.SIGN[finding.outcome]} {finding.outcome}",
                words.measured(finding.metric, finding.baseline),
                words.measured(finding.metric, finding.candidate),
                words.effect(finding), words.interval(finding), words.margin(finding),
            ]  # fmt: skip
            lines.append("| " + " | ".join(map(escape, cells)) + " |")
        if len(rows) > _MOST_ROWS:
            lines += ["", f"{len(rows) - _MOST_ROWS} more are in report.html."]
    else:
        lines.append("No rule had anything to judge.")
    for table in steps.tables(recording):
        lines += ["", f"Steps in stage {escape(table.stage)}:", ""]
        lines += [f"| {' | '.join(steps.HEADINGS)} |", "|---|---|" + "--:|" * (len(steps.HEADINGS) - 2)]
        lines += ["| " + " | ".join(map(escape, row)) + " |" for row in table.rows]
    lines += _measurement(verdict, names)
    lines += _calibrated(verdict)
    return "\n".join(lines) + "\n"


def _changed(meta: Mapping[str, Any]) -> list[str]:
    """Of a checkout: what its build has that the base's has not."""
    told = changed.lines(meta)
    return [f"What changed: {escape(told[0])}", "", *(f"- {escape(line)}" for line in told[1:]), ""] if told else []


def _measurement(verdict: Verdict, names: dict[int, str]) -> list[str]:
    found = measurement.table(verdict, names)
    if found is None:
        return []
    heads = ["stage", "sound", *found.columns]
    lines = ["", "The measurement itself:", "", f"| {' | '.join(heads)} |", "|---|---|" + "--:|" * len(found.columns)]
    for name, faults, cells in found.rows[:_MOST_ROWS]:
        sound = f"{words.SIGN['inconclusive']} {faults}" if faults else f"{words.SIGN['pass']} yes"
        sound = words.NONE if faults == words.NONE else sound
        lines.append("| " + " | ".join(map(escape, [name, sound, *cells])) + " |")
    return lines


def _calibrated(verdict: Verdict) -> list[str]:
    told = measurement.calibrated(verdict)
    return ["", f"{escape(told)}."] if told else []


def escape(text: str) -> str:
    """One line of text that Markdown shows as it is: no markup, HTML, mention, or end of a table cell."""
    text = words.one_line(text)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "&#64;")
    text = re.sub(r"([\\`*_\[\]|~#$])", r"\\\1", text)
    return re.sub(r"(?i)\b(www)\.", r"\1&#46;", text.replace("://", ":&#47;/"))  # no link that nobody meant
