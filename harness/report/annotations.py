"""What GitHub shows of a verdict: annotations (workflow commands), and a step's summary that is not too long."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from harness.report import words
from harness.types import Decision, Finding, Verdict

Level = Literal["error", "warning", "notice"]
LEVEL: dict[Decision, Level] = {"promote": "notice", "rollback": "error", "inconclusive": "warning"}
MOST = 10
"""Annotations of one level that GitHub shows of a step."""
SUMMARY_BYTES = 1 << 20
"""A step's summary that is longer GitHub does not show at all."""
_CUT = "\n\n**Cut here: GitHub shows no more than 1 MiB. The whole of it is in report.md.**\n"


def workflow_commands(name: str, word: str, verdict: Verdict) -> list[str]:
    """Annotations, one a line: the verdict, then what failed or stayed open, at most MOST of a level.

    `word`: the verdict as people are told it. An error is shown only where the verdict is a rollback: then the gates
    that failed are errors, and all else that did not pass a warning.
    """
    needs = f"{verdict.reason.rstrip('.')}. What it would take: {verdict.needs}"
    told = needs if verdict.needs else verdict.reason
    found: list[tuple[Level, str, str]] = [(LEVEL[verdict.verdict], f"{name}: {word}", told)]
    found += [(level, f"{finding.metric}: {finding.outcome}", finding.reason) for level, finding in _open(verdict)]
    lines = []
    for level in ("error", "warning", "notice"):
        these = [entry for entry in found if entry[0] == level]
        if len(these) > MOST:
            more = len(these) - MOST + 1
            these = [*these[: MOST - 1], (level, f"{name}: more", f"{more} more are in the report")]
        lines += [_command(*entry) for entry in these]
    return lines


def fit(text: str, taken: int) -> str:
    """`text` as far as it goes into a step's summary of which `taken` bytes are used; cut at the end of a line."""
    room = SUMMARY_BYTES - taken
    content = text.encode()
    if len(content) <= room:
        return text
    kept = content[: max(0, room - len(_CUT.encode()))]
    kept = kept[: kept.rfind(b"\n") + 1]
    return kept.decode().rstrip("\n") + _CUT if kept else ""


def _open(verdict: Verdict) -> Iterator[tuple[Level, Finding]]:
    for finding in words.telling(verdict.findings):
        if finding.outcome == "pass" or words.informs(finding):
            continue
        if finding.outcome == "fail" and finding.kind != "validity" and verdict.verdict == "rollback":
            yield "error", finding
        elif finding.outcome == "fail" or verdict.verdict != "promote":
            yield "warning", finding


def _command(level: Level, heading: str, message: str) -> str:
    return f"::{level} title={_property(words.one_line(heading))}::{_data(words.one_line(message))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
