"""A look at a run under way sees what `judge` sees later: whoever wrote, whenever it was polled."""

from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from harness.judge import Evidence, judge, verdict_json
from harness.recording import SCHEMAS, Recording, StreamWriter, seal, stream_path
from harness.run.folder import RunFolder
from harness.run.recent import Recent
from harness.run.watch import Watch
from harness.types import Gate, Output, Reading, StagePlan, StageRecord
from tests.recording.rows import sample

RECORD = StageRecord(StagePlan(0, "paired", "poisson", 60.0, 0.5, rate=50.0), 0, end_ns=60_000_000_000)
WORKERS = 3


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    gates = [asdict(Gate("errors", margin=0.05, margin_kind="absolute")), asdict(Gate("response_time.p50", margin=0.1))]
    folder = RunFolder.create(tmp_path, "watched", {"gates": gates, "seed": 3, "finished": True})
    folder.set_stages([RECORD])
    return folder


def write(folder: RunFolder, watch: Watch, polls: int) -> None:
    """Pairs of a minute, dealt out to the workers, each of which flushes when it likes."""
    rng = np.random.default_rng(5)
    names = ("samples", "outputs", "readings")
    writers = {
        (name, worker): StreamWriter(stream_path(folder.path, name, worker), SCHEMAS[name])
        for name in names
        for worker in range(WORKERS)
    }
    writers["readings", -1] = StreamWriter(stream_path(folder.path, "readings"), SCHEMAS["readings"])
    for number in range(6000):
        worker = number // 2 % WORKERS
        due = number // 2 * 20_000_000
        done = due + int(rng.lognormal(15, 0.2))
        times = {"due_ns": due, "sent_ns": due + 50, "first_ns": done - 10, "done_ns": done}
        failed = {"status": "error", "error": "Unavailable"} if number % 997 == 0 else {}
        writers["samples", worker].append(sample(number, worker=worker, version="12"[number % 2], **times, **failed))
        writers["outputs", worker].append(
            Output(0, number // 2, "baseline", "generated", "", "", "stop", [1], 0, [], [])
        )
        writers["readings", worker].append(Reading(done, "generator", f"worker{worker}", "cpu", 0.1, "ratio"))
        writers["readings", -1].append(Reading(done, "host", "host", "cpu", 0.5, "ratio"))
        if rng.random() < 0.01:
            for name in reversed(names):
                writers[name, worker].flush()
        if polls and number % (6000 // polls) == 0:
            watch.poll()
    for writer in writers.values():
        writer.close()
    watch.poll()


@pytest.mark.parametrize("polls", [0, 7, 500])
def test_the_last_look_is_the_recording(folder: RunFolder, polls: int) -> None:
    watch = Watch(folder)
    write(folder, watch, polls)
    looked = watch.evidence()
    seal(folder.path)
    replayed = Evidence.of(Recording.open(folder.path))
    for field in fields(looked.samples):
        mine, other = getattr(looked.samples, field.name), getattr(replayed.samples, field.name)
        assert np.array_equal(mine, other), field.name
    assert looked.readings.equals(replayed.readings)
    assert repr(looked.outputs) == repr(replayed.outputs)
    assert verdict_json(judge(looked), folder.meta) == verdict_json(judge(replayed), folder.meta)
    watch.close()


def test_before_the_first_sample(folder: RunFolder) -> None:
    watch = Watch(folder)
    watch.poll()
    assert watch.seen_ns == 0
    assert watch.served("candidate", 0) == 0
    assert watch.arm_status("baseline", 0, 1_000_000_000).sent == 0
    assert len(watch.evidence().samples) == 0
    watch.close()


def test_what_the_live_view_shows(folder: RunFolder) -> None:
    watch = Watch(folder)
    write(folder, watch, 3)
    status = watch.arm_status("baseline", 0, 60_000_000_000)
    assert (status.sent, status.failed) == (3000, 4)
    assert status.rate == pytest.approx(50, rel=0.01)
    assert status.response_p50 == pytest.approx(3.27e-3, rel=0.05)
    assert watch.served("candidate", 30_000_000_000) == 1500 - 1
    assert 59.9e9 < watch.seen_ns < 60.1e9
    watch.close()


def test_of_a_long_run_only_the_last_seconds_are_kept_for_the_view() -> None:
    """What it says of them does not depend on what came before."""
    recent = Recent()
    schema = SCHEMAS["samples"]
    for second in range(60):
        due = [second * 10**9 + tenth * 10**8 for tenth in range(10)]
        rows = [sample(i, due_ns=t, sent_ns=t, done_ns=t + 10_000_000) for i, t in enumerate(due)]
        recent.add(pa.table(dict(zip(schema.names, zip(*rows, strict=True), strict=True)), schema))
    status = recent.status("baseline", 0, 60_000_000_000)
    assert status.sent == 300
    assert status.rate == pytest.approx(5, rel=0.05)
    assert recent._rows is not None
    assert recent._rows.num_rows <= 151
