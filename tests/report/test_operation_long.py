"""The tables of long-context: what fits, where it ends, what is only estimated, and what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.judge import judge_operation, long_derived
from harness.report import render_operation
from harness.report.fact_table import FactTable
from harness.report.operation_long import long_tables
from harness.report.words import visible
from tests.judge.memory_worlds import GIB, Version, llama, measure, observed

CAPACITY = {"gpu0": 80 * GIB}
META = {"scenario": {"name": "long", "description": "does it fit?", "kind": "long-context"}, "seed": 1}
NARROW = "\N{NO-BREAK SPACE}%"


def facts(per_token: float = 2.0**20, **more: Any) -> dict[str, Any]:
    version = Version(llama(16 * GIB, per_token), CAPACITY)
    found = observed(measure(version, edge=0.0), **more)
    found["derived"] = {"candidate": long_derived(found, "candidate")}
    return found


def tables(observations: dict[str, Any]) -> dict[str, FactTable]:
    """By how their titles begin."""
    return {table.title.partition(":")[0]: table for table in long_tables(observations) if table.rows}


def test_context_by_batch_says_what_was_measured_what_follows_and_what_nobody_knows() -> None:
    by = tables(facts(2.2 * 2**20, contexts=(512, 1024, 2048, 4096, 6144)))
    table = by["Context by batch"]
    assert "fits: at most 92 %; in brackets: follows from another cell" in table.title
    assert table.columns == ("tokens", "batch 1", "batch 2", "batch 4", "largest that fits", "largest foretold")
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["512"] == ("(fits)", "(fits)", "(fits)", "4", "4")
    assert rows["1,024"] == (f"fits, 23{NARROW}", f"fits, 26{NARROW}", f"fits, 31{NARROW}", "4", "4")
    assert rows["8,192"][0].startswith("unverified, foretold 4")
    assert rows["8,192"][2:] == ("does not", "–", "3")


def test_where_memory_ends_and_where_it_does_not() -> None:
    table = tables(facts())["Where memory ends, by the fit"]
    assert [row[0] for row in table.rows] == ["1", "2", "4"]
    assert table.rows[2][2] == "16,384"
    flat = facts()
    flat["derived"]["candidate"]["edges"] = [{"batch": 1, "edge": None, "safe": None}]
    assert tables(flat)["Where memory ends, by the fit"].rows == [("1", "no end in sight", "no end in sight")]


@pytest.mark.parametrize(("per_token", "first"), [(2**20, "measured"), (2.5 * 2**20, "foretold")])
def test_estimates_are_called_so(per_token: float, first: str) -> None:
    rows = tables(facts(per_token))["Memory at 8,192 tokens, batch 4"].rows
    assert rows[0][0] == first
    assert (rows[0][2] == "does not fit") == (first == "foretold"), "more than there is leaves nothing"
    estimates = [row for row in rows if row[0] == "estimate"]
    assert len(estimates) == 3
    assert all(row[3].startswith("not measured: ") for row in estimates)


@pytest.mark.parametrize(
    ("source", "high_water", "said"),
    [
        ("nvml", False, "; read every 20 ms, what is shorter may be missed"),
        ("dcgm", False, "; read every 50 ms, what is shorter may be missed"),
        ("process", True, "; the kernel's own high-water marks"),
    ],
)
def test_what_may_have_been_missed_between_two_readings(source: str, high_water: bool, said: str) -> None:
    found = facts(gpu_every_s=0.02)
    found["arms"]["candidate"]["watched"]["source"] = source
    for point in found["arms"]["candidate"]["points"]:
        point["high_water"] = high_water
    assert f"(GPU memory, of 80.0 GiB{said})" in tables(found)["Measured"].title


def test_every_point_with_its_outcome_and_the_smaller_batch() -> None:
    found = facts(2.5 * 2**20, notes=["NVML: no library", "NVML: no library"])
    version = Version(llama(16 * GIB, 2.5 * 2**20), CAPACITY)
    found["arms"]["candidate"]["points"].append(version.point("reduced", 8192, 2))
    by = tables(found)
    parts = [row[0] for row in by["Measured"].rows]
    assert len(parts) == len(found["arms"]["candidate"]["points"])
    assert parts[-1] == "smaller batch, ramp 1"
    assert by["Measured"].rows[-1][3] == f"56.0 GiB (70{NARROW})"
    assert "out of memory: CUDA out of memory" in [row[-1] for row in by["Measured"].rows]
    assert by["Not read"].rows == [("NVML: no library",)]


@pytest.mark.parametrize("watched", [True, False])
def test_a_run_that_was_cut_short_shows_what_it_measured(tmp_path: Path, watched: bool) -> None:
    found = facts(finished=False, error="interrupted by SIGTERM")
    del found["derived"]
    arm = found["arms"]["candidate"]
    arm["points"] = arm["points"][:3]
    if not watched:
        del arm["watched"]
    by = tables(found)
    assert list(by) == ["Measured"]
    assert len(by["Measured"].rows) == 3
    paths = render_operation(META, found, judge_operation(found), tmp_path)
    assert "Measured" in next(path for path in paths if path.suffix == ".html").read_text()


def test_the_page_has_no_replaced_characters(tmp_path: Path) -> None:
    found = facts()
    for path in render_operation(META, found, judge_operation(found), tmp_path):
        assert "\N{REPLACEMENT CHARACTER}" not in path.read_text()
    assert visible("61\N{NO-BREAK SPACE}%\x1b[2J") == "61\N{NO-BREAK SPACE}%\N{REPLACEMENT CHARACTER}[2J"
