"""The table of the steps of an ensemble, in report.md and report.html."""

from __future__ import annotations

import io
from dataclasses import replace

import pyarrow as pa
from rich.console import Console

from harness.recording import Recording
from harness.recording.schema import READINGS
from harness.report.markdown import markdown
from harness.report.page import page
from harness.report.steps import HEADINGS, line, tables
from harness.report.terminal import summary
from harness.types import Reading
from tests.report import factory
from tests.report.factory import NS

TAKES_S = {"tok/1": 0.002, "emb/1": 0.05, "emb/2": 0.4, "one/1": 0.5, "two/1": 0.85}


def with_steps(recording: Recording) -> Recording:
    """The factory's run, as if its arms had been ensembles that answer twice a second; polled once a second."""
    rows = []
    for second in range(200):
        for device, takes_s in TAKES_S.items():
            values = {"request_success": 2.0 * second, "request_duration": 2.0 * second * takes_s}
            values |= {"queue_duration": 0.2 * second * takes_s, "compute_infer_duration": 1.6 * second * takes_s}
            values |= {"compute_input_duration": 0.0, "compute_output_duration": 0.2 * second * takes_s}
            for metric, value in values.items():
                rows.append(Reading(second * NS, "triton", device, f"inference.{metric}", value, "s"))
    arms = {
        "baseline": {"model": "one", "version": 1, "steps": ["tok/1", "emb/1"]},
        "candidate": {"model": "two", "version": 1, "steps": ["tok/1", "emb/2"]},
    }
    readings = pa.concat_tables([recording.readings, factory.table(rows, READINGS)])
    return replace(recording, meta={**recording.meta, "arms": arms}, readings=readings)


def test_a_row_for_each_step_and_the_ensembles_at_the_end() -> None:
    (paired, *others) = tables(with_steps(factory.recording()))
    assert paired.stage == "1: paired"
    assert len(others) == 3, "every stage that compares or splits, not the soak"
    rows = {row[0]: row[1:] for row in paired.rows}
    assert list(rows) == ["tok version 1", "emb version 1", "emb version 2", "one, end to end", "two, end to end"]
    assert all(len(row) == len(HEADINGS) for row in paired.rows)
    asked_by, answers, queue, in_, compute, out, total, share = rows["emb version 2"]
    assert asked_by == "candidate"
    assert 170 < int(answers) < 190
    assert (queue, in_, compute, out, total) == ("40.0 ms", "0 s", "320 ms", "40.0 ms", "400 ms")
    assert share == "47.1 %"
    assert rows["tok version 1"][0] == "baseline and candidate"
    assert rows["two, end to end"][2:] == ("–", "–", "–", "–", "850 ms", "–")


def test_the_reports_show_it() -> None:
    recording = with_steps(factory.recording())
    text = markdown(recording, factory.promote())
    assert "Steps in stage 1: paired:" in text
    assert "| emb version 2 | candidate |" in text
    html = page(recording, factory.promote())
    assert "Steps of the ensembles" in html
    assert '<th scope="row">emb version 2</th><td>candidate</td>' in html


def test_models_that_are_no_ensembles_have_no_such_table() -> None:
    recording = factory.recording()
    assert tables(recording) == ()
    assert "Steps" not in markdown(recording, factory.promote())
    assert "Steps of the ensembles" not in page(recording, factory.promote())
    assert tables(factory.nothing()) == ()


def test_the_terminal_names_the_step_that_differs() -> None:
    compared = factory.finding("steps.emb", effect=8.0, reason="for information: emb takes 400 ms in version 2")
    shared = factory.finding("steps.tok", unit="s", effect=0.002, reason="for information: tok takes 2 ms")
    verdict = factory.promote()
    first = replace(verdict.stages[0], findings=(*verdict.stages[0].findings, compared, shared))
    told = replace(verdict, stages=(first, *verdict.stages[1:]))
    assert line(told) == "emb takes 400 ms in version 2"
    assert line(verdict) == ""
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(summary(told, {}, None))
    assert "steps: emb takes 400 ms in version 2" in console.export_text()
