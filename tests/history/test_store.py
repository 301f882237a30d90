"""The store: nothing that was added is lost, and each run is there once, whoever works at the same time or dies."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.history import store, table
from harness.history.entry import Entry, Figure, Measure
from harness.history.place import FolderPlace
from harness.history.store import History

FEW = 8
MEASURES = (Measure("ttft.p50", unit="s", effect_unit="ratio", gated=True), Measure("errors", unit="share"))


def run(number: int, value: float = 0.08, **changed: Any) -> Entry:
    clock = f"{number // 3600:02d}:{number // 60 % 60:02d}:{number % 60:02d}"
    entry = Entry(
        run=f"run-{number:06d}", name=f"night {number}", started_utc=f"2026-01-01T{clock}",
        commit=f"c{number}", branch="main", verdict="promote", unfit="", definition={"scenario": "nightly"},
        fingerprint={"cpu": "EPYC"}, measures=MEASURES, figures=(Figure(value, 0.08, value / 0.08), Figure(0.0)),
    )  # fmt: skip
    return replace(entry, **changed)


def there(history: History) -> list[str]:
    found = history.read().table["run"].to_pylist()
    assert len(found) == len(set(found)), "a run twice"
    return sorted(found)


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens with many files happens with a few."""
    monkeypatch.setattr(store, "MOST_FILES", FEW)


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(FolderPlace(tmp_path / "history"))


def test_nothing_is_there_before_the_first_run(history: History, tmp_path: Path) -> None:
    assert there(history) == []
    assert not (tmp_path / "history").exists(), "looking makes nothing"


def test_what_is_added_comes_back_with_its_figures(history: History) -> None:
    history.add([run(1, 0.091)], 1)
    (row,) = history.read().table.to_pylist()
    assert row["value"] == [0.091, 0.0]
    assert row["effect"][0] == pytest.approx(0.091 / 0.08)
    assert row["effect"][1] != row["effect"][1], "what is unknown is NaN"
    assert (row["commit"], row["branch"], row["series"]) == ("c1", "main", run(1).series)


def test_the_same_run_twice_counts_once(history: History) -> None:
    new, _ = history.add([run(1), run(2)], 1)
    again, _ = history.add([run(2), run(3)], 2)
    assert [len(new), len(again)] == [2, 1]
    assert there(history) == [run(number).run for number in (1, 2, 3)]


def test_another_verdict_replaces_and_keeps_the_commit_unless_one_is_named(history: History) -> None:
    history.add([run(1)], 1)
    history.add([run(1, verdict="rollback", commit="of another day")], 2)
    (row,) = history.read().table.to_pylist()
    assert (row["verdict"], row["commit"]) == ("rollback", "c1")
    assert history.add([run(1, verdict="rollback", commit="of another day")], 3)[0] == (), "and is no news any more"
    history.add([run(1, verdict="rollback", commit="named")], 4, said=True)
    (row,) = history.read().table.to_pylist()
    assert row["commit"] == "named"


def test_a_verdict_that_is_added_later_counts_whatever_the_clock_says(history: History) -> None:
    history.add([run(1)], 1000)
    assert len(history.add([run(1, verdict="rollback")], 10)[0]) == 1
    assert history.read().table["verdict"].to_pylist() == ["rollback"]
    assert history.add([run(1, verdict="rollback")], 5)[0] == (), "and is no news any more"


def test_many_small_files_become_few_and_hold_the_same(history: History, tmp_path: Path) -> None:
    for number in range(FEW + 20):
        history.add([run(number)], number)
        assert len(files(tmp_path / "history")) <= FEW
    assert there(history) == [run(number).run for number in range(FEW + 20)]
    assert not list((tmp_path / "history").glob(".*"))


def test_one_series_is_read_alone(history: History) -> None:
    other = {"scenario": "other"}
    history.add([run(number, definition=other if number % 3 else {"scenario": "nightly"}) for number in range(9)], 1)
    found = history.read(("run", "value"), run(0).series).table
    assert sorted(found["run"].to_pylist()) == [run(number).run for number in (0, 3, 6)]


class Meddled(FolderPlace):
    """Between a listing and what follows, somebody else does something, once."""

    def __init__(self, folder: Path, meddle: Any) -> None:
        super().__init__(folder)
        self.meddle = meddle

    def names(self) -> list[str]:
        found = super().names()
        meddle, self.meddle = self.meddle, lambda names: None
        return meddle(found) or found


def filled(folder: Path, count: int) -> History:
    """`count` files of one run each, not packed."""
    for number in range(count):
        part = History(FolderPlace(folder / f"part-{number}"))
        part.add([run(number)], number)
        (file,) = files(folder / f"part-{number}")
        (folder / "history").mkdir(exist_ok=True)
        file.rename(folder / "history" / file.name)
    return History(FolderPlace(folder / "history"))


