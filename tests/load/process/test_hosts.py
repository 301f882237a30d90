"""Workers on other hosts (network namespaces with clocks of their own), and a real Triton here."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.embedded import EmbeddedServer
from harness.load import Generator, Listen
from harness.load.process.master import LOST_S
from harness.recording.stream import END_OF_STREAM
from harness.types import StagePlan
from tests.load.conftest import account, make_spec, rows, wait_for
from tests.load.process.hosts import Forwarder, Host, unavailable
from tests.processes import family

pytestmark = [
    pytest.mark.triton,
    pytest.mark.slow,
    pytest.mark.skipif(bool(reason := unavailable()), reason=reason),
]

AHEAD_S = 90_000


@dataclass
class Site:
    """Two other hosts, a run that waits for a worker of each, and those workers."""

    folder: Path
    hosts: list[Host]
    generator: Generator
    workers: list[subprocess.Popen[str]]
    port: int

    def start(self) -> None:
        self.generator.start(120, self._waiting)

    def _waiting(self, _: object) -> None:
        for worker in self.workers:
            assert worker.poll() is None, ended(worker)

    def stop(self) -> None:
        self.generator.stop()

    def host_of(self, worker: int) -> int:
        """Which of the hosts has this worker."""
        pid = next(record["pid"] for record in self.generator.roster.records if record["worker"] == worker)
        return next(i for i, process in enumerate(self.workers) if pid in {p.pid for p in family(process.pid)})


def free_port() -> int:
    with socket.create_server(("", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def site(tiny_server: EmbeddedServer, tmp_path: Path) -> Iterator[Site]:
    folder = tmp_path / "run"
    folder.mkdir()
    with ExitStack() as stack:
        hosts = [stack.enter_context(Host()), stack.enter_context(Host(ahead_s=AHEAD_S))]
        forwarder = stack.enter_context(Forwarder(int(tiny_server.grpc_url.rpartition(":")[2])))
        port = free_port()
        spec = make_spec(folder, url=f"grpc://{hosts[0].here}:{forwarder.port}")
        generator = Generator(spec, folder / "load.log", workers=2, listen=Listen("0.0.0.0", port, "secret"))
        stack.enter_context(generator)
        workers = [host.worker(port, "secret", tmp_path / host.name) for host in hosts]
        yield Site(folder, hosts, generator, workers, port)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit code and what it said."""
    code = process.wait(90)
    assert process.stdout
    return code, process.stdout.read()


def at_worker(site: Site, worker: int) -> list[dict[str, Any]]:
    return [row for row in rows(site.folder) if row["worker"] == worker]


def wait_until(site: Site, what: str, seconds: float, true: Any) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"did not happen: {what}"
        site.generator.events(0.1)


def test_two_hosts_send_one_plan_and_every_byte_arrives_through_a_cut_line(site: Site, tmp_path: Path) -> None:
    site.start()
    plan = StagePlan(0, "paired", "poisson", 12.0, 0.5, rate=40.0)
    site.generator.stage(plan)
    begin_ns = wait_for(site.generator, "stage_begun", 0)["t_ns"]
    wait_until(site, "samples of both", 30, lambda: all(len(at_worker(site, worker)) > 20 for worker in (0, 1)))
    # The second host's line is taken down; its requests fail meanwhile, and it goes on with its plan.
    cut = 1
    worker = next(worker for worker in (0, 1) if site.host_of(worker) == cut)
    site.hosts[cut].cut()
    cut_ns = time.monotonic_ns() - site.generator.spec.t0_ns
    time.sleep(6)
    # Nothing has come through: what was under way is still being written, and the clocks differ by less than 0.1 s.
    assert max(row["done_ns"] for row in at_worker(site, worker)) < cut_ns + 100_000_000
    site.hosts[cut].mend()
    wait_for(site.generator, "stage_done", 0, 120)
    site.stop()
    samples = rows(site.folder)
    assert account(site.generator.spec, plan, workers=2) == {0: begin_ns}
    assert site.generator.roster.lost == []
    for record in site.generator.roster.records:
        assert record["damaged"] == []
        assert record["files"][f"samples-{record['worker']}.arrow"] > 5000
        # Ten times what such a line takes, and nothing near the distance of the two clocks.
        assert 0 < record["clock_error_s"] < 0.1
    for name in ("samples", "readings"):
        for number in (0, 1):
            size = (site.folder / f"{name}-{number}.arrow").stat().st_size
            assert site.generator.roster.records[number]["files"][f"{name}-{number}.arrow"] == size
    # Nothing is left on the other hosts.
    ends = [ended(process) for process in site.workers]
    assert [code for code, _ in ends] == [0, 0], ends
    assert [list((tmp_path / host.name).iterdir()) for host in site.hosts] == [[], []]
    # By their own clocks they would lie a day apart.
    errors = [row["value"] for row in rows(site.folder, "readings") if row["metric"] == "clock_error"]
    assert len(errors) > 10
    assert {row["status"] for row in samples if row["worker"] != worker} == {"ok"}


