"""Several Locust workers on this machine, against a real Triton."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.assets import locustfiles_dir
from harness.embedded import EmbeddedServer
from harness.errors import UsageError, WorldError
from harness.load import Generator, LoadSpec
from harness.recording.stream import END_OF_STREAM
from harness.scenario.plan import requests
from harness.types import StagePlan
from tests.load.conftest import account, make_spec, rows, wait_for
from tests.processes import family, gone

pytestmark = pytest.mark.triton

OPEN = StagePlan(0, "paired", "poisson", 1.0, 0.5, rate=80.0)
SPLIT = StagePlan(1, "split", "gamma", 1.0, 0.25, rate=120.0, burstiness=0.5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def carry_out(
    folder: Path, url: str, workers: int, *stages: StagePlan, locustfile: Path | None = None
) -> tuple[LoadSpec, dict[int, int]]:
    """Returns what was carried out, and the begin of each stage."""
    spec = make_spec(folder, url=url, compare_outputs=True)
    begins = {}
    with Generator(spec, folder / "load.log", workers=workers, locustfile=locustfile) as generator:
        generator.start()
        for stage in stages:
            generator.stage(stage)
            begins[stage.index] = wait_for(generator, "stage_begun", stage.index)["t_ns"]
            wait_for(generator, "stage_done", stage.index)
        generator.stop()
        assert len(generator.roster.records) == (workers if workers > 1 else 0)
        assert generator.roster.lost == []
    return spec, begins


def test_the_workers_together_send_the_plan_of_one(tiny_server: EmbeddedServer, tmp_path: Path) -> None:
    """Each run beside the plan, since a worker may be held up at a stage's end: when what was due, to whom it went, and
    what was asked, as an identity answers with it.
    """
    answers: set[tuple[int, str]] = set()
    for workers in (1, 2, 4):
        folder = tmp_path / str(workers)
        folder.mkdir()
        spec, begins = carry_out(folder, tiny_server.grpc_url, workers, OPEN, SPLIT)
        assert account(spec, OPEN, SPLIT, workers=workers) == begins
        samples, outputs = rows(folder), rows(folder, "outputs")
        assert {row["worker"] for row in samples} == set(range(workers))
        assert {row["status"] for row in samples} == {"ok"}
        assert {(row["pair_id"], row["arm"]) for row in outputs} == {(row["pair_id"], row["arm"]) for row in samples}
        asked = {
            one.pair_id: one.prompt for stage in (OPEN, SPLIT) for one in requests(stage, spec.seed, spec.payloads)
        }
        answers |= {(asked[row["pair_id"]], row["digest"]) for row in outputs}
    assert len(answers) == len(dict(answers)), "each payload is one, whoever sends it"
    assert len({digest for _, digest in answers}) > 30


# Locust's own reports come every three seconds, and at the end where the master waits for them: here none does.
UNREPORTED = """
from locust.runners import WorkerRunner
WorkerRunner._send_stats = lambda self: None
"""


@pytest.mark.parametrize("changed", ["", UNREPORTED], ids=["reported", "unreported"])
def test_a_closed_loop_deals_its_slots_out_and_locust_counts_all_of_it(
    tiny_server: EmbeddedServer, folder: Path, changed: str
) -> None:
    closed = StagePlan(0, "interleaved", "closed", 1.5, 0.5, in_flight=3)
    locustfile = folder.parent / "locustfile.py"
    locustfile.write_text((locustfiles_dir() / "canary.py").read_text() + changed)
    carry_out(folder, tiny_server.grpc_url, 2, closed, locustfile=locustfile)
    samples = sorted(rows(folder), key=lambda row: row["sent_ns"])
    edges = [(row["sent_ns"], 1) for row in samples] + [(row["done_ns"], -1) for row in samples]
    in_flight, most = 0, 0
    for _, step in sorted(edges):
        in_flight += step
        most = max(most, in_flight)
    assert most == 3
    numbers = {worker: {row["pair_id"] % 2 for row in samples if row["worker"] == worker} for worker in (0, 1)}
    assert numbers == {0: {0}, 1: {1}}
    # Locust's own statistics are of all of them.
    lines = (folder / "load.log").read_text().splitlines()
    total = next(line for line in lines if "Aggregated" in line)
    assert int(total.split()[1]) == len(samples)


@pytest.fixture
def long_run(tiny_server: EmbeddedServer, folder: Path) -> Iterator[Generator]:
    """Two workers at 100/s, in a stage of ten minutes."""
    with Generator(make_spec(folder, url=tiny_server.grpc_url), folder / "load.log", workers=2) as generator:
        generator.start()
        generator.stage(StagePlan(0, "paired", "poisson", 600.0, 0.5, rate=100.0))
        wait_for(generator, "stage_begun", 0)
        yield generator


def wait_for_rows(folder: Path, generator: Generator, worker: int, count: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        generator.events(0.05)
        mine = [row for row in rows(folder) if row["worker"] == worker]
        if len(mine) >= count:
            return mine
    raise AssertionError(f"worker {worker} has fewer than {count} samples")


def wait_for_loss(generator: Generator) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for event in generator.events(0.25):
            if event["event"] == "worker_lost":
                return event
    raise AssertionError("nobody is lost")


def test_a_killed_worker_loses_nothing_it_had_acknowledged_and_the_other_goes_on(
    long_run: Generator, folder: Path
) -> None:
    acknowledged = wait_for_rows(folder, long_run, worker=1, count=50)
    victim = next(record for record in long_run.roster.records if record["worker"] == 1)
    os.kill(victim["pid"], signal.SIGKILL)
    lost = wait_for_loss(long_run)
    assert (lost["worker"], lost["reason"]) == (1, "was killed (SIGKILL)")
    assert lost["t_ns"] > 0
    since_ns = max(row["done_ns"] for row in rows(folder))
    kept = [row for row in rows(folder) if row["worker"] == 1]
    assert [row["pair_id"] for row in kept][: len(acknowledged)] == [row["pair_id"] for row in acknowledged]
    # The other one keeps its own share, and only that.
    deadline = time.monotonic() + 60
    while sum(row["done_ns"] > since_ns + 1e9 for row in rows(folder)) < 20:
        assert time.monotonic() < deadline
        long_run.events(0.1)
    long_run.end_stage()
    wait_for(long_run, "stage_done", 0)
    long_run.stop()
    later = [row for row in rows(folder) if row["sent_ns"] > since_ns + 1e9]
    assert {row["worker"] for row in later} == {0}
    assert {row["pair_id"] % 2 for row in later} == {0}
    record = long_run.roster.records[1]
    assert record["lost_ns"] == lost["t_ns"]
    assert long_run.roster.lost == [f"load worker 1 on {record['host']} was killed (SIGKILL)"]
    assert long_run.begun("baseline") >= len({row["pair_id"] for row in rows(folder) if row["arm"] == "baseline"})


def test_without_any_worker_left_the_load_has_ended(long_run: Generator) -> None:
    for record in long_run.roster.records:
        os.kill(record["pid"], signal.SIGKILL)
    with pytest.raises(WorldError, match=r"no load worker is left: the last one \(on .*\) was killed \(SIGKILL\)"):
        wait_for(long_run, "stage_done", 0)


_PARENT = """
import sys, time
from pathlib import Path
from harness.load import Generator, LoadSpec
from harness.types import StagePlan

