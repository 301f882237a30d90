"""What a journal says of a setting that was lent: pure, from its entries."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.run.journal import Journal, read
from harness.run.models.history import HOLD, history, models, setting_of
from harness.run.models.hold import holds

DAY = {"batching": {"grpc://one:8001": {"preferred_batch_size": [16]}}}


def test_a_hold_is_open_until_it_is_done_or_undone(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with journal.action(HOLD, "m", before=DAY) as first:
        assert [entry.seq for entry in holds(read(tmp_path), "m")] == [first]
        assert holds(read(tmp_path), "other") == []
        assert models(read(tmp_path)) == ("m",)
    assert holds(read(tmp_path), "m") == []
    with pytest.raises(ZeroDivisionError), journal.action(HOLD, "m", before=DAY) as second:
        raise ZeroDivisionError
    assert [entry.seq for entry in holds(read(tmp_path), "m")] == [second], "it failed, so nobody gave it back"
    with journal.action(HOLD, "m", undoes=[second]):
        pass
    assert holds(read(tmp_path), "m") == []


def test_a_hold_whose_undoing_failed_stays_open(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with pytest.raises(ZeroDivisionError), journal.action(HOLD, "m", before=DAY) as seq:
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), journal.action(HOLD, "m", undoes=[seq]):
        raise ZeroDivisionError
    assert [entry.seq for entry in holds(read(tmp_path), "m")] == [seq]


def test_changes_within_a_hold_are_no_hold_and_a_hold_is_no_change(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with journal.action(HOLD, "m", before=DAY):
        pass
    known = history(read(tmp_path), "m")
    assert (known.last, known.unfinished) == (None, ())


def test_the_setting_of_a_server_that_joined_later_is_that_of_all_others() -> None:
    assert setting_of({"a": {"x": 1}, "b": {"x": 2}}, "b") == (True, {"x": 2})
    assert setting_of({"a": {"x": 1}, "b": {"x": 1}}, "c") == (True, {"x": 1})
    assert setting_of({"a": {"x": 1}, "b": {"x": 2}}, "c") == (False, None)
    assert setting_of({"a": None}, "c") == (True, None)
    assert setting_of({}, "c") == (False, None)
