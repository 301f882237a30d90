"""What a check against a history found, for a pull request or a CI job's summary."""

from __future__ import annotations

from harness.report import words
from harness.report.markdown import escape
from harness.types import Verdict

WORD = {"promote": "as before", "rollback": "worse", "inconclusive": "inconclusive"}
_MOST_ROWS = 60


def history_markdown(name: str, verdict: Verdict) -> str:
    """The answer, and a sentence for each metric; all text is escaped."""
    lines = [f"## {words.SIGN[verdict.verdict]} {WORD[verdict.verdict]}: {escape(name)}", ""]
    lines += [f"**{escape(verdict.reason)}**", ""]
    if verdict.needs:
        lines += [f"What it would take: {escape(verdict.needs)}", ""]
    told = words.telling(verdict.findings)
    if told:
        lines += ["| metric | outcome | why |", "|---|---|---|"]
    for finding in told[:_MOST_ROWS]:
        cells = (finding.metric, f"{words.SIGN[finding.outcome]} {finding.outcome}", finding.reason)
        lines.append("| " + " | ".join(map(escape, cells)) + " |")
    if len(told) > _MOST_ROWS:
        lines += ["", f"{len(told) - _MOST_ROWS} more were checked."]
    return "\n".join(lines) + "\n"