spec = LoadSpec.from_json(sys.stdin.readline())
generator = Generator(spec, spec.folder / "load.log", workers=2)
generator.start()
generator.stage(StagePlan(0, "paired", "poisson", 600.0, 0.5, rate=100.0))
print("begun", flush=True)
time.sleep(600)
"""


def test_when_the_harness_is_killed_all_of_them_end_and_write_what_they_have(
    tiny_server: EmbeddedServer, folder: Path
) -> None:
    parent = subprocess.Popen([sys.executable, "-c", _PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdin
        assert parent.stdout
        parent.stdin.write(make_spec(folder, url=tiny_server.grpc_url).to_json() + "\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == "begun\n"
        _, *below = family(parent.pid)
        assert len(below) == 3
        deadline = time.monotonic() + 60
        while {row["worker"] for row in rows(folder)} != {0, 1}:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        recorded = len(rows(folder))
        parent.kill()
    _, left = psutil.wait_procs(below, timeout=60)
    assert all(map(gone, left)), (folder / "load.log").read_text()
    assert len(rows(folder)) >= recorded
    ends = [(folder / f"samples-{worker}.arrow").read_bytes()[-8:] for worker in (0, 1)]
    assert ends == [END_OF_STREAM, END_OF_STREAM]


def test_a_payload_that_cannot_be_made_is_told_once_and_nothing_runs(tiny_server: EmbeddedServer, folder: Path) -> None:
    spec = replace(make_spec(folder, url=tiny_server.grpc_url), inputs=({"NO_SUCH_INPUT": [1.0]},))
    with Generator(spec, folder / "load.log", workers=2) as generator:
        with pytest.raises(UsageError, match="NO_SUCH_INPUT"):
            generator.start()
        below = [
            psutil.Process(record["pid"]) for record in generator.roster.records if psutil.pid_exists(record["pid"])
        ]
    assert all(map(gone, below))
