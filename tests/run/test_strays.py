"""Clients that name no version are on the highest READY one: seen before the load, and undone after it."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import Unreachable
from harness.judge import STRAYS
from harness.recording import Recording, read_table
from harness.run import strays
from harness.run.models import traffic
from harness.run.models.traffic import arrivals
from harness.run.strays import Blind, Guard, StrayCount
from harness.run.traffic import BLIND
from harness.telemetry import Sampler
from harness.triton import Counts
from tests.run.conftest import SCENARIO, Background, canary, only_folder
from tests.run.places import Client, Place, place
from tests.run.test_crash import wait_for_samples
from tests.waiting import until

SOON_S = 20.0
"""From the first request that version 2 answers to its unload: a fraction of it, but for a busy machine, and of the
100 s that the stage would last.
"""


def plain(there: Place) -> Path:
    """The same server, and a canary whose candidate lies in the repository already."""
    text = SCENARIO.replace("{server: embedded}", f'{{url: "{there.server.grpc_url}"}}')
    there.scenario.write_text(text.replace(", build: fp16", "").replace(", build: same", ""))
    there.store.joinpath("tiny", "2").rename(there.repository / "tiny" / "2")
    return there.scenario


def undone(done_verdict: dict, client: Client) -> None:
    """v2 was unloaded soon after its first stray, no request was lost, and the verdict says why."""
    taken = client.by(2)
    assert taken, "the client was taken over"
    assert taken[-1] - taken[0] < SOON_S
    assert {code for _, code, _ in client.answers} == {200}
    assert client.answers[-1][2] == "1", "and is back"
    assert done_verdict["verdict"] == "rollback"
    assert "reached v2 that this run did not send" in done_verdict["reason"]
    failed = [finding for finding in done_verdict["findings"] if finding["outcome"] == "fail"]
    assert [finding["metric"] for finding in failed] == ["traffic.strays"]


@pytest.mark.triton
def test_a_load_that_would_take_clients_over_is_refused(tmp_path: Path) -> None:
    with place(tmp_path) as there, Client(there.server.http_url) as client:
        until(lambda: len(client.answers) > 5, "the client is answered")
        done = canary("run", there.scenario, "--out", tmp_path / "out")
        assert done.code == 2
        assert "requests/s reach version 1 on grpc://" in done.stderr
        assert "target.versioned_clients: true" in done.stderr
        assert there.ready() == [1]
    assert client.by(2) == []
    assert list((tmp_path / "out").iterdir()) == [], "nothing was changed, so nothing is left"


@pytest.mark.triton
def test_strays_while_v2_is_deployed_are_undone_at_once(tmp_path: Path) -> None:
    with place(tmp_path) as there, Client(there.server.http_url) as client:
        until(lambda: len(client.answers) > 5, "the client is answered")
        done = canary("run", there.scenario, "--out", tmp_path / "out", "--json",
                      "--set", "target.versioned_clients=true", "--set", "stages.0.for=100s")  # fmt: skip
        assert done.code == 1, done.stderr
        assert there.ready() == [1]
        until(lambda: client.answers[-1][2] == "1", "the client is back")
    undone(done.verdict, client)
    folder = only_folder(tmp_path / "out")
    readings = Recording.open(folder).readings.to_pandas()
    assert readings[readings.metric == STRAYS].device.unique().tolist() == ["tiny/2"]
    live = (folder / "verdict.json").read_bytes()
    assert canary("judge", folder).code == 1
    assert (folder / "verdict.json").read_bytes() == live
    assert "its files stay in the repository" in done.stderr


@pytest.mark.triton
def test_any_candidate_that_is_loaded_is_refused_and_guarded(tmp_path: Path, background: Background) -> None:
    out = tmp_path / "out"
    with place(tmp_path) as there:
        scenario = plain(there)
        with Client(there.server.http_url) as client:
            until(lambda: len(client.answers) > 5, "the client is answered")
            done = canary("run", scenario, "--out", out)
            assert done.code == 2
            assert "target.versioned_clients: true" in done.stderr
            assert there.ready() == [1]
        run = background("run", scenario, "--out", out, "--json", "--set", "stages.0.for=100s")
        wait_for_samples(run, out, 0)
        with Client(there.server.http_url) as client:
            until(lambda: there.ready() == [1], "v2 is unloaded")
            until(lambda: bool(client.answers) and client.answers[-1][2] == "1", "the client is on v1")
        stdout, stderr = run.communicate(timeout=120)
        assert run.returncode == 1, stderr
    folder = only_folder(out)
    undone(json.loads(stdout), client)
    assert canary("judge", folder, "--json").stdout == stdout


class Counter:
    """Stands for a server: counts what was answered, may be away, and knows no version before it is loaded."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.failed = 0
        self.ensemble = False
        self.away = False
        self.asked_in_vain = threading.Event()

    def counts(self, _model: str) -> dict[int, Counts]:
        if self.away:
            self.asked_in_vain.set()
            raise Unreachable("grpc://h:1: no answer within 5 s")
        return {} if self.total is None else {2: Counts(self.total, self.failed)}

    def steps(self, _model: str) -> tuple[tuple[str, int], ...]:
        return (("tokenizer", 1), ("llm", 1)) if self.ensemble else ()


def counted(server: Counter, own: list[int]) -> StrayCount:
    return StrayCount(server, "tiny", 2, lambda: own[0])  # type: ignore[arg-type]


