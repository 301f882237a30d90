"""A canary on somebody else's Triton is killed, and goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.recording import Recording
from harness.triton import Control
from tests.run.conftest import Done, canary, journal, only_folder
from tests.run.kills import Place, own

pytestmark = [pytest.mark.triton, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
LAST_SPLIT = "route.set=1.0"
"""The candidate is loaded, had 20 %, and 100 % is begun."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("resume")
    with pytest.MonkeyPatch.context() as patch, own(folder) as one:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        yield one


@pytest.fixture
def died(place: Place, tmp_path: Path) -> Path:
    """The folder of a run that was killed on the way to 100 %."""
    place.reset()
    scenario = place.scenario(tmp_path / "first")
    for number in range(5):
        out = tmp_path / f"first-{number}"
        command = [sys.executable, "-m", "tests.run.killed", LAST_SPLIT, "after", "--", "run", str(scenario)]
        done = subprocess.run([*command, "--out", str(out)], cwd=ROOT, capture_output=True, text=True, check=False)
        last = journal(only_folder(out))[-1]
        if done.returncode == -signal.SIGKILL and (last["action"], last["wanted"]) == ("route.set", 1.0):
            return only_folder(out)
        place.reset()
    raise AssertionError(done.stderr)


def resumed(place: Place, died: Path, out: Path, *more: str) -> Done:
    return canary("run", place.scenario(out), "--out", out, "--json", "--resume", died, *more)


def test_it_goes_on_where_it_was_and_the_verdict_is_made_of_all_of_it(place: Place, died: Path, tmp_path: Path) -> None:
    before = place.state()
    done = resumed(place, died, tmp_path / "second")
    assert "2 of 4 stages count; going on after a break of" in done.stderr
    assert "stage 3 of 4: split" in done.stderr
    assert "stage 1 of 4" not in done.stderr
    new = only_folder(tmp_path / "second")
    old_rows, rows = Recording.open(died).samples, Recording.open(new).samples
    for stage in (0, 1):
        assert [row for row in rows.to_pylist() if row["stage"] == stage] == [
            row for row in old_rows.to_pylist() if row["stage"] == stage
        ]
    offset_ns = json.loads((new / "run.json").read_text())["resumed"]["offset_ns"]
    assert all(row["due_ns"] > offset_ns for row in rows.to_pylist() if row["stage"] >= 2)
    assert len(done.verdict["stages"]) == 4, done.stderr
    assert done.code in (0, 3), done.stderr
    if done.code == 0:
        assert done.verdict["verdict"] == "promote"
        assert place.state() != before
        assert place.state()["blue"][0] == [2]
    assert canary("judge", new, "--json").verdict["verdict"] == done.verdict["verdict"]


def test_a_baseline_that_was_loaded_again_is_another(place: Place, died: Path, tmp_path: Path) -> None:
    blue = place.tritons["blue"]
    with Control(blue.grpc_url) as control:
        control.unload("tiny")
        control.set_versions("tiny", [1])
    before = place.state()
    done = resumed(place, died, tmp_path / "second")
    assert done.code == 2, done.stderr
    assert "cannot be resumed: tiny version 1 was loaded again" in done.stderr
    assert place.state() == before


def test_files_that_changed_are_another_candidate(place: Place, died: Path, tmp_path: Path) -> None:
    (place.tritons["blue"].repository / "tiny" / "2" / "notes.txt").write_text("changed")
    done = resumed(place, died, tmp_path / "second")
    assert done.code == 2, done.stderr
    assert "its files (candidate, tiny version 2) changed" in done.stderr
    assert place.state()["blue"][0] == [1]


def test_another_scenario_touches_nothing(place: Place, died: Path, tmp_path: Path) -> None:
    before = place.state()
    done = resumed(place, died, tmp_path / "second", "--set", "stages.2.for=3s")
    assert done.code == 2, done.stderr
    assert "cannot be resumed: scenario.stages.2." in done.stderr
    assert not (tmp_path / "second").exists()
    assert place.state() == before
    assert canary("recover", died).code == 0