def test_a_reader_whose_files_are_packed_away_meanwhile_sees_each_run_once(tmp_path: Path) -> None:
    other = filled(tmp_path, FEW + 1)
    reader = History(Meddled(tmp_path / "history", lambda names: other.pack()))
    assert there(reader) == [run(number).run for number in range(FEW + 1)]
    assert len(files(tmp_path / "history")) == 1


def test_a_listing_that_saw_neither_the_pack_nor_what_was_packed_is_not_believed(tmp_path: Path) -> None:
    """As a large folder, or a bucket, may list while another process packs."""
    other = filled(tmp_path, FEW + 1)

    def half(names: list[str]) -> list[str]:
        other.pack()
        return names[:3]

    reader = History(Meddled(tmp_path / "history", half))
    assert there(reader) == [run(number).run for number in range(FEW + 1)]


@pytest.mark.parametrize("added", [False, True])
def test_two_packers_at_once_lose_nothing(tmp_path: Path, added: bool) -> None:
    """The one packs after the other has listed; with `added` they do not even see the same files."""
    other = filled(tmp_path, FEW + 1)

    def meddle(_: list[str]) -> None:
        if added:
            other.add([run(900)], 900)
        other.pack()

    History(Meddled(tmp_path / "history", meddle)).pack()
    wanted = [*range(FEW + 1), *([900] if added else [])]
    assert there(other) == [run(number).run for number in wanted]


@pytest.mark.parametrize("left", ["pack only", "some gone"])
def test_a_packer_that_died_between_two_steps_left_everything(tmp_path: Path, left: str) -> None:
    class Dying(FolderPlace):
        removed = 0

        def remove(self, name: str) -> None:
            if left == "pack only" or self.removed == 5:
                raise KeyboardInterrupt
            self.removed += 1
            super().remove(name)

    filled(tmp_path, FEW + 1)
    with pytest.raises(KeyboardInterrupt):
        History(Dying(tmp_path / "history")).pack()
    history = History(FolderPlace(tmp_path / "history"))
    assert there(history) == [run(number).run for number in range(FEW + 1)]
    history.pack()
    assert there(history) == [run(number).run for number in range(FEW + 1)]


def test_what_a_killed_writer_left_is_taken_away_when_it_is_old(tmp_path: Path) -> None:
    history = filled(tmp_path, FEW + 1)
    old, young = (tmp_path / "history" / f".x.parquet.{name}.tmp" for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    history.pack()
    assert (old.exists(), young.exists()) == (False, True)


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign"])
def test_a_damaged_file_is_named_and_the_others_are_read(tmp_path: Path, damage: str) -> None:
    history = filled(tmp_path, FEW + 1)
    bad = files(tmp_path / "history")[0]
    data = bytearray(bad.read_bytes())
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "flipped":
        data[12] ^= 0xFF  # within a page: only its checksum tells
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"a": [1]}), bad)
        data = bytearray(bad.read_bytes())
    bad.write_bytes(data)
    contents = history.read()
    (line,) = contents.damaged
    assert bad.name in line
    assert "missing" in line
    assert "\n" not in line
    assert contents.table.num_rows == FEW
    history.pack()
    assert bad.exists(), "what cannot be read is never packed away"
    assert history.read().table.num_rows == FEW


def test_a_file_that_may_not_be_read_is_said_to_be_that(history: History, tmp_path: Path) -> None:
    history.add([run(1)], 1)
    (file,) = files(tmp_path / "history")
    file.unlink()
    file.symlink_to(file.name)  # as root may read everything: a loop
    (line,) = history.read().damaged
    assert "cannot be read (Too many levels of symbolic links)" in line


def test_a_later_format_is_said_to_be_one(history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = table.SCHEMA.with_metadata({table.FORMAT_KEY: b"9"})
    monkeypatch.setattr(table, "SCHEMA", later)
    history.add([run(1)], 1)
    (line,) = history.read().damaged
    assert "format 9" in line


def test_two_histories_become_one(tmp_path: Path) -> None:
    one, two = (History(FolderPlace(tmp_path / name)) for name in ("one", "two"))
    one.add([run(1), run(2)], 1)
    two.add([run(2, verdict="rollback")], 2)
    two.add([run(3)], 3)
    assert one.merge(two)[0] == 2
    assert one.merge(two)[0] == 0
    rows = {row["run"]: row["verdict"] for row in one.read().table.to_pylist()}
    assert rows == {run(1).run: "promote", run(2).run: "rollback", run(3).run: "promote"}
    for file in files(tmp_path / "two"):  # copying the files does the same
        file.rename(tmp_path / "one" / file.name)
    assert len(there(one)) == 3


def test_a_file_in_place_of_the_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "history").write_text("")
    with pytest.raises(UsageError, match="expected a folder that holds a history"):
        FolderPlace(tmp_path / "history")
