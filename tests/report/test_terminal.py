"""The terminal views: they fit, they carry their meaning without colour, and the line is a line."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType

from harness.report import terminal
from harness.types import ArmName, ArmStatus, RunStatus, StagePlan, StageVerdict
from tests.report import factory

BUSY: dict[ArmName, ArmStatus] = {
    "baseline": ArmStatus(123_456, 0, 1234.5, 0.1812, 0.0481, 0.5172, 0.5434),
    "candidate": ArmStatus(113_000, 31_000, 0.104, 0.1783, 0.0625, 61.02, 172.4),
}


def status(
    stage: int | None = 1, leaning: StageVerdict | None = None, plans: tuple[StagePlan, ...] = factory.PLANS,
    arms: dict[ArmName, ArmStatus] | None = None, step: str = "one request in ten goes to version 2",
) -> RunStatus:  # fmt: skip
    plan = None if stage is None else plans[stage]
    done = tuple(factory.promote().stages[: stage or 0])
    return RunStatus(
        "fp8-canary", step, plan, plans, 113.0, 12.0, 68.0, plan.candidate_share if plan else 0.0,
        BUSY if arms is None else arms, leaning, done,
    )  # fmt: skip


def drawn(view: RenderableType, width: int = 80, color: bool = False) -> list[str]:
    console = Console(
        width=width,
        height=24,
        file=io.StringIO(),
        force_terminal=color,
        color_system="standard" if color else None,
    )
    console.print(view)
    return console.file.getvalue().rstrip("\n").split("\n")  # type: ignore[attr-defined]


MANY = tuple(dataclasses.replace(factory.PLANS[1], index=n, rate=12.5) for n in range(20))
STATES = {
    "before": status(None, step="loading smollm2 version 2"),
    "no numbers yet": status(0, arms={}),
    "paired": status(0, factory.rollback().stages[0]),
    "split": status(1, factory.promote().stages[1]),
    "open": status(2, factory.inconclusive().stages[0]),
    "soak": status(4),
    "many stages": status(17, factory.rollback("errors").stages[0], MANY),
    "long step": status(1, step="x" * 300 + "\x1b[2J\n" + "y" * 300),
}


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("width", [80, 200])
def test_the_live_view_fits(name: str, width: int) -> None:
    rows = drawn(terminal.live(STATES[name], width), width)
    assert len(rows) <= 23  # the cursor needs the 24th
    assert max(cell_len(row) for row in rows) <= width
    assert "\x1b" not in "".join(rows)


@pytest.mark.parametrize("name", STATES)
def test_the_view_keeps_its_height_within_a_stage(name: str) -> None:
    state = STATES[name]
    leanings = (None, factory.promote().stages[0], factory.inconclusive().stages[0])
    heights = {len(drawn(Padded(dataclasses.replace(state, leaning=found)))) for found in leanings}
    assert len(heights) == 1


def Padded(state: RunStatus) -> RenderableType:  # noqa: N802
    from rich.console import Group
    from rich.text import Text

    return Group(terminal.live(state, 80), Text("end"))


def test_the_live_view_says_where_the_run_is() -> None:
    text = "\n".join(drawn(terminal.live(STATES["paired"], 80)))
    for part in (
        "fp8-canary", "about 1:08 left", "▶ 1: paired", "12/90 s", "baseline 50 %", "50 % candidate", "31000",
        "48.1 ms", "62.5 ms", "172 s", "leans to rollback",
        "✗ fail  tpot.p50 +30.2 % (+28.2 to +32.2 %), margin +10 %",
    ):  # fmt: skip
        assert part in text, part


def test_many_stages_keep_the_current_one_in_view() -> None:
    text = "\n".join(drawn(terminal.live(STATES["many stages"], 80)))
    assert "▶ 18: split 10 %" in text
    assert " 5: split" not in text


def test_the_split_bar_is_in_proportion() -> None:
    row = next(row for row in drawn(terminal.live(STATES["split"], 80)) if "█" in row)
    assert row.count("▒") / (row.count("█") + row.count("▒")) == pytest.approx(0.10, abs=0.02)


@pytest.mark.parametrize("name", STATES)
def test_the_line_is_one_line(name: str) -> None:
    line = terminal.lines(STATES[name])
    assert line.isprintable()
    assert "about 1:08 left" in line
    if name == "split":
        assert "stage 2/5 split 10 % 0:12/0:20" in line


@pytest.mark.parametrize("color", [False, True])
def test_the_summary_ends_with_word_reason_figures_and_place(color: bool) -> None:
    meta = factory.meta(factory.stage_records(), "slow")
    folder = Path("reports/20260101T120000Z-fp8-canary")
    rows = drawn(terminal.summary(factory.rollback(), meta, folder), color=color)
    text = "\n".join(rows)
    assert "✗ rollback" in text
    assert ("\x1b[" in text) == color
    assert "tpot.p50 of the candidate is beyond its margin: look at the build." in text
    assert "report: reports/20260101T120000Z-fp8-canary/report.html" in rows[-1]
    if not color:
        row = next(row for row in rows if row.startswith("✗ fail"))
        assert row.split() == [
            "✗",
            "fail",
            "tpot.p50",
            "48.0",
            "ms",
            "62.5",
            "ms",
            "+30.2",
            "%",
            "+10",
            "%",
            "+28.2",
            "to",
            "+32.2",
            "%",
        ]
        assert max(map(len, rows)) <= 80


def test_the_summary_of_an_open_run_says_what_it_would_take() -> None:
    text = "\n".join(drawn(terminal.summary(factory.inconclusive(), {}, None)))
    assert "? inconclusive" in text
    assert "What it would take: About 140 s more of the paired stage." in text
    assert "31 of 110 pairs lack an arm." in text
    assert "report" not in text


def test_the_summary_of_nothing() -> None:
    assert "Nothing was recorded." in "\n".join(drawn(terminal.summary(factory.empty_verdict(), {}, None)))


def test_markup_in_texts_is_text() -> None:
    verdict = dataclasses.replace(factory.rollback(), reason="[red]not red[/red] [/]")
    assert "[red]not red[/red] [/]" in "\n".join(drawn(terminal.summary(verdict, {}, None)))
