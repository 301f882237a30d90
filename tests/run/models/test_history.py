"""What a journal says: the last set that was reached, and what was cut off since."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.run.journal import Journal
from harness.run.models.history import CHANGE, for_server, history, models

URL = "grpc://h:1"


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


@contextlib.contextmanager
def change(
    journal: Journal, before: list[int], wanted: list[int], *, fails: bool = False, **mark: Any
) -> Iterator[int]:
    with (
        contextlib.suppress(RuntimeError),
        journal.action(CHANGE, "m", before={"served": {URL: before}}, wanted={"served": {URL: wanted}, **mark}),
    ):
        with journal.action("models.set", f"{URL}/m", before=before, wanted=wanted) as seq:
            pass
        yield seq
        if fails:
            raise RuntimeError


def cut_off(journal: Journal, before: list[int], wanted: list[int], **mark: Any) -> None:
    """As the journal looks after SIGKILL: neither done nor failed was written."""
    outer = journal.action(CHANGE, "m", before={"served": {URL: before}}, wanted={"served": {URL: wanted}, **mark})
    inner = journal.action("models.set", f"{URL}/m", before=before, wanted=wanted)
    outer.__enter__()
    inner.__enter__()
    journal._write = lambda _line: None  # type: ignore[method-assign]
    del inner, outer


def again(journal: Journal) -> Journal:
    return Journal(journal.folder)


def test_nothing_is_known_of_an_empty_journal(journal: Journal) -> None:
    assert history(journal.entries(), "m").wanted is None
    assert models(journal.entries()) == ()


def test_the_last_change_that_was_done(journal: Journal) -> None:
    for before, wanted in (([], [1]), ([1], [1, 2])):
        with change(journal, before, wanted):
            pass
    known = history(journal.entries(), "m")
    assert known.wanted == {URL: (1, 2)}
    assert known.last is not None
    assert known.last.before == {URL: (1,)}
    assert models(journal.entries()) == ("m",)


def test_a_change_that_was_cut_off_goes_back_to_its_before(journal: Journal) -> None:
    with change(journal, [], [1]):
        pass
    cut_off(journal, [1], [1, 2])
    known = history(again(journal).entries(), "m")
    assert known.wanted == {URL: (1,)}
    assert [past.wanted for past in known.unfinished] == [{URL: (1, 2)}]


def test_cut_off_twice_goes_back_to_the_first(journal: Journal) -> None:
    cut_off(journal, [1], [1, 2])
    cut_off(again(journal), [1, 2], [1, 2, 3])
    assert history(journal.entries(), "m").wanted == {URL: (1,)}


def test_a_failed_change_that_was_put_back_leaves_no_trace(journal: Journal) -> None:
    with change(journal, [], [1]):
        pass
    with change(journal, [1], [1, 2], fails=True) as seq, journal.action("models.set", f"{URL}/m", undoes=[seq]):
        pass
    known = history(journal.entries(), "m")
    assert (known.wanted, known.unfinished) == ({URL: (1,)}, ())


def test_a_failed_change_that_was_not_put_back_is_unfinished(journal: Journal) -> None:
    with change(journal, [1], [1, 2], fails=True):
        pass
    assert history(journal.entries(), "m").wanted == {URL: (1,)}
    with change(journal, [1, 2], [1, 2]):
        pass
    assert history(journal.entries(), "m").unfinished == ()


def test_a_restore_that_was_cut_off_changes_nothing_about_what_is_wanted(journal: Journal) -> None:
    with change(journal, [1], [1, 2]):
        pass
    cut_off(journal, [], [1, 2], restores=True)
    known = history(again(journal).entries(), "m")
    assert (known.wanted, known.unfinished) == ({URL: (1, 2)}, ())


def test_a_change_that_had_nothing_to_do_is_not_what_an_undo_means(journal: Journal) -> None:
    with change(journal, [1, 2], [1]):
        pass
    served = {"served": {URL: [1]}}
    with journal.action(CHANGE, "m", before=served, wanted=served):
        pass
    last = history(journal.entries(), "m").last
    assert last is not None
    assert last.before == {URL: (1, 2)}


def test_another_set_that_was_found_so_is_what_is_wanted(journal: Journal) -> None:
    with change(journal, [1], [1, 2]):
        pass
    served = {"served": {URL: [1]}}
    with journal.action(CHANGE, "m", before=served, wanted=served):
        pass
    assert history(journal.entries(), "m").wanted == {URL: (1,)}


def test_a_server_that_joined_later_gets_what_all_others_have() -> None:
    assert for_server({URL: (1, 2), "grpc://h:2": (1, 2)}, "grpc://new:1") == (1, 2)
    assert for_server({URL: (1, 2), "grpc://h:2": (1,)}, "grpc://new:1") is None
    assert for_server({}, URL) is None
