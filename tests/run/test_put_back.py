"""Putting back goes on where it can: a dead Triton or a full disk must not hold the traffic."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from harness.errors import RecordingError
from harness.ingress import OwnSplit
from harness.run.journal import FILE, Journal, not_put_back, read
from harness.run.moving import route
from harness.run.put_back import Live, put_back


def moved(folder: Path) -> tuple[Journal, OwnSplit, list[float]]:
    """A run that had given the candidate 10 %, and what its generator was told."""
    told: list[float] = []
    journal, split = Journal(folder), OwnSplit(folder / "split.json", push=told.append)
    route(journal, split, 0.1)
    return journal, split, told


def test_traffic_goes_back_and_only_once(tmp_path: Path) -> None:
    journal, split, told = moved(tmp_path)
    lines: list[str] = []
    assert put_back(journal, lines.append, Live({split.target: split})) == []
    assert put_back(journal, lines.append, Live({split.target: split})) == []
    assert told == [0.1, 0.0]
    assert split.read().candidate_share == 0.0
    assert lines == ["100 % to the baseline, as before"]


def test_without_the_run_the_file_of_the_split_is_put_back(tmp_path: Path) -> None:
    journal, split, told = moved(tmp_path)
    put_back(journal, lambda _: None)
    assert (split.read().candidate_share, told) == (0.0, [0.1])


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
    assert split.read().candidate_share == 0.0
    assert [entry.action for entry in not_put_back(read(tmp_path))] == ["models.set"]


def test_a_full_disk_does_not_hold_the_traffic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, split, told = moved(tmp_path)

    def full(_self: Journal, _line: object) -> None:
        raise RecordingError("no space left on device")

    monkeypatch.setattr(Journal, "_write", full)
    put_back(journal, lambda _: None, Live({split.target: split}))
    assert told == [0.1, 0.0]
    with pytest.raises(RecordingError):
        route(journal, split, 0.5)
    assert told == [0.1, 0.0], "a new action is not begun where it cannot be journaled"


def test_the_journal_names_what_an_undo_undoes(tmp_path: Path) -> None:
    journal, _, _ = moved(tmp_path)
    put_back(journal, lambda _: None)
    last = json.loads((tmp_path / "journal.jsonl").read_text().splitlines()[-1])
    assert (last["undoes"], last["wanted"], last["state"]) == ([1], 0.0, "done")


class Served:
    """Stands for a connection to a Triton; keeps every set that it was asked for."""

    def __init__(self, *now: int) -> None:
        self.now, self.asked = now, list[tuple[int, ...]]()

    def loaded(self, _model: str) -> tuple[int, ...]:
        return self.now

    def set_versions(self, _model: str, desired: list[int], *, repository: object = None) -> None:
        self.now = tuple(desired)
        self.asked.append(self.now)


def test_the_states_between_are_not_walked_through_again(tmp_path: Path) -> None:
    """After a rollback a step failed: the bad version must get neither memory nor traffic again."""
    journal, split, told = moved(tmp_path)
    served = Served(1)
    for before, wanted in (([1], [1, 2]), ([1, 2], [1])):
        with journal.action("models.set", "grpc://h:1/m", before=before, wanted=wanted):
            pass
    for share in (0.5, 0.0):
        route(journal, split, share)
    told.clear()
    live = Live({split.target: split}, {"grpc://h:1": served})  # type: ignore[dict-item]
    assert put_back(journal, lambda _: None, live) == []
    assert told == [0.0]
    assert all(2 not in versions for versions in served.asked)
    assert not_put_back(read(tmp_path)) == []


def test_a_baseline_that_was_unloaded_serves_before_it_gets_traffic(tmp_path: Path) -> None:
    journal, split, _ = moved(tmp_path)
    served, order = Served(2), list[str]()
    with journal.action("models.set", "grpc://h:1/m", before=[1, 2], wanted=[2]):
        pass
    split._push = lambda share: order.append(f"{share} while {served.now} serve")
    put_back(journal, lambda _: None, Live({split.target: split}, {"grpc://h:1": served}))  # type: ignore[dict-item]
    assert order == ["0.0 while (1, 2) serve"]


def test_a_damaged_entry_does_not_hold_the_rest(tmp_path: Path) -> None:
    journal, split, _ = moved(tmp_path)
    with journal.action("models.set", "grpc://h:1/m", before="not versions", wanted=[1]):
        pass
    (failure,) = put_back(journal, lambda _: None, Live({split.target: split}, {"grpc://h:1": Served(1)}))  # type: ignore[dict-item]
    assert failure.startswith("models.set")
    assert split.read().candidate_share == 0.0


def test_after_a_crash_the_headers_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CANARY_TOKEN", "a-secret-of-ours")
    asked: list[str | None] = []

    class Triton(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.headers["Authorization"])
            self.send_error(403)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Triton) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            journal = Journal(tmp_path)
            with journal.action("models.set", f"http://127.0.0.1:{server.server_port}/m", before=[1], wanted=[1, 2]):
                pass
            (failure,) = put_back(journal, lambda _: None)
        finally:
            server.shutdown()
            thread.join()
    assert set(asked) == {"Bearer a-secret-of-ours"}
    assert "secret" not in failure + (tmp_path / FILE).read_text()
