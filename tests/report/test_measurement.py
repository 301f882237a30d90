"""The self-audit in every format: what was measured is shown, sound or not, and nothing is where nothing is known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from rich.console import Console

from harness.report import measurement, terminal
from harness.report.markdown import markdown
from harness.report.page import page
from harness.types import Audit, CacheUse, Finding, StageVerdict, Verdict, WorkerAudit
from tests.report import factory

NAMES = {0: "1: paired", 1: "2: split 10 %"}
GOOD = Audit(
    lag_p50_s=2e-5, lag_p99_s=1.8e-4, planned=3000, sent=2998, in_flight=3.2, cpu=0.12, stall_s=0.004, steal=0.002,
    served_baseline=49.9, served_candidate=50.1, caches=(CacheUse("response", 0.2, 0.25),),
)  # fmt: skip
BAD = Audit(lag_p50_s=0.004, lag_p99_s=0.31, planned=400, sent=352, in_flight=9.0, cpu=0.99, stall_s=0.25)


def verdict() -> Verdict:
    late = Finding("validity.lag", "inconclusive", "the generator fell <behind>", kind="validity", stage=1)
    told = Finding("validity.warm-up", "pass", "for information: the first 2 s", kind="validity", stage=0)
    stages = (
        StageVerdict(0, "promote", "Every gate holds", (factory.errors_finding(), told), GOOD),
        StageVerdict(1, "inconclusive", "The generator fell behind", (late,), BAD),
    )
    return Verdict("inconclusive", "The generator fell behind", stages)


def test_the_table_has_what_is_known() -> None:
    table = measurement.table(verdict(), NAMES)
    assert table is not None
    rows = {name: dict(zip(table.columns, cells, strict=True)) for name, _, cells in table.rows}
    assert rows["1: paired"]["late p50, p99"] == "20.0 µs, 180 µs"
    assert rows["1: paired"]["sent"] == "2,998 of 3,000"
    assert rows["1: paired"]["served, each arm"] == "49.9, 50.1 /s"
    assert rows["1: paired"]["cache hits, each arm"] == "response 20 %, 25 %"
    assert rows["2: split 10 %"]["generator CPU"] == "99 %"
    assert rows["2: split 10 %"]["steal"] == "–"
    assert "host CPU" not in table.columns
    assert [faults for _, faults, _ in table.rows] == ["", "lag"]


def test_clocks_workers_and_drops_are_told_where_there_are_some() -> None:
    workers = tuple(WorkerAudit(number, 1500 - number) for number in range(2))
    odd = dataclasses.replace(
        GOOD, late=0.12, lag_limit_s=0.001, unsent=1200, clock_error_s=2e-5, workers=workers,
    )  # fmt: skip
    found = Verdict("promote", "x", (StageVerdict(0, "promote", "x", (factory.errors_finding(),), odd),))
    table = measurement.table(found, NAMES)
    assert table is not None
    row = dict(zip(table.columns, table.rows[0][2], strict=True))
    assert row["late"] == "12 % over 1.00 ms"
    assert row["waiting to be sent, most"] == "1,200"
    assert row["clock known to"] == "20.0 µs"
    assert row["workers"] == "2, each 1,499 to 1,500 requests"
    one = dataclasses.replace(odd, workers=workers[:1], late=None)
    alone = measurement.table(
        dataclasses.replace(found, stages=(dataclasses.replace(found.stages[0], audit=one),)), NAMES
    )
    assert alone is not None
    assert not {"workers", "late"} & set(alone.columns)


def test_the_line_tells_the_worst() -> None:
    assert measurement.line(verdict()) == (
        "requests left 310 ms late at most (p99); 88 % of what was due was sent; the generator used 99 % of a core; "
        "longest pause 250 ms; steal 0.2 %"
    )


def test_verdicts_without_an_audit_show_none() -> None:
    old = factory.promote()
    assert measurement.table(old, {}) is None
    assert measurement.line(old) == ""
    recording = factory.recording()
    assert "The measurement itself" not in page(recording, old)
    assert "The measurement itself" not in markdown(recording, old)


def test_nothing_of_a_warm_up_is_sound_or_not() -> None:
    warm = StageVerdict(0, "promote", "A warm-up: nothing of it is judged", (), BAD)
    found = Verdict("promote", "x", (warm, dataclasses.replace(verdict().stages[0], stage=1)))
    table = measurement.table(found, NAMES)
    assert table is not None
    assert [faults for _, faults, _ in table.rows] == ["–", ""]
    assert "longest pause 4.00 ms" in measurement.line(found)
    text = markdown(factory.recording(), found)
    assert "| – | 4.00 ms, 310 ms |" in text
    assert "<td>–</td>" in page(factory.recording(), found)


def test_every_format_shows_it() -> None:
    recording = factory.recording()
    found = verdict()
    html, text = page(recording, found), markdown(recording, found)
    assert '<h2 id="measurement">The measurement itself</h2>' in html
    assert "2,998 of 3,000" in html
    assert '<span aria-hidden="true">?</span> lag</span>' in html
    assert "| 1: paired | ✓ yes | 20.0 µs, 180 µs | 2,998 of 3,000 |" in text
    assert "| ? lag | 4.00 ms, 310 ms | 352 of 400 |" in text
    console = Console(width=100)
    with console.capture() as shown:
        console.print(terminal.summary(found, recording.meta, Path("run")))
    assert "measurement: requests left 310 ms late at most (p99)" in shown.get()


def test_what_only_informs_is_among_what_was_also_measured() -> None:
    html = page(factory.recording(), verdict())
    also = html[html.index("Also measured") :]
    assert "validity.warm-up" in also[: also.index("</details>")]
    assert html.count("validity.warm-up") == 1


def test_a_name_is_no_markup() -> None:
    odd = dataclasses.replace(GOOD, caches=(CacheUse("<b>|", 0.1, 0.2),))
    found = Verdict("promote", "x", (StageVerdict(0, "promote", "x", (factory.errors_finding(),), odd),))
    assert "<b>|" not in page(factory.recording(), found)
    assert "&lt;b&gt;\\|" in markdown(factory.recording(), found)
