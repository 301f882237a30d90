"""Pages to look at in a browser: of every kind, and one whose every text is hostile."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from harness.history.timelines import timeline
from harness.judge import evidence_of, evidence_over_time, judge, judge_operation
from harness.recording import Recording
from harness.recording.schema import OUTPUTS, READINGS
from harness.report import render_operation
from harness.report.history import history_page
from harness.report.page import page
from harness.types import Finding, Verdict
from tests.judge.experiments import Users, judged
from tests.judge.experiments import facts as experiment
from tests.judge.operations import GOOD
from tests.report import factory
from tests.report.test_history_page import noisy, series

HOSTILE = (
    "<script>document.title = 'owned'</script><img src=http://127.0.0.1:9/x onerror=\"document.title = 'owned'\">"
    "'\"&amp;{{ 7 * 7 }} \N{RIGHT-TO-LEFT OVERRIDE}שלום עולם مرحبا \N{FIRE}\N{ZERO WIDTH JOINER}\x1b[31m"
)
LONG = "https://example.test/" + "Donaudampfschifffahrtsgesellschaft" * 8


def canary() -> Recording:
    """Two stages, errors, outputs that differ, readings with a GPU."""
    return factory.recording(plans=factory.PLANS[:2], failing=0.12, drifts=1.2)


def canary_page(recording: Recording) -> str:
    evidence = evidence_of(recording)
    verdict = judge(evidence)
    return page(recording, verdict, evidence_over_time(evidence, verdict, 8))


def hostile_page(clean: Recording) -> str:
    """What servers, models, scenarios and the judge may say, wherever a page shows it."""

    def said(table: pa.Table | None, schema: pa.Schema, *names: str) -> pa.Table:
        assert table is not None
        rows = table.to_pylist()
        for number, row in enumerate(rows):
            row |= {name: (HOSTILE, LONG)[number % 2] for name in names if row[name] not in ("", "OK")}
        return pa.Table.from_pylist(rows, schema)

    meta: dict[str, Any] = {
        **clean.meta,
        "scenario": {"name": HOSTILE, "baseline": {"model": LONG}, "candidate": {"build": HOSTILE}, LONG: LONG},
        "software": {HOSTILE: HOSTILE, LONG: LONG},
        "telemetry": {"notes": [HOSTILE, LONG], "missed_polls": 0},
    }
    dirty = dataclasses.replace(
        clean,
        meta=meta,
        samples=said(clean.samples, clean.samples.schema, "error", "code"),
        outputs=said(clean.outputs, OUTPUTS, "text"),
        readings=said(clean.readings, READINGS, "device"),
    )
    first = factory.rollback().stages[0]
    findings = tuple(dataclasses.replace(finding, reason=HOSTILE + LONG) for finding in first.findings)
    named = Finding(LONG, "fail", HOSTILE, effect=0.4, margin=0.1, interval=(0.2, 0.5))
    stage = dataclasses.replace(first, reason=HOSTILE, findings=(*findings, named))
    return page(dirty, Verdict("rollback", LONG, (stage,), needs=HOSTILE))


def operation_page(folder: Path, kind: str) -> str:
    facts = GOOD[kind]()
    meta = {"scenario": {"name": kind, "description": "what it is for", "kind": kind}}
    return render_operation(meta, facts, judge_operation(facts), folder)[0].read_text(encoding="utf-8")


def experiment_page(folder: Path) -> str:
    """An A/B test's."""
    facts = experiment()
    verdict = judged(Users(units=1200, requests=9000, habit=0.1, b=0.7), facts)
    meta = {"scenario": {"name": "tunes", "kind": "ab-test"}}
    return render_operation(meta, facts, verdict, folder)[0].read_text(encoding="utf-8")


def night_page() -> str:
    """A history with a step in it, and a new driver."""
    return history_page([timeline(series(noisy(60, 20), drivers=("550", "555")))])


KINDS: dict[str, Callable[[Recording, Path], str]] = {
    "canary": lambda recording, _: canary_page(recording),
    "hostile": lambda recording, _: hostile_page(recording),
    "history": lambda _, __: night_page(),
    "experiment": lambda _, folder: experiment_page(folder),
    "night-batch": lambda _, folder: operation_page(folder, "night-batch"),
}
