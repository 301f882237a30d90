"""What operations measured, drawn: loads by phase, memory over the context, trials over the load."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness.report.operation_figures import operation_figures
from tests.judge.operations import GOOD

EXAMPLE = Path(__file__).parents[2] / "reports" / "examples" / "long-context-8k" / "observations.json"


def plotted(svg: str) -> list[dict[str, Any]]:
    """What the figure's own script is told of it."""
    found = re.search(r"data-plot='([^']*)'", svg)
    assert found is not None
    return json.loads(found[1].replace("&#39;", "'").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["multi-model-server", "night-batch"])
def test_each_load_is_a_line_with_all_its_blocks(kind: str) -> None:
    facts = GOOD[kind]()
    (drawn,) = operation_figures(facts)
    above, below = plotted(drawn.svg)
    loads = {window["load"] for window in facts["windows"]}
    assert {line["name"] for line in above["lines"]} == loads
    blocks = sum(len(window["blocks"]) for window in facts["windows"])
    assert sum(len(line["at"]) for line in above["lines"]) == blocks
    block = facts["windows"][0]["blocks"][0]
    assert float(above["lines"][0]["said"][0].removesuffix("/s")) == pytest.approx(
        block["done"] / block["seconds"], rel=0.01
    )
    assert "s" in below["lines"][0]["said"][0]


def test_measured_peaks_stand_with_the_fit_and_the_limit() -> None:
    facts = json.loads(EXAMPLE.read_text())
    (drawn,) = operation_figures(facts)
    lines = {line["name"]: line for line in plotted(drawn.svg)[0]["lines"]}
    points = facts["arms"]["candidate"]["points"]
    capacity = facts["arms"]["candidate"]["watched"]["capacity"]["smollm2_batched/1"]
    for batch in (1, 2):
        ran = [point for point in points if point["batch"] == batch and point["outcome"] == "ok"]
        said = lines[f"batch {batch}, measured"]["said"]
        assert len(said) == len(ran)
        share = 100 * ran[0]["peak"]["smollm2_batched/1"] / capacity
        assert float(said[0].removesuffix(" %")) == pytest.approx(share, abs=0.06)
    assert len(lines["batch 2, out of memory"]["said"]) == 1
    assert lines["batch 2, fit (99 % sure)"]["said"][-1] == "111 %"
    assert "batch 1, out of memory" not in lines
    assert "smollm2_batched version 1" in drawn.caption


def trial(level: float, beyond: int, low: float, high: float, outcome: str) -> dict[str, Any]:
    found = {"bounds": [[low, high]], "outcome": outcome, "reason": ""}
    return {"level": level, "blocks": [{"due": 1000, "beyond": [beyond]}], "found": found}


def test_trials_are_drawn_with_what_came_of_them() -> None:
    objective = {"words": "ttft.p90 < <200> ms", "allowed": 0.1}
    facts = {"kind": "find-max-load", "open_loop": True, "objectives": [objective]}
    tried = [
        trial(10, 20, 0.01, 0.04, "holds"),
        trial(20, 60, 0.04, 0.09, "holds"),
        trial(40, 310, 0.25, 0.4, "misses"),
    ]
    (drawn,) = operation_figures(facts | {"trials": tried})
    lines = {line["name"]: line["said"] for line in plotted(drawn.svg)[0]["lines"]}
    assert lines["holds"] == ["2 %", "6 %"]
    assert lines["misses"] == ["31 %"]
    assert "<200>" not in drawn.svg
    assert operation_figures(facts | {"trials": tried[:1]}) == []  # one load needs no figure


@pytest.mark.parametrize("kind", GOOD)
def test_nothing_observed_is_nothing_drawn(kind: str) -> None:
    assert operation_figures({"kind": kind}) == []
