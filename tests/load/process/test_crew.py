"""Master and workers, on a simulated network with clocks that are apart: what each of them ends up knowing."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from harness.load.process.master import LOST_S, PROTOCOL, STUCK_S
from harness.load.process.worker import GIVE_UP_S
from harness.load.spec import LoadSpec
from harness.types import StagePlan
from tests.load.conftest import make_spec
from tests.load.process.simulated import SECOND, Host, World

STAGE = StagePlan(0, "paired", "poisson", 2.0, 0.5, rate=10.0)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def spec_for(world: World) -> LoadSpec:
    return make_spec(world.folder, t0_ns=world.now_ns - 3 * SECOND)


def started(world: World, *hosts: Host) -> None:
    world.prepare(spec_for(world), len(hosts))
    world.run_until("ready")


def stage(world: World, plan: StagePlan = STAGE) -> None:
    world.master.command({"do": "stage", "plan": asdict(plan)})


def stop(world: World) -> None:
    world.master.command({"do": "stop"})
    world.run_until("stopped")


def whole(world: World, host: Host) -> None:
    """The master's copy is the worker's file."""
    number = host.load.specs[-1].worker
    assert (world.folder / f"samples-{number}.arrow").read_bytes() == host.load.written
    assert world.run_until("worker_done", worker=number)["damaged"] == []
    world.run(LOST_S + 2)
    assert host.over == 0, host.worker.failure


@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_a_run_of_three_hosts(run_folder: Path, loss: float) -> None:
    world = World(run_folder, seed=4, loss=loss, latency_s=0.01)
    hosts = [world.host(name, ahead_s=ahead) for name, ahead in (("a", 0.0), ("b", 86_400.0), ("c", -4.5))]
    started(world, *hosts)
    stage(world)
    world.run_until("stage_done", index=0)
    for host in hosts:
        # What is told as done can be read here.
        number = host.load.specs[-1].worker
        assert b"0 done" in (run_folder / f"samples-{number}.arrow").read_bytes()
    world.master.command({"do": "route", "candidate_share": 0.0})
    stop(world)
    for host in hosts:
        whole(world, host)
        assert host.load.commands == ["route 0.0"]
    specs = [host.load.specs[-1] for host in hosts]
    assert sorted(spec.worker for spec in specs) == [0, 1, 2]
    assert {spec.workers for spec in specs} == {3}
    assert [name for name in world.names() if not name.startswith("worker")] == [
        "ready", "stage_begun", "stage_done", "stopped",
    ]  # fmt: skip


def test_all_begin_at_the_same_moment_by_their_own_clocks(run_folder: Path) -> None:
    world = World(run_folder, seed=1, latency_s=0.02)
    hosts = [world.host(name, ahead_s=ahead) for name, ahead in (("a", 0.0), ("b", 1e6), ("c", -777.7))]
    started(world, *hosts)
    before_ns = world.now_ns
    stage(world)
    begun = world.run_until("stage_begun", index=0)
    begins_ns = [host.load.begins[0][1] for host in hosts]
    assert max(begins_ns) - min(begins_ns) < 0.02 * SECOND
    assert all(ns > before_ns for ns in begins_ns)
    t0_ns = before_ns - begins_ns[0]
    assert t0_ns < 0
    assert begun["t_ns"] > 0
    world.run(5)
    for host in hosts:
        # What each says of its uncertainty covers the truth.
        true_error = abs(host.load.specs[-1].t0_ns - (host.ahead_ns + hosts[0].load.specs[-1].t0_ns)) / SECOND
        assert host.load.errors_s
        assert true_error <= host.load.errors_s[-1] + hosts[0].load.errors_s[-1]
        assert host.load.errors_s[-1] < 0.03


def test_local_workers_write_into_the_run_and_ship_nothing(run_folder: Path) -> None:
    world = World(run_folder)
    hosts = [world.host(name, local=True) for name in "ab"]
    spec = spec_for(world)
    world.prepare(spec, 2)
    world.run_until("ready")
    assert {host.load.specs[-1].t0_ns for host in hosts} == {spec.t0_ns}
    assert [host.load.specs[-1].folder for host in hosts] == [run_folder, run_folder]
    stage(world)
    world.run_until("stage_done", index=0)
    stop(world)
    assert {event["worker"]: event["files"] for event in world.events if event["event"] == "worker_done"} == {
        0: {},
        1: {},
    }
    assert [host.over for host in hosts] == [0, 0]
    assert not any(host.load.errors_s for host in hosts)


def test_a_worker_that_dies_loses_nothing_that_was_acknowledged(run_folder: Path) -> None:
    world = World(run_folder, seed=2, latency_s=0.01)
    one, two = world.host("one"), world.host("two")
    started(world, one, two)
    stage(world)
    world.run(1.0)
    one.dead = True
    died_ns = one.clock_ns() - one.load.specs[-1].t0_ns
    number = one.load.specs[-1].worker
    world.run(0.1)
    acknowledged = (run_folder / f"samples-{number}.arrow").read_bytes()
    assert acknowledged.count(b"\n") >= 5
    assert one.load.written.startswith(acknowledged)
    lost = world.run_until("worker_lost", worker=number)
    assert lost["host"] == "one"
    assert lost["reason"] == f"was silent for {LOST_S:g} s"
    # Its last word: what it sent until then is here.
    assert abs(lost["t_ns"] - died_ns) < 0.3 * SECOND
    # The others' word is enough from now on.
    world.run_until("stage_done", index=0)
    stop(world)
    whole(world, two)
    assert (run_folder / f"samples-{number}.arrow").read_bytes() == acknowledged


def test_a_local_process_that_has_ended_is_lost_at_once(run_folder: Path) -> None:
    world = World(run_folder)
    one, two = world.host("one", local=True), world.host("two", local=True)
    started(world, one, two)
    stage(world)
    one.dead = True
    world.master.command({"do": "gone", "pid": 1, "reason": "was killed (SIGKILL)"})
    assert world.events[-1]["event"] == "worker_lost"
    assert world.events[-1]["reason"] == "was killed (SIGKILL)"
    world.run_until("stage_done", index=0)
    before_ns = world.now_ns
    stop(world)
    assert world.now_ns - before_ns < 3 * SECOND
    assert two.over == 0


def test_a_short_cut_loses_nothing_and_nobody(run_folder: Path) -> None:
    world = World(run_folder, latency_s=0.01)
    one, two = world.host("one"), world.host("two")
    started(world, one, two)
    stage(world, StagePlan(0, "paired", "poisson", 30.0, 0.5, rate=10.0))
    world.run(2.0)
    one.cut = True
    world.run(LOST_S - 2)
    number = one.load.specs[-1].worker
    behind = len(one.load.written) - (run_folder / f"samples-{number}.arrow").stat().st_size
    assert behind > 100
    assert one.reconnects >= 2
    one.cut = False
    world.run(2.0)
    # The simulated load has written 0.25 s since the last frame at most.
    assert len(one.load.written) - (run_folder / f"samples-{number}.arrow").stat().st_size < 30
    world.run_until("stage_done", index=0)
    stop(world)
    whole(world, one)
    whole(world, two)
    assert "worker_lost" not in world.names()


def test_a_long_cut_ends_the_workers_part_and_what_it_recorded_still_comes(run_folder: Path) -> None:
    world = World(run_folder, latency_s=0.01)
    one, two = world.host("one"), world.host("two")
    started(world, one, two)
    stage(world, StagePlan(0, "paired", "poisson", 60.0, 0.5, rate=10.0))
    world.run(5.0)
    one.cut = True
    world.run_until("worker_lost")
    world.run(1)
    # Both take the same silence as the end: nobody sends load for which nobody answers.
    assert one.load.stopped
    assert not two.load.stopped
    number = one.load.specs[-1].worker
    world.run(30 - LOST_S)
    one.cut = False
    done = world.run_until("worker_done", worker=number)
    assert done["damaged"] == []
    assert (run_folder / f"samples-{number}.arrow").read_bytes() == one.load.written
    assert "was silent" in one.worker.failure
    world.run_until("stage_done", index=0)
    stop(world)
    whole(world, two)
    assert [name for name in world.names() if name == "worker_lost"] == ["worker_lost"]


def test_a_master_that_is_gone_ends_its_workers(run_folder: Path) -> None:
    world = World(run_folder)
    host = world.host("one")
    started(world, host)
    stage(world, StagePlan(0, "paired", "poisson", 600.0, 0.5, rate=10.0))
    world.run(3)
    host.cut = True
    world.run(LOST_S + 2)
    assert host.load.stopped
    world.run(GIVE_UP_S)
    assert host.over == 4
    assert "was silent" in host.worker.failure


def test_when_the_last_worker_is_lost_the_run_cannot_go_on(run_folder: Path) -> None:
    world = World(run_folder)
    host = world.host("only")
    started(world, host)
    stage(world)
    host.dead = True
    error = world.run_until("error")
    assert error["kind"] == "world"
    assert error["message"].startswith("no load worker is left: the last one (on only) was silent")
    assert world.master.over


def test_a_worker_whose_load_fails_is_lost_and_its_files_are_kept(run_folder: Path) -> None:
    world = World(run_folder)
    one, two = world.host("one"), world.host("two")
    started(world, one, two)
    stage(world)
    world.run(0.7)
    one.load.fail("its disk is full")
    lost = world.run_until("worker_lost")
    assert lost["reason"] == "its disk is full"
    world.run_until("stage_done", index=0)
    stop(world)
    number = one.load.specs[-1].worker
    assert (run_folder / f"samples-{number}.arrow").read_bytes() == one.load.written
    whole(world, two)


def test_a_worker_whose_load_hangs_is_not_awaited_for_ever(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its word still comes (the line is idle), but its load neither ends nor writes."""
    world = World(run_folder)
    one, two = world.host("one"), world.host("two")
    started(world, one, two)
    stage(world)
    world.run_until("stage_done", index=0)
    monkeypatch.setattr(one.load, "stop", lambda: None)
    world.master.command({"do": "stop"})
    lost = world.run_until("worker_lost", worker=one.load.specs[-1].worker)
    assert lost["reason"] == f"did not come to an end within {STUCK_S:g} s"
    assert lost["done"] == [0]
    world.run_until("stopped", deadline_s=10.0)
    whole(world, two)


