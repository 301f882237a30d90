"""The journal says what may have happened, whatever died."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.errors import LoadFailed
from harness.run.journal import FILE, Journal, not_put_back, read


def test_an_action_is_on_disk_before_its_body_runs(tmp_path: Path) -> None:
    with Journal(tmp_path).action("route.set", "own:x", before=0.0, wanted=0.1):
        (line,) = [json.loads(raw) for raw in (tmp_path / FILE).read_text().splitlines()]
        assert line["state"] == "begun"
        assert {"seq", "t", "action", "target", "before", "wanted", "state"} == set(line)
    assert [entry.state for entry in read(tmp_path)] == ["done"]


def test_a_failed_action_keeps_its_reason_and_may_have_changed_the_world(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with pytest.raises(LoadFailed), journal.action("models.set", "grpc://h:1/m", before=[1], wanted=[1, 2]):
        raise LoadFailed("no memory")
    (entry,) = read(tmp_path)
    assert (entry.state, entry.error) == ("failed", "no memory")
    assert not_put_back(read(tmp_path)) == [entry]


def test_newest_first_and_what_was_undone_is_left_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with journal.action("models.set", "m", before=[1], wanted=[1, 2]):
        pass
    with journal.action("route.set", "r", before=0.0, wanted=0.1):
        pass
    assert [entry.action for entry in not_put_back(read(tmp_path))] == ["route.set", "models.set"]
    with journal.action("route.set", "r", before=0.1, wanted=0.0, undoes=[2]):
        pass
    assert [entry.action for entry in not_put_back(read(tmp_path))] == ["models.set"]


def test_an_undo_that_failed_is_tried_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with journal.action("route.set", "r", before=0.0, wanted=0.1):
        pass
    with (
        pytest.raises(OSError, match="gone"),
        journal.action("route.set", "r", before=0.1, wanted=0.0, undoes=[1]),
    ):
        raise OSError("gone")
    assert [entry.seq for entry in not_put_back(read(tmp_path))] == [1]


def test_the_end_of_a_run_closes_what_came_before(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with journal.action("route.set", "r", before=0.0, wanted=1.0):
        pass
    with journal.action("run.end", "x", wanted="promote"):
        pass
    assert not_put_back(read(tmp_path)) == []


@pytest.mark.parametrize("cut", range(2, 60, 7))
def test_a_torn_line_loses_only_itself_and_the_journal_goes_on(tmp_path: Path, cut: int) -> None:
    journal = Journal(tmp_path)
    for share in (0.1, 0.5):
        with journal.action("route.set", "r", before=0.0, wanted=share):
            pass
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-cut])
    (first, second) = read(tmp_path)
    assert (first.state, second.state) == ("done", "begun")
    with Journal(tmp_path).action("route.set", "r", before=0.0, wanted=0.0):
        pass
    assert [entry.seq for entry in read(tmp_path)] == [1, 2, 3]


def test_nothing_is_begun_behind_the_fence_but_what_puts_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path)

    def lost() -> None:
        raise LoadFailed("somebody else has the lease")

    journal.fence = lost
    ran: list[str] = []
    with pytest.raises(LoadFailed), journal.action("route.set", "own:x", before=0.0, wanted=0.1):
        ran.append("moved")
    assert (ran, read(tmp_path)) == ([], [])
    with journal.action("route.set", "own:x", wanted=0.0, undoes=[]):
        ran.append("put back")
    assert ran == ["put back"]
