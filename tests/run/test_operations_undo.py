"""A failed operation undoes what it cut off itself, and nothing that was cut off before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.run.journal import Journal
from harness.run.models import open_site
from harness.run.models.history import CHANGE
from harness.run.operations.course import Place
from harness.run.operations.recover import undo_what_was_cut_off

NOBODY = "grpc://127.0.0.1:1"


def cut_off(journal: Journal, model: str) -> None:
    """As a change that failed and could not be put back leaves it."""
    served = {"served": {NOBODY: [1]}}
    with (
        pytest.raises(RuntimeError),
        journal.action(CHANGE, model, before=served, wanted={"served": {NOBODY: [1, 2]}}),
        journal.action("models.set", f"{NOBODY}/{model}", before=[1], wanted=[1, 2]),
    ):
        raise RuntimeError


def test_only_its_own(tmp_path: Path) -> None:
    cut_off(Journal(tmp_path), "old")
    with open_site([NOBODY], state=tmp_path) as site:
        place = Place("north", tmp_path, site, None, len(site.journal.entries()))
        assert undo_what_was_cut_off([place], print) == []
        cut_off(site.journal, "own")
        (failure,) = undo_what_was_cut_off([place], print)
    assert failure.startswith("own: NOT RESTORED")
