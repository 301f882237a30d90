"""A generator that cannot keep up, and one that is ended by its own mistakes: nothing else may stop with it."""

from __future__ import annotations

import resource
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import RecordingError
from harness.load.engine.dispatch import BURST, Over, Stage
from harness.load.engine.engine import Engine
from harness.load.engine.loop import Loop
from harness.load.outcome import GENERATOR
from harness.scenario.plan import requests
from harness.types import PlannedRequest, StagePlan
from tests.load.conftest import make_spec, rows
from tests.load.engine.conftest import Script, run_until

PLAIN = b'HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{"model_version":"1"}'


def test_who_is_behind_still_ends_in_time_flushes_and_says_what_was_never_sent(loop: Loop) -> None:
    """What is overdue must not stand before every other timer for ever."""
    plan = StagePlan(0, "split", "constant", 0.5, 0.0, rate=100_000.0)
    planned = (PlannedRequest(n, n * 10_000, 0, ("baseline",)) for n in range(50_000))
    done: list[bool] = []
    ticks: list[int] = []

    def slow(request: PlannedRequest, due_ns: int, over: Over) -> None:
        time.sleep(0.0001)
        over(False)

    def tick() -> None:
        ticks.append(loop.now_ns())
        if not done:
            loop.after(0.01, tick)

    stage = Stage(plan, planned, slow, loop, lambda: done.append(True))
    tick()
    begin_ns = loop.now_ns()
    stage.begin(begin_ns)
    run_until(loop, lambda: bool(done))
    sent = 50_000 - stage.unsent
    assert 0 < sent < 10_000
    # Each time it takes 10 ms, at most 100 requests, and the bursts before and behind them.
    assert len(ticks) >= min(5, sent // (6 * BURST)), "other timers had their turns"
    assert max(ticks) - begin_ns < 30e9


def answering(connection: socket.socket, _: int) -> None:
    while data := connection.recv(65536):
        connection.sendall(PLAIN * data.count(b"POST "))


def run_engine(engine: Engine) -> tuple[threading.Thread, list[BaseException]]:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            engine.run()
        except BaseException as error:  # noqa: BLE001  the test looks at it
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, errors


class Events:
    def __init__(self) -> None:
        self.seen: list[dict[str, object]] = []
        self._more = threading.Condition()

    def emit(self, event: dict[str, object]) -> None:
        with self._more:
            self.seen.append(event)
            self._more.notify_all()

    def wait(self, name: str) -> None:
        with self._more:
            assert self._more.wait_for(lambda: any(e["event"] == name for e in self.seen), 60), f"no {name}"


@pytest.mark.parametrize("connections", [None, 2])
def test_an_engine_that_fails_in_mid_stage_ends(
    tmp_path: Path, script: Callable[..., Script], connections: int | None
) -> None:
    """A closed loop would otherwise ask for the next request for every one that is cancelled."""
    events = Events()
    spec = make_spec(tmp_path, url=f"http://127.0.0.1:{script(answering).port}", connections=connections)
    engine = Engine(spec, requests, events.emit, lambda *_: None)
    thread, errors = run_engine(engine)
    events.wait("ready")

    def full() -> None:
        raise RecordingError("no space left")

    engine.stage(StagePlan(0, "interleaved", "closed", 600.0, 0.5, in_flight=8))
    events.wait("stage_begun")
    engine._recorder.flush = full  # type: ignore[method-assign]
    thread.join(60)
    assert not thread.is_alive()
    assert [type(error) for error in errors] == [RecordingError]
    engine.stop()  # after its end: nothing happens


def test_a_stage_that_is_done_has_its_last_request_on_disk(tmp_path: Path, script: Callable[..., Script]) -> None:
    events = Events()
    found: list[tuple[int, int]] = []
    spec = make_spec(tmp_path, url=f"http://127.0.0.1:{script(answering).port}")
    begun: list[str] = []

    def emit(event: dict[str, object]) -> None:
        if event["event"] == "stage_done":
            found.append((len(rows(tmp_path)), engine._begun_so_far()))  # type: ignore[attr-defined]
        events.emit(event)

    engine = Engine(spec, requests, emit, lambda *_: None)
    engine._begun_so_far = lambda: len(begun)  # type: ignore[attr-defined]
    thread, errors = run_engine(engine)
    events.wait("ready")
    count = engine._recorder.begun

    def counted(arm: str) -> None:
        begun.append(arm)
        count(arm)  # type: ignore[arg-type]

    engine._recorder.begun = counted  # type: ignore[assignment]
    for index in range(5):
        engine.stage(StagePlan(index, "interleaved", "closed", 0.1, 0.5, in_flight=1))
        end = time.monotonic() + 60
        while len(found) <= index:
            assert time.monotonic() < end
            time.sleep(0.005)
    engine.stop()
    thread.join(60)
    assert not errors
    assert [on_disk for on_disk, _ in found] == [sent for _, sent in found]


def test_a_stage_that_was_cut_off_is_not_said_to_be_done(tmp_path: Path, script: Callable[..., Script]) -> None:
    events = Events()
    spec = make_spec(tmp_path, url=f"http://127.0.0.1:{script(answering).port}")
    engine = Engine(spec, requests, events.emit, lambda *_: None)
    thread, errors = run_engine(engine)
    events.wait("ready")
    engine.stage(StagePlan(0, "interleaved", "closed", 600.0, 0.5, in_flight=1))
    events.wait("stage_begun")
    engine.stop()
    thread.join(60)
    assert not errors
    assert [event["event"] for event in events.seen] == ["ready", "stage_begun", "stopped"]


def test_a_closed_loop_without_a_free_socket_does_not_spin_and_ends(tmp_path: Path) -> None:
    """Everything else goes on: flushes, looks at itself, and the stage's end."""
    events = Events()
    # Nobody is there: no connection is left from before.
    engine = Engine(make_spec(tmp_path, url="http://127.0.0.1:1"), requests, events.emit, lambda *_: None)
    thread, errors = run_engine(engine)
    events.wait("ready")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        engine.stage(StagePlan(0, "interleaved", "closed", 1.5, 0.5, in_flight=2))
        events.wait("stage_done")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    engine.stop()
    thread.join(60)
    assert not errors
    lost = [s for s in rows(tmp_path) if s["error"] == GENERATOR]
    assert {s["status"] for s in lost} == {"cancelled"}
    # Two slots, a pause of 50 ms a turn: 62 at most.
    assert 2 <= len(lost) <= 64
    assert {r["metric"] for r in rows(tmp_path, "readings")} >= {"rss", "in_flight"}


def test_a_closed_loop_on_a_server_that_hangs_up_does_not_spin(tmp_path: Path, script: Callable[..., Script]) -> None:
    events = Events()
    server = script(lambda connection, _: connection.close())
    spec = make_spec(tmp_path, url=f"http://127.0.0.1:{server.port}")
    engine = Engine(spec, requests, events.emit, lambda *_: None)
    thread, errors = run_engine(engine)
    events.wait("ready")
    engine.stage(StagePlan(0, "interleaved", "closed", 1.0, 0.5, in_flight=2))
    events.wait("stage_done")
    engine.stop()
    thread.join(60)
    assert not errors
    samples = rows(tmp_path)
    assert {s["status"] for s in samples} == {"error"}
    # Two slots, a pause of 50 ms a turn: 42 at most.
    assert 2 <= len(samples) <= 44