def test_what_cannot_be_prepared_is_the_runs_error_not_a_lost_worker(run_folder: Path) -> None:
    world = World(run_folder)
    one, two = world.host("one"), world.host("two")
    one.load.failing = two.load.failing = {"event": "error", "kind": "usage", "message": "no such input"}
    world.prepare(spec_for(world), 2)
    assert world.run_until("error")["message"] == "no such input"
    assert "worker_lost" not in world.names()
    world.run(2)
    assert [host.load.stopped or host.over is not None for host in (one, two)]


def test_an_ended_stage_and_the_next_are_told_apart(run_folder: Path) -> None:
    world = World(run_folder, loss=0.2, seed=8, latency_s=0.01)
    hosts = [world.host(name) for name in "ab"]
    started(world, *hosts)
    stage(world, StagePlan(0, "paired", "poisson", 100.0, 0.5, rate=10.0))
    world.run(3)
    world.master.command({"do": "end"})
    world.run_until("stage_done", index=0)
    stage(world, StagePlan(1, "paired", "poisson", 1.0, 0.5, rate=10.0))
    world.run_until("stage_done", index=1)
    stop(world)
    for host in hosts:
        whole(world, host)


# Who may join


def refusal(world: World, host: Host) -> str:
    world.run(5)
    assert host.over == 4
    assert not host.load.specs, "was given the spec"
    return host.worker.failure