def test_a_worker_that_is_killed_on_another_host_loses_nothing_that_had_arrived(site: Site, tmp_path: Path) -> None:
    site.start()
    site.generator.stage(StagePlan(0, "paired", "poisson", 600.0, 0.5, rate=100.0))
    wait_until(site, "samples of both", 60, lambda: all(len(at_worker(site, worker)) > 50 for worker in (0, 1)))
    victim = site.host_of(1)
    for process in reversed(family(site.workers[victim].pid)):
        with suppress(psutil.NoSuchProcess):  # it ended with the one below it
            process.kill()
    arrived = at_worker(site, 1)
    wait_until(site, "the loss", LOST_S + 30, lambda: site.generator.roster.lost)
    assert site.generator.roster.lost[0].endswith(f"was silent for {LOST_S:g} s")
    assert at_worker(site, 1)[: len(arrived)] == arrived
    count = len(at_worker(site, 0))
    wait_until(site, "the other one goes on", 30, lambda: len(at_worker(site, 0)) > count + 50)
    site.generator.end_stage()
    wait_for(site.generator, "stage_done", 0)
    site.stop()
    assert ended(site.workers[1 - victim])[0] == 0
    record = site.generator.roster.records[1]
    assert record["lost_ns"] is not None
    assert record["lost_ns"] >= max(row["done_ns"] for row in arrived) - 1e9


def test_nobody_else_takes_part(site: Site, tmp_path: Path) -> None:
    """Neither without the token, nor when the run is complete; and who is refused hears why, in one line."""
    stranger = site.hosts[0].worker(site.port, "guess", tmp_path / "stranger")
    site.start()
    late = site.hosts[0].worker(site.port, "secret", tmp_path / "late")
    code, said = ended(stranger)
    assert code == 4
    assert said.splitlines()[-1].startswith("triton-canary: the master's token is another one")
    code, said = ended(late)
    assert code == 4
    assert "the run has its 2 load workers; none can join any more" in said.splitlines()[-1]
    assert len(site.generator.roster.records) == 2
    site.stop()
    ends = [ended(process) for process in site.workers]
    assert [code for code, _ in ends] == [0, 0], ends


def test_ctrl_c_at_a_worker_ends_its_share_and_ships_what_it_has(site: Site, tmp_path: Path) -> None:
    site.start()
    site.generator.stage(StagePlan(0, "paired", "poisson", 600.0, 0.5, rate=50.0))
    wait_until(site, "samples of both", 60, lambda: all(len(at_worker(site, worker)) > 20 for worker in (0, 1)))
    leaver = site.host_of(1)
    # Above it there may be the process that gave it its clock, with the same words in its command line.
    python = [process for process in family(site.workers[leaver].pid) if "harness.cli" in process.cmdline()][-1]
    os.kill(python.pid, signal.SIGINT)
    wait_until(site, "the loss", LOST_S + 60, lambda: site.generator.roster.lost)
    assert site.generator.roster.lost[0].endswith("ended before the run did")
    code, said = ended(site.workers[leaver])
    assert code == 4
    assert "it was told to end" in said.splitlines()[-1]
    wait_until(site, "its files", 30, lambda: "files" in site.generator.roster.records[1])
    record = site.generator.roster.records[1]
    assert record["damaged"] == []
    assert record["files"]["samples-1.arrow"] == (site.folder / "samples-1.arrow").stat().st_size
    assert json.dumps(record)
    site.stop()


def test_when_the_run_is_killed_its_workers_stop_sending(site: Site, tmp_path: Path) -> None:
    """They write what they have, and wait a while for somebody who wants it."""
    site.start()
    site.generator.stage(StagePlan(0, "paired", "poisson", 600.0, 0.5, rate=50.0))
    wait_until(site, "samples of both", 60, lambda: all(len(at_worker(site, worker)) > 20 for worker in (0, 1)))
    site.generator.kill()
    deadline = time.monotonic() + LOST_S + 30
    for host in site.hosts:
        (own,) = (tmp_path / host.name).glob("*/samples-*.arrow")
        while own.read_bytes()[-len(END_OF_STREAM) :] != END_OF_STREAM:
            assert time.monotonic() < deadline, f"{host.name} goes on"
            time.sleep(0.1)
        worker = int(own.stem.rpartition("-")[2])
        assert own.read_bytes().startswith((site.folder / own.name).read_bytes())
        assert len(rows(own.parent)) >= len(at_worker(site, worker))
