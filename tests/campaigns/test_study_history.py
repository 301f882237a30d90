"""The study of histories counts what it says, and every row of it is in its tables."""

from __future__ import annotations

import json

import pytest

from tests.campaigns.study_history.__main__ import rows
from tests.campaigns.study_history.cells import checked, followed, peer
from tests.campaigns.study_history.tables import render, required, shown
from tests.campaigns.study_history.worlds import World, worlds


def test_every_row_is_in_the_tables_and_every_promise_in_the_json_line() -> None:
    found = {name: [cell(seed) for seed in range(1)] for name, cell, _ in rows(10)}
    text = render(found, 1)
    for world in worlds():
        assert f"| {world.name} |" in text
    line = json.loads(json.dumps(required(found)))
    assert {"kept", "false_alarms", "found_10pct_within_5", "exact_10pct", "found_5pct_within_15", "near_5pct"} <= {
        *line
    }


def test_a_promise_that_is_broken_is_not_kept() -> None:
    good = {
        "false": False,
        "hit": True,
        "exact": True,
        "near": True,
        "exact at the end": True,
        "near at the end": True,
        "red": False,
    }
    found = {name: [dict(good)] for name in ("no change", "+10 %", "+5 %", *(f"check: normal, {n}" for n in (1, 3, 5)))}
    assert required(found)["kept"] is True
    found["+5 %"] = [{**good, "near": False}]
    assert required(found)["kept"] is False
    found["+5 %"] = [good]
    found["no change"] = [{**good, "false": True}]
    assert required(found)["kept"] is False


def test_a_history_with_a_large_step_is_a_hit_and_one_without_is_none() -> None:
    hit = followed(World("large", 0.5, 5), 1)
    assert (hit["hit"], hit["exact"], hit["covered"], hit["exact at the end"]) == (True, True, True, True)
    assert hit["runs"] <= 5
    assert followed(World("small", 0.001, 5), 1)["hit"] is False
    back = followed(World("back", 0.5, 5, back=10), 1)
    assert back["back"] is True
    assert followed(World("drift", drift=1.0), 1)["false"] is True


def test_the_peer_sees_a_large_step_too() -> None:
    found = peer(World("large", 0.5, 5), 1)
    assert (found["false"], found["hit"], found["near"]) == (None, True, True)


def test_a_check_of_calm_metrics_is_green() -> None:
    found = [checked("normal", 3, seed) for seed in range(20)]
    assert shown(found, "red") == "0.0 (0.0 to 16.8)"
    assert sum(one["red alone at +10 %"] for one in found) >= 15


@pytest.mark.parametrize("world", [world for world in worlds() if world.step], ids=lambda world: world.name)
def test_steps_leave_room_before_and_after(world: World) -> None:
    for seed in range(30):
        values, at = world.draw(seed)
        assert len(values) == world.runs
        assert 10 <= at <= world.runs - max(10, world.back)