def test_without_the_token_nobody_joins_and_nothing_is_told(run_folder: Path) -> None:
    world = World(run_folder)
    stranger = world.host("stranger", token="guess")
    world.prepare(spec_for(world), 1)
    assert "token" in refusal(world, stranger)
    assert "worker_joined" not in world.names()


def test_a_worker_that_does_not_check_the_master_still_needs_the_token(run_folder: Path) -> None:
    world = World(run_folder)
    stranger = world.host("stranger")
    stranger.dead = True  # only what the test sends
    world.prepare(spec_for(world), 1)
    said: list[dict[str, object]] = []
    world.master._send = lambda client, data: said.append(data)
    hello = {"kind": "hello", "protocol": PROTOCOL, "nonce": "n", "host": "x", "pid": 1, "local": True}
    world.master.heard("x", hello)
    world.master.heard("x", {"kind": "proof", "proof": said[-1]["proof"]})
    assert said[-1] == {"kind": "refused", "reason": "the token is not the one of this run"}
    world.master.heard("x", {"kind": "frame", "ack": 0})
    world.master.heard("y", {"kind": "proof", "proof": "?"})
    world.master.heard("y", {"kind": "hello"})
    world.master.tick()
    assert [data["kind"] for data in said] == ["challenge", "refused", "refused"]


def test_who_comes_late_is_refused_in_one_line(run_folder: Path) -> None:
    world = World(run_folder)
    started(world, world.host("one"))
    late = world.host("late")
    assert refusal(world, late).endswith("the run has its 1 load workers; none can join any more")
    stage(world)
    world.run_until("stage_done", index=0)


def test_who_comes_before_the_run_waits(run_folder: Path) -> None:
    world = World(run_folder)
    early = world.host("early")
    world.run(20)
    assert early.over is None
    started(world, early)


def test_another_version_is_refused(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(run_folder)
    monkeypatch.setattr("harness.load.process.worker.PROTOCOL", "0.0.9/1")
    old = world.host("old")
    world.prepare(spec_for(world), 1)
    assert "install the same triton-canary everywhere" in refusal(world, old)


def test_a_worker_that_talks_nonsense_is_lost_and_the_run_goes_on(run_folder: Path) -> None:
    world = World(run_folder)
    one, two = world.host("one"), world.host("two")
    started(world, one, two)
    stage(world)
    frame = {"kind": "frame", "ack": 0, "mail": [], "behind": 0, "clock_error_s": 0.0, "asked_ns": 0}
    world.master.heard("one", {**frame, "ranges": [["../run.json", 0, 4, b"evil"]]})
    lost = world.run_until("worker_lost")
    assert "sent what it should not" in lost["reason"]
    world.run_until("stage_done", index=0)
    stop(world)
    whole(world, two)
    assert not (run_folder.parent / "run.json").exists()


def test_an_idle_run_costs_a_few_frames_a_second(run_folder: Path) -> None:
    world = World(run_folder, latency_s=0.001)
    started(world, world.host("one"))
    before = world.frames
    world.run(60)
    assert world.frames - before <= 5 * 60
