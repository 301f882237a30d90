"""An operation's report: everything that was judged is on it, whatever was observed and whatever it says."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.judge import judge_operation
from harness.report import operation_summary, render_operation
from tests.judge.operations import GOOD, multi_region, region, retire_model

META = {"scenario": {"name": "an-operation", "description": "what it is for"}, "started_utc": "2026-01-01T00:00:00"}


def rendered(folder: Path, facts: dict[str, Any]) -> dict[str, str]:
    paths = render_operation(META, facts, judge_operation(facts), folder)
    return {path.name: path.read_text() for path in paths}


def shown(facts: dict[str, Any], width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(operation_summary(judge_operation(facts), META, Path("reports/x")))
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", GOOD)
def test_every_finding_is_in_every_format_and_bytes_repeat(tmp_path: Path, kind: str) -> None:
    facts = GOOD[kind]()
    files = rendered(tmp_path, facts)
    assert set(files) == {"report.html", "report.md", "junit.xml", "metrics.txt"}
    for finding in judge_operation(facts).findings:
        assert finding.metric in files["report.html"]
        assert finding.metric in files["report.md"].replace("\\_", "_")
        assert f'name="{finding.metric}"' in files["junit.xml"]
        assert finding.metric in shown(facts)
    assert "✓ done" in files["report.md"]
    assert "✓ done" in shown(facts)
    assert "what it is for" in files["report.html"]
    assert rendered(tmp_path, GOOD[kind]()) == files


@pytest.mark.parametrize("kind", GOOD)
def test_an_operation_that_saw_nothing_has_a_report_too(tmp_path: Path, kind: str) -> None:
    facts = {"kind": kind, "finished": False, "error": "interrupted", "model": "m", "version": 1, "then": "remove"}
    files = rendered(tmp_path, {**facts, "probes": 8})
    assert "did not come to its end" in files["report.html"]
    assert "? inconclusive" in files["report.md"]
    suite = ET.fromstring(files["junit.xml"])
    assert int(suite.attrib["errors"]) >= 1
    assert suite.attrib["failures"] == "0"


def test_what_failed_comes_first_and_makes_the_suite_red(tmp_path: Path) -> None:
    facts = multi_region(region("north"), region("south", error="south: 403"))
    files = rendered(tmp_path, facts)
    suite = ET.fromstring(files["junit.xml"])
    assert (suite.attrib["failures"], suite.attrib["errors"], suite.attrib["tests"]) == ("2", "0", "7")
    rows = [line for line in shown(facts).splitlines() if "region." in line]
    assert "region.south.ready" in rows[0]
    assert "✗ failed" in shown(facts)
    assert "south: 403" in files["report.md"]


def test_what_a_store_or_a_server_says_cannot_break_a_page(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script> \x1b[31m | `x` ]]>"
    facts = multi_region(region("north"), region("south", error=evil))
    files = rendered(tmp_path, facts)
    assert "<script>alert" not in files["report.html"] + files["report.md"]
    assert "\x1b" not in "".join(files.values()) + shown(facts)
    ET.fromstring(files["junit.xml"])
    assert all(line.count("|") - line.count("\\|") in (0, 4, 7) for line in files["report.md"].splitlines())


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_summary_fits_the_terminal(width: int) -> None:
    long = retire_model(steady={**retire_model()["steady"], "failed": 2, "errors": ["a reason that goes on " * 8]})
    assert all(len(line) <= width for line in shown(long, width).splitlines())
