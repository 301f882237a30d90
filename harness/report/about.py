"""What a run is called: titles and the one-sentence verdict, for every format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.report import words
from harness.types import Verdict


def title(meta: Mapping[str, Any]) -> str:
    """The scenario's name; a recording that somebody else made has none."""
    scenario = meta.get("scenario")
    name = scenario.get("name") if isinstance(scenario, Mapping) else None
    return str(name or "recording")


def arm_titles(meta: Mapping[str, Any]) -> dict[str, str]:
    """`smollm2 version 2, fp8` by arm, as far as the run says."""
    found = {}
    arms, scenario = _mapping(meta, "arms"), _mapping(meta, "scenario")
    for arm in ("baseline", "candidate"):
        ran, asked = _mapping(arms, arm), _mapping(scenario, arm)
        model = ran.get("model") or asked.get("model")
        version = ran.get("version") if ran.get("version") is not None else asked.get("version")
        build = asked.get("build")
        if isinstance(build, Mapping):
            build = ", ".join(f"{key} {value}" for key, value in build.items())
        parts = [str(model)] if model else []
        parts += [f"version {version}"] if version is not None else []
        text = " ".join(parts) + (f", {build}" if build else "")
        text = text or _file(meta, arm)
        if text:
            found[arm] = text
    return found


def summary_line(verdict: Verdict) -> str:
    """One sentence, the same in every format."""
    failed = {finding.metric for finding in verdict.findings if finding.outcome == "fail"}
    if verdict.verdict == "rollback" and failed and failed <= set(words.OF_TRAFFIC):
        return words.PROTECTED
    return words.ONE_SENTENCE[verdict.verdict]


def reasons(verdict: Verdict, most: int = 5) -> list[str]:
    """The sentences that decided: of the findings that failed or stayed open, else of the closest passes. And how fast
    the traffic was back, where it went back.
    """
    first = words.telling(verdict.findings)
    wanted = {"rollback": ("fail",), "inconclusive": ("fail", "inconclusive", "no data")}.get(verdict.verdict)
    chosen = [finding for finding in first if wanted is None or finding.outcome in wanted]
    said = verdict.reason.lower()
    chosen = [finding for finding in chosen if finding.reason and finding.reason.lower() not in said]
    if wanted is None:
        chosen = [f for f in chosen if f.outcome == "pass" and f.margin is not None and f.kind == "comparison"]
    return list(dict.fromkeys(finding.reason for finding in chosen))[:most] + back(verdict)


def back(verdict: Verdict) -> list[str]:
    """How fast all traffic was back, of a rollback under traffic; else nothing."""
    return [words.plain(found.reason) for found in verdict.findings if found.metric == "traffic.rollback"]


def unread(meta: Mapping[str, Any]) -> list[str]:
    """What could not be read beside the requests, a line each."""
    notes = _mapping(meta, "telemetry").get("notes")
    return [str(note) for note in notes] if isinstance(notes, list | tuple) else []


def _file(meta: Mapping[str, Any], arm: str) -> str:
    """`profile_export.jsonl of AIPerf`, where another tool recorded the arm."""
    of = _mapping(_mapping(_mapping(meta, "imported"), "arms"), arm)
    return f"{of['file']} of {of['tool']}" if "file" in of and "tool" in of else ""


def _mapping(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, Mapping) else {}
