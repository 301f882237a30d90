"""The load above memory and utilization, on one axis; and what there is of the memory."""

from __future__ import annotations

import re

import numpy as np
import pytest

from harness.report import facts, figures, panels
from harness.report.load import loads
from harness.report.requests import extent, requests
from harness.types import Finding, Reading
from tests.report import factory

USED, TOTAL = "gpu.memory.used", "gpu.memory.total"
GIB = 2.0**30


def memory(used: float, total: float, *, devices: int = 1) -> list[facts.Series]:
    rows = [
        Reading(n * factory.NS, "nvml", f"gpu{gpu}", metric, value, "bytes")
        for n in range(5)
        for gpu in range(devices)
        for metric, value in ((USED, used), (TOTAL, total * (gpu + 1)))
    ]
    return facts.readings(factory.Recording(factory.Path("run"), {}, factory.nothing().samples, readings=factory.table(
        rows, factory.READINGS)))  # fmt: skip


def test_the_load_is_counted_as_it_was_sent_and_answered() -> None:
    recording = factory.recording(plans=factory.PLANS[:2], failing=0.4)
    begin, end = extent(recording) or (0.0, 0.0)
    time = figures.TimeAxis(begin, end, facts.spans(factory.stage_records(plans=factory.PLANS[:2]), end))
    data = requests(recording, time.bins(), [0, 1])
    found = {one.arm: one for one in loads(data)}
    assert set(found) == {"baseline", "candidate"}
    widths = np.concatenate([np.append(np.diff(edges), np.nan) for edges in data.edges])
    for arm, one in found.items():
        rows = [row for row in recording.samples.to_pylist() if row["arm"] == arm]
        assert np.nansum(one.sent * widths) == pytest.approx(len(rows), abs=1)
        answered = [row for row in rows if row["status"] == "ok"]
        assert np.nansum(one.answered * widths) == pytest.approx(len(answered), abs=1)
        assert (np.diff(one.at) >= 0).all()
    assert np.nansum(found["candidate"].answered) < np.nansum(found["candidate"].sent)


def test_what_comes_after_the_last_stage_is_counted_too() -> None:
    """After a rollback the load goes on at the baseline, with its stage over."""
    stages = factory.stage_records(plans=factory.PLANS[:1])
    time = figures.TimeAxis(0.0, 200.0, facts.spans(stages, 200.0))
    edges = np.concatenate(time.bins())
    assert (edges[0], edges[-1]) == (0.0, 200.0)
    assert (np.diff(edges) >= 0).all()
    assert {8.0, 98.0} <= set(edges.tolist())  # no bin lies across the ends of the stage


def test_all_there_is_and_the_limit_are_drawn_where_they_are_near() -> None:
    (panel,) = panels.panels(memory(60 * GIB, 80 * GIB), panels.MEMORY)
    assert panel.bounds == [("all there is", 80 * GIB)]
    limit = Finding("memory.peak", "pass", "x", unit="bytes", effect=60 * GIB, margin=70 * GIB)
    (limited,) = panels.limited([panel], [limit])
    drawn = figures.readings([limited], figures.TimeAxis(0.0, 4.0, ()), "memory")
    assert "GPU memory used; all there is (red): 80.0 GiB; limit of memory.peak (red): 70.0 GiB" in drawn
    assert drawn.count("var(--fail)") == 2


def test_one_far_above_is_told_and_not_drawn() -> None:
    found = panels.panels(memory(2 * GIB, 80 * GIB), panels.MEMORY)
    drawn = figures.readings(found, figures.TimeAxis(0.0, 4.0, ()), "memory")
    assert "GPU memory used; all there is: 80.0 GiB" in drawn
    assert "var(--fail)" not in drawn


def test_gpus_of_different_sizes_have_no_line_in_common() -> None:
    (panel,) = panels.panels(memory(2 * GIB, 80 * GIB, devices=2), panels.MEMORY)
    assert len(panel.lines) == 2
    assert panel.bounds == []


def test_load_memory_and_utilization_share_one_figure_and_axis() -> None:
    from harness.report.page import page

    text = page(factory.recording(plans=factory.PLANS[:1]), factory.promote())
    section = text.split('<h2 id="resources">')[1].split("</section>")[0]
    figure = re.search(r'aria-label="(Over time: Requests a second[^"]*)"', section)
    assert figure is not None
    places = [figure[1].index(word) for word in ("Requests", "GPU memory used", "GPU utilization", "GPU power")]
    assert places == sorted(places)
