"""Putting back goes on where it can: a dead Triton or a full disk must not hold the traffic."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from harness.errors import RecordingError
from harness.ingress import OwnSplit
from harness.run.journal import Journal, not_put_back, read
from harness.run.put_back import put_back
from harness.run.world import route


def moved(folder: Path) -> tuple[Journal, OwnSplit, list[float]]:
    """A run that had given the candidate 10 %, and what its generator was told."""
    told: list[float] = []
    journal, split = Journal(folder), OwnSplit(folder / "split.json", push=told.append)
    route(journal, split, 0.1)
    return journal, split, told


def test_traffic_goes_back_and_only_once(tmp_path: Path) -> None:
    journal, split, told = moved(tmp_path)
    lines: list[str] = []
    assert put_back(journal, lines.append, {split.target: split}) == []
    assert put_back(journal, lines.append, {split.target: split}) == []
    assert told == [0.1, 0.0]
    assert split.read() == 0.0
    assert lines == ["traffic: 100% to the baseline"]


def test_without_the_run_the_file_of_the_split_is_put_back(tmp_path: Path) -> None:
    journal, split, told = moved(tmp_path)
    put_back(journal, lambda _: None)
    assert (split.read(), told) == (0.0, [0.1])


def test_a_dead_triton_is_named_and_does_not_stop_the_rest(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"grpc://127.0.0.1:{taken.getsockname()[1]}"
    config = tmp_path / "config.pbtxt"
    journal, split, _ = moved(tmp_path)
    with journal.action("config.write", str(config), before='name: "m"\n', wanted=[2]):
        config.write_text("changed")
    with journal.action("models.set", f"{url}/m", before=[1], wanted=[1, 2]):
        pass
    (failure,) = put_back(journal, lambda _: None)
    assert failure.startswith(f"models.set {url}/m: ")
    assert f"triton-canary recover {tmp_path}" in failure
    assert config.read_text() == 'name: "m"\n'
    assert split.read() == 0.0
    assert [entry.action for entry in not_put_back(read(tmp_path))] == ["models.set"]


def test_a_full_disk_does_not_hold_the_traffic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, split, told = moved(tmp_path)

    def full(_self: Journal, _line: object) -> None:
        raise RecordingError("no space left on device")

    monkeypatch.setattr(Journal, "_write", full)
    put_back(journal, lambda _: None, {split.target: split})
    assert told == [0.1, 0.0]
    with pytest.raises(RecordingError):
        route(journal, split, 0.5)
    assert told == [0.1, 0.0], "a new action is not begun where it cannot be journaled"


def test_the_journal_names_what_an_undo_undoes(tmp_path: Path) -> None:
    journal, _, _ = moved(tmp_path)
    put_back(journal, lambda _: None)
    last = json.loads((tmp_path / "journal.jsonl").read_text().splitlines()[-1])
    assert (last["undoes"], last["before"], last["wanted"], last["state"]) == (1, 0.1, 0.0, "done")
