"""A run with several load workers: one of them is lost, and what the scenario says happens, and the verdict tells."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.judge import STRAYS
from harness.recording import Recording
from tests.run.conftest import CANARY, Background, canary
from tests.waiting import until

pytestmark = pytest.mark.triton


def samples(folder: Path) -> list[dict[str, Any]]:
    try:
        return list(Recording.open(folder).samples.to_pylist())
    except Exception:  # noqa: BLE001 - the folder is being made
        return []


def wait_for_workers(out: Path) -> tuple[Path, list[dict[str, Any]]]:
    """The run's folder and its workers, once both have samples on disk."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for folder in (path.parent for path in out.glob("*/run.json")):
            workers = json.loads((folder / "run.json").read_text()).get("workers", [])
            seen = Counter(row["worker"] for row in samples(folder))
            if len(workers) == 2 and len(seen) == 2 and min(seen.values()) >= 10:
                return folder, workers
        time.sleep(0.1)
    raise AssertionError("no samples of two workers")


@pytest.mark.parametrize("policy", [pytest.param("continue", marks=pytest.mark.slow), "stop"])
def test_a_worker_is_killed_in_mid_run(scenario: Path, tmp_path: Path, background: Background, policy: str) -> None:
    out = tmp_path / "out"
    run = background(
        "run", scenario, "--out", out, "--workers", 2, "--json",
        "--set", f"load.on_worker_lost={policy}", "--set", "stages.0.for=10s", "--set", "stages.0.in_flight=2",
    )  # fmt: skip
    folder, workers = wait_for_workers(out)
    acknowledged = [row for row in samples(folder) if row["worker"] == 1]
    os.kill(workers[1]["pid"], signal.SIGKILL)
    stdout, stderr = run.communicate(timeout=180)
    assert run.returncode == 3, stderr
    verdict = json.loads(stdout)
    assert verdict["verdict"] == "inconclusive"
    told = [finding for finding in verdict["findings"] if finding["metric"] == "validity.workers"]
    assert "load worker 1 on" in told[0]["reason"]
    assert "was lost" in told[0]["reason"]
    meta = json.loads((folder / "run.json").read_text())
    assert meta["workers"][0]["lost_ns"] is None
    assert meta["workers"][1]["reason"] == "was killed (SIGKILL)"
    stage = meta["stages"][0]
    lasted_s = (stage["end_ns"] - stage["begin_ns"]) / 1e9
    after = [row for row in samples(folder) if row["sent_ns"] > meta["workers"][1]["lost_ns"] + 1e9]
    if policy == "continue":
        assert lasted_s >= 10
        assert {row["worker"] for row in after} == {0}
    else:
        assert lasted_s < 9
        assert after == []
        assert re.search(r"load worker 1 on \S+ was killed \(SIGKILL\): the stage ends", " ".join(stderr.split()))
    # Requests of a worker that is dead are still ours.
    readings = Recording.open(folder).readings.to_pandas()
    assert meta["guarded"] == "tiny/2"
    assert set(readings[readings.metric == STRAYS].value) == {0.0}
    kept = [row for row in samples(folder) if row["worker"] == 1]
    assert [row["pair_id"] for row in kept[: len(acknowledged)]] == [row["pair_id"] for row in acknowledged]
    again = canary("judge", folder, "--json")
    assert again.verdict["verdict"] == "inconclusive"
    assert [f["metric"] for f in again.verdict["findings"]].count("validity.workers") == len(told)


@pytest.fixture
def other_host(tmp_path: Path) -> Iterator[Any]:
    """Starts `triton-canary worker`, which knows no more of the run than its address and its token."""
    started: list[subprocess.Popen[str]] = []

    def start(port: int, token: str) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [str(CANARY), "worker", "--master", f"127.0.0.1:{port}", "--folder", str(tmp_path)],
                env={**os.environ, "TRITON_CANARY_WORKER_TOKEN": token},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_workers_join_with_what_the_run_printed_and_strays_are_not_imagined(
    scenario: Path, tmp_path: Path, background: Background, other_host: Any
) -> None:
    """Over loopback: what a run with other hosts does, where there is none. Who comes late is told so in one line."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    out = tmp_path / "out"
    run = background(
        "run", scenario, "--out", out, "--json", "--master", f"127.0.0.1:{port}", "--workers", 2,
        "--set", "stages.0.in_flight=2",
    )  # fmt: skip
    line = run.stderr.readline()
    printed = re.fullmatch(
        rf"on each other host: TRITON_CANARY_WORKER_TOKEN=(\S+) triton-canary worker --master 127.0.0.1:{port}\n", line
    )
    assert printed, line
    lines: list[str] = []
    reading = threading.Thread(target=lines.extend, args=(run.stderr,), daemon=True)
    reading.start()

    def told() -> str:
        """What the run has said so far, whatever lines it was broken into."""
        return " ".join("".join(lines).split())

    workers = [other_host(port, printed[1]) for _ in range(2)]
    until(lambda: "load worker 2 of 2 joined from" in told(), "both have joined", within_s=120)
    late = other_host(port, printed[1])
    folder, records = wait_for_workers(out)
    said, _ = late.communicate(timeout=60)
    assert late.returncode == 4
    assert "the run has its 2 load workers; none can join any more" in said.splitlines()[-1]
    verdict = json.loads(run.stdout.read())
    run.wait(240)
    reading.join()
    assert verdict["verdict"] in ("promote", "inconclusive"), told()
    assert run.returncode in (0, 3), told()
    assert "cannot be told from ours: load workers on other hosts send them" in told()
    metrics = {finding["metric"] for finding in verdict["findings"]}
    assert not metrics & {"traffic.strays", "validity.workers"}
    for worker in workers:
        said, _ = worker.communicate(timeout=60)
        assert worker.returncode == 0, said
    assert {(row["worker"], row["status"]) for row in samples(folder)} == {(0, "ok"), (1, "ok")}
    records = json.loads((folder / "run.json").read_text())["workers"]
    assert [(record["local"], record["lost_ns"], record["damaged"]) for record in records] == [(False, None, [])] * 2
    assert not list(tmp_path.glob("triton-canary-worker-*"))


def test_an_operation_takes_no_workers_from_elsewhere(tmp_path: Path) -> None:
    done = canary("run", "night-batch", "--out", tmp_path / "out", "--master")
    assert done.code == 2
    assert "--master is for scenarios that compare" in done.stderr
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_listened_on_is_said_before_anything_starts(scenario: Path, tmp_path: Path) -> None:
    for address, problem in (("127.0.0.1:no", "expected HOST:PORT"), ("192.0.2.1:5557", "cannot be listened on")):
        done = canary("run", scenario, "--out", tmp_path / "out", "--master", address)
        assert done.code == 2
        assert problem in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
    done = canary("worker", "--master", "127.0.0.1:5557", "--token-file", tmp_path / "none")
    assert done.code == 2
    assert "cannot be read" in done.stderr
