"""An open loop tells the truth about a server that stood still."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from harness.embedded import EmbeddedServer
from harness.load import Generator
from harness.types import StagePlan
from tests.load.conftest import account, make_spec, rows, wait_for
from tests.waiting import until

pytestmark = pytest.mark.triton

RATE, STALL_S, SECONDS = 200.0, 2.0, 8.0


def stopped(pid: int) -> bool:
    """The signal is sent before the threads have taken it: one that is running answers a few requests more."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            state = (task / "stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue  # this thread has ended meanwhile
        if state != "T":
            return False
    return True


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_stall_of_two_seconds_is_four_hundred_late_requests_and_not_one(
    repository: Path, tmp_path: Path, scheme: str
) -> None:
    """Coordinated omission would make one slow request of it: the next would have waited for it and counted anew."""
    stage = StagePlan(0, "split", "constant", SECONDS, 0.0, rate=RATE)
    with EmbeddedServer(repository, tmp_path / "triton.log") as server:
        server.start({"tiny": [1]})
        spec = make_spec(tmp_path, url=server.http_url if scheme == "http" else server.grpc_url)
        with Generator(spec, tmp_path / "load.log") as generator:
            generator.start()
            generator.stage(stage)
            wait_for(generator, "stage_begun", 0)
            time.sleep(2.0)
            os.kill(server.pid, signal.SIGSTOP)
            until(lambda: stopped(server.pid), "Triton has stopped")
            stopped_ns = time.monotonic_ns() - spec.t0_ns
            try:
                time.sleep(STALL_S)
            finally:
                resumed_ns = time.monotonic_ns() - spec.t0_ns
                os.kill(server.pid, signal.SIGCONT)
            wait_for(generator, "stage_done", 0)
            generator.stop()
    samples = rows(tmp_path)
    account(spec, stage)
    assert {s["status"] for s in samples} == {"ok"}
    due, sent, done = (np.array([s[name] for s in samples]) for name in ("due_ns", "sent_ns", "done_ns"))
    in_the_stall = (due > stopped_ns) & (due < resumed_ns - 100_000_000)
    assert in_the_stall.sum() >= 300
    assert (done[in_the_stall] >= resumed_ns).all(), "each of them waited until the server went on"
    late = done - due > 100_000_000
    assert late.sum() >= 300
    assert np.quantile(done - due, 0.99) > 1e9, "p99 shows the stall"
    # The generator itself was not held up by the server.
    assert (sent - due)[in_the_stall].max() < 1e9
