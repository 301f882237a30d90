"""An A/B test's report: its answer, its figures, and no word of a canary."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.judge import judge_operation, verdict_json
from harness.report import operation_summary, render_operation
from harness.types import Verdict
from tests.judge.experiments import METRICS, Users, facts, judged, tables

META = {"scenario": {"name": "tunes", "description": "two fine-tunes", "kind": "ab-test"}, "seed": 1}
MANY = Users(units=1200, requests=9000, habit=0.1)
CASES = {
    "B better": dataclasses.replace(MANY, b=0.7),
    "A better": dataclasses.replace(MANY, b=1.5),
    "no difference within the margin": MANY,
    "not enough": dataclasses.replace(MANY, units=80),
    "nothing can be said": dataclasses.replace(MANY, columns={"version": ["2"] * MANY.requests}),
}


def rendered(folder: Path, verdict: Verdict, observations: dict[str, Any]) -> dict[str, str]:
    paths = render_operation(META, observations, verdict, folder)
    return {path.name: path.read_text() for path in paths}


def shown(verdict: Verdict, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(operation_summary(verdict, META, Path("reports/x")))
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("answer", CASES)
def test_the_answer_is_what_people_see(tmp_path: Path, answer: str) -> None:
    observations = facts()
    verdict = judged(CASES[answer], observations)
    files = rendered(tmp_path, verdict, observations)
    sign = {"not enough": "?", "nothing can be said": "✗"}.get(answer, "✓")
    assert f"{sign} {answer}" in shown(verdict)
    assert files["report.md"].startswith(f"## {sign} {answer}: tunes")
    assert f'<p class="word"><span aria-hidden="true">{sign}</span> {answer}</p>' in files["report.html"]
    assert f"<title>{answer}: tunes</title>" in files["report.html"]
    assert json.loads(verdict_json(verdict, META))["reason"].startswith(f"{answer}: ")
    suite = ET.fromstring(files["junit.xml"])
    red = {"not enough": (False, True), "nothing can be said": (True, True)}.get(answer, (False, False))
    assert (int(suite.attrib["failures"]) > 0, int(suite.attrib["errors"]) > 0) == red
    assert rendered(tmp_path, judged(CASES[answer], observations), observations) == files


@pytest.mark.parametrize("answer", CASES)
def test_nothing_is_promoted_or_rolled_back(tmp_path: Path, answer: str) -> None:
    observations = facts()
    verdict = judged(CASES[answer], observations)
    files = rendered(tmp_path, verdict, observations)
    page = re.sub(r"<(style|script)>.*?</\1>", "", files["report.html"], flags=re.DOTALL)
    for text in (page, files["report.md"], files["junit.xml"], shown(verdict), verdict.reason, verdict.needs):
        for word in ("promote", "rollback", "canary", "baseline", "candidate"):
            assert word not in text.lower().replace("triton-canary", ""), (word, text)


def test_effects_in_figures(tmp_path: Path) -> None:
    users, observations = dataclasses.replace(MANY, b=0.7, fail=(0.05, 0.05)), facts(*METRICS)
    verdict = judged(users, observations, scored=True)
    files = rendered(tmp_path, verdict, observations)
    for metric in METRICS:
        assert f"| {metric.replace('_', chr(92) + '_')} | " in files["report.md"].partition("### Effects")[2]
        assert metric in shown(verdict)
    assert files["report.html"].count("<svg") == 1
    assert "B against A" in files["report.html"]
    assert all(len(line) <= 80 for line in shown(verdict).splitlines())


def test_a_row_of_the_terminal() -> None:
    row = r"response_time\.p50 +[0-9.]+ ms +[0-9.]+ ms +-\S+ % +-\S+ to -\S+ % +±10 % B better"
    assert re.search(row, shown(judged(CASES["B better"])))


def test_what_is_void_has_no_figures(tmp_path: Path) -> None:
    observations = facts()
    verdict = judged(CASES["nothing can be said"], observations)
    files = rendered(tmp_path, verdict, observations)
    assert "<svg" not in files["report.html"]
    assert "### Effects" not in files["report.md"]
    assert "±" not in "".join(files.values()) + shown(verdict)


def test_who_was_dealt_out(tmp_path: Path) -> None:
    seen = [
        {"arm": "A", "assignment": "hash", "units": 300, "requests": 1200, "failed": 3},
        {"arm": "B", "assignment": "header", "units": 0, "requests": 0, "failed": 0},
    ]
    observations = facts(seen=seen, ingress="http://ingress:8080")
    files = rendered(tmp_path, judged(MANY, observations), observations)
    assert "| A | the hash | 300 | 1,200 | 4.00 | 3 |" in files["report.md"]
    assert "the client&#x27;s header" in files["report.html"] or "the client&#39;s header" in files["report.html"]
    assert "http://ingress:8080 with x-experiment: B" in files["report.html"]


def test_one_that_saw_nothing_has_a_report_too(tmp_path: Path) -> None:
    observations = {"kind": "ab-test", "finished": False, "error": "interrupted"}
    verdict = judge_operation(observations, tables(None))
    files = rendered(tmp_path, verdict, observations)
    assert "? not enough" in files["report.md"]
    assert "interrupted" in files["report.html"]