def test_whatever_the_order_our_own_requests_never_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is begun, then answered and counted by the server; the looks fall anywhere between."""
    monkeypatch.setattr("harness.run.strays.POLL_S", 0.0)
    rng = random.Random(5)
    for _ in range(200):
        server, own, flying, sent = Counter(), [rng.randrange(9)], 0, 0
        count = counted(server, own)
        server.total = 0
        for _ in range(100):
            if rng.random() < 0.5:
                own[0], flying, sent = own[0] + 1, flying + 1, sent + 1
            if flying and rng.random() < 0.5:
                server.total, flying = server.total + 1, flying - 1
            assert count.look() == 0
        strays = rng.randrange(1, 9)
        server.total += strays
        assert count.look() == max(strays - flying, 0), "all but as many as are in flight"


@pytest.mark.parametrize(("ensemble", "counted_as"), [(False, 1), (True, 2)])
def test_a_failed_request_of_an_ensemble_is_counted_twice_and_is_one(ensemble: bool, counted_as: int) -> None:
    server, own = Counter(), [0]
    count = counted(server, own)
    server.total, server.failed, server.ensemble, own[0] = 7, 3 * counted_as, ensemble, 10
    assert count.look() == 0
    server.failed += counted_as
    assert count.look() == 1


def test_a_count_never_falls_and_survives_an_unload() -> None:
    server, own = Counter(), [0]
    count = counted(server, own)
    server.total = 3
    assert count.look() == 3
    server.total = None
    own[0] = 2
    assert (count.look(), count.seen) == (3, 3)


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Counter, Guard]]:
    monkeypatch.setattr(strays, "POLL_S", 0.01)
    monkeypatch.setattr(strays, "BLIND_S", 0.2)
    monkeypatch.setattr(strays, "RECORD_S", 600.0)
    server = Counter()
    sampler = Sampler([], tmp_path / "readings.arrow", time.monotonic_ns(), 60.0)
    sampler.start()
    guard = Guard(counted(server, [0]), "tiny/2", sampler)
    guard.start()
    yield server, guard
    guard.stop()
    sampler.stop()


def test_the_guard_records_first_and_raises_the_alarm_then(watched: tuple[Counter, Guard], tmp_path: Path) -> None:
    server, guard = watched
    server.total = 4
    until(lambda: guard.alarm_ns is not None, "the alarm")
    rows = read_table(tmp_path, "readings").to_pylist()
    assert [(row["metric"], row["value"]) for row in rows] == [(STRAYS, 0.0), (STRAYS, 4.0)]
    assert rows[-1]["t_ns"] == guard.alarm_ns
    guard.check()


def test_a_guard_that_sees_nothing_for_long_ends_the_run(watched: tuple[Counter, Guard]) -> None:
    server, guard = watched
    server.away = True

    def raised() -> bool:
        try:
            guard.check()
        except Unreachable:
            return True
        return False

    until(raised, "the guard says that it is blind")


def test_a_guard_that_is_blind_for_a_moment_goes_on(
    watched: tuple[Counter, Guard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strays, "BLIND_S", 60.0)
    server, guard = watched
    server.away = True
    assert server.asked_in_vain.wait(60)
    server.away, server.total = False, 1
    until(lambda: guard.alarm_ns is not None, "the alarm")
    guard.check()


class Late:
    """Stands for a Triton that counts an answer a moment after it gave it."""

    url = "grpc://h:1"

    def __init__(self) -> None:
        self.answered = self.counted = 0

    def counts(self, _model: str) -> dict[int, Counts]:
        return {1: Counts(self.counted, 0)}

    def steps(self, _model: str) -> tuple[()]:
        return ()


def test_an_answer_that_is_counted_late_is_no_stray(monkeypatch: pytest.MonkeyPatch) -> None:
    triton = Late()
    triton.answered = 3

    def sleep(_seconds: float) -> None:
        triton.counted = triton.answered

    monkeypatch.setattr(strays.time, "sleep", sleep)
    count = StrayCount(triton, "tiny", 1, lambda: 0)  # type: ignore[arg-type]
    sleep(1.0)
    assert count.look() == 0


def test_the_last_look_sees_a_stray_that_was_answered_just_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside one of our own that is not counted yet either: a look at once would see nothing."""
    triton, own = Late(), [0]
    monkeypatch.setattr(strays.time, "sleep", lambda _seconds: setattr(triton, "counted", triton.answered))
    count = StrayCount(triton, "tiny", 1, lambda: own[0])  # type: ignore[arg-type]
    own[0], triton.answered = 1, 2
    assert count.look() == 0
    assert count.last() == 1


def test_a_request_that_was_answered_just_before_the_watch_is_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    triton = Late()
    triton.answered = 3
    monkeypatch.setattr(traffic.time, "sleep", lambda _seconds: setattr(triton, "counted", triton.answered))
    (seen,) = arrivals([triton], "tiny", {triton.url: 1}, 0.01)  # type: ignore[list-item]
    assert (seen.requests, seen.note) == (0, "")


def test_who_cannot_tell_ours_from_theirs_any_more_says_so(tmp_path: Path) -> None:
    """Then nobody has looked: no reading says that there were none."""
    triton, own = Late(), [0]
    count = StrayCount(triton, "tiny", 1, lambda: own[0])  # type: ignore[arg-type]
    own[0] = BLIND
    triton.counted = 90
    with pytest.raises(Blind):
        count.look()
    sampler = Sampler([], tmp_path / "readings.arrow", time.monotonic_ns(), 1.0)
    sampler.start()
    guard = Guard(count, "tiny/1", sampler)
    guard.start()
    guard._thread.join(60)
    assert not guard._thread.is_alive()
    guard.check()
    guard.stop()
    sampler.stop()
    seen = read_table(tmp_path, "readings")
    assert seen is not None
    assert seen["metric"].to_pylist() == [STRAYS], "the one from before it began"
