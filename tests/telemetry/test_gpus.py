"""The process that reads the GPUs: what it writes, and how it ends, over the fake NVML."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import psutil
import pyarrow.compute as pc
import pytest

from harness.recording import GPUS, SCHEMAS, Tail, read_table, seal, stream_path
from harness.recording.stream import has_ended
from tests.telemetry.fake_nvml import FakeNvml, without_driver

PATIENCE_S = 60.0

RUN = """
import json, os, signal, sys, threading, time
from pathlib import Path
from harness.recording import GPUS, SCHEMAS, Tail, stream_path
from harness.telemetry import GpuReader, Host, Sampler
from harness.telemetry.gpus import reader as module
from tests.telemetry.fake_nvml import FakeNvml
fake, folder, t0_ns = FakeNvml.here(), Path(sys.argv[1]), time.monotonic_ns()
module.START_S = module.END_S = 60  # a process that has little of the CPU begins and ends late
path = stream_path(folder, "readings", GPUS)

def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)

reader = GpuReader(path, t0_ns, 0.02)
sampler = Sampler([Host()], stream_path(folder, "readings"), t0_ns, 0.1, beside=reader)
begin_ns = 0
def look():  # the file is made just before the first poll
    global begin_ns
    while True:
        now_ns = time.monotonic_ns()
        if path.exists():
            return
        begin_ns = now_ns
        time.sleep(0.002)
threading.Thread(target=look, daemon=True).start()
sampler.start()
with Tail(path, SCHEMAS["readings"]) as tail:
    first = tail.poll().num_rows
    fake.set("a100", "h100\\nlost 1")
    until(lambda: "gpu.lost" in tail.poll()["metric"].to_pylist())
until(lambda: sampler.notes)
sampler.stop()
took_ns = time.monotonic_ns() - begin_ns  # no less than from the first poll to the last
sampler.stop()
normal = {"first": first, "about": sampler.about, "left": reader.pid, "took_ns": took_ns}

fake.set("a100")
killed = GpuReader(folder / "killed.arrow", t0_ns, 0.02)
killed.start()
os.kill(killed.pid, signal.SIGKILL)
until(lambda: killed.notes)
killed.stop()

fake.set("a100\\npcie.takes 600")
hung = GpuReader(folder / "hung.arrow", t0_ns, 0.02)
hung.start()
begin = time.monotonic()
hung.stop()
print(json.dumps({
    "normal": normal, "killed": [killed.notes, killed.about],
    "hung": [hung.notes, time.monotonic() - begin], "end_ns": time.monotonic_ns() - t0_ns,
}))
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("gpus")
    (folder / "run").mkdir()
    return folder / "run", FakeNvml.of(folder, "a100", "h100").run(RUN, folder / "run")


def test_what_it_wrote_is_a_part_of_the_runs_readings(ran: tuple[Path, dict]) -> None:
    folder, told = ran
    normal = told["normal"]
    assert normal["first"] > 0, "the first poll is readable once it has started"
    assert normal["left"] is None
    about = normal["about"]
    assert about["notes"] == ["NVML: gpu1 is lost: GPU is lost"]
    assert about["interval_s"] == 0.1
    assert about["gpus"].keys() == {"interval_s", "polls", "missed_polls"}
    assert about["gpus"]["interval_s"] == 0.02
    own = stream_path(folder, "readings", GPUS)
    assert own.name == "readings-1048577.arrow"
    with Tail(own, SCHEMAS["readings"]) as tail:
        mine = tail.poll()
    together = read_table(folder, "readings")
    seal(folder)
    assert sorted(path.name for path in folder.iterdir() if "readings" in path.name) == ["readings.parquet"]
    assert together is not None
    sealed = read_table(folder, "readings")
    assert sealed is not None
    assert sealed.equals(together)
    assert sealed.slice(sealed.num_rows - mine.num_rows).equals(mine), "behind the run's own"
    assert set(sealed["source"].to_pylist()) == {"host", "nvml"}


def test_polls_are_on_the_runs_clock_and_do_not_drift(ran: tuple[Path, dict]) -> None:
    folder, told = ran
    seal(folder)
    table = read_table(folder, "readings")
    assert table is not None
    rows = table.filter(pc.and_(pc.equal(table["metric"], "gpu.memory.used"), pc.equal(table["device"], "gpu0")))
    times = rows["t_ns"].to_pylist()
    assert 0 < times[0] < times[-1] < told["end_ns"]
    counts = told["normal"]["about"]["gpus"]
    assert counts["polls"] == len(times)
    # Poll k is due at begin + k * interval, made or missed; how late the first and the last one were nobody knows.
    assert all(one < following for one, following in pairwise(times))
    due = counts["polls"] + counts["missed_polls"]
    assert (times[-1] - times[0]) / 20e6 < due <= told["normal"]["took_ns"] / 20e6 + 1


def test_killed_it_takes_nothing_with_it(ran: tuple[Path, dict]) -> None:
    folder, told = ran
    notes, about = told["killed"]
    assert notes == ["the process that reads the GPUs was killed (SIGKILL); there are no readings of them since"]
    assert about == {"interval_s": 0.02, "polls": None, "missed_polls": None}
    with Tail(folder / "killed.arrow", SCHEMAS["readings"]) as tail:
        assert tail.poll().num_rows > 0
    assert not has_ended(folder / "killed.arrow")


def test_a_driver_that_does_not_answer_holds_up_nobody(ran: tuple[Path, dict]) -> None:
    notes, seconds = ran[1]["hung"]
    assert notes == ["NVML: the driver had not answered for 2 s when the run ended"]
    assert seconds < 60, "the question takes ten minutes"
    assert has_ended(ran[0] / "hung.arrow"), "with all that was answered"


def test_a_driver_that_does_not_even_open_holds_up_nobody(tmp_path: Path) -> None:
    fake = FakeNvml.of(tmp_path)
    fake.set("a100", driver="init.takes 600")
    task = {"path": str(tmp_path / "r.arrow"), "t0_ns": 0, "interval_s": 0.1}
    done = subprocess.run(
        [sys.executable, "-m", "harness.telemetry.gpus"],
        input=json.dumps(task), env=fake.environment, capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    note, last = map(json.loads, done.stdout.splitlines())
    assert note == {"note": "NVML: the driver had not answered for 2 s when the run ended"}
    assert last == {"polls": 0, "missed": 0, "failure": ""}


TROUBLE = """
import json, os, signal, sys, time
from pathlib import Path
from harness.telemetry import GpuReader
from harness.telemetry.gpus import reader as module
os.chdir(sys.argv[1])
module.START_S = module.END_S = 60

shadowed = GpuReader(Path("shadowed.arrow"), time.monotonic_ns(), 0.05)
shadowed.start()
begun = shadowed.about is not None
shadowed.stop()

module.END_S = 0.2
held = GpuReader(Path("held.arrow"), time.monotonic_ns(), 0.05)
held.start()
process = held._process
os.kill(process.pid, signal.SIGSTOP)
kill, process.kill = process.kill, lambda: None
held.stop()
alive = process.poll() is None
kill()
process.wait()

sys.executable = "/nosuch"
none = GpuReader(Path("none.arrow"), time.monotonic_ns(), 0.05)
none.start()
none.stop()
print(json.dumps({"shadowed": [begun, shadowed.notes], "held": [alive, held.notes], "none": none.notes}))
"""


def test_trouble_with_the_process_is_a_note_and_holds_up_nobody(tmp_path: Path) -> None:
    """One started where `harness` is somebody else's; one that not even SIGKILL ends, as in a driver's call; none."""
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness" / "__init__.py").touch()
    told = FakeNvml.of(tmp_path, "a100").run(TROUBLE, tmp_path)
    assert told["shadowed"] == [True, []]
    assert told["held"] == [True, ["the process that reads the GPUs had to be killed: it did not end in 0 s"]]
    assert told["none"] == ["no process to read the GPUs could be started: No such file or directory"]


ALONE = """
import sys, time
from pathlib import Path
from harness.telemetry import GpuReader
reader = GpuReader(Path(sys.argv[1]), time.monotonic_ns(), 0.02)
reader.start()
print(reader.pid, flush=True)
time.sleep(600)
"""


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    fake, path = FakeNvml.of(tmp_path, "a100"), tmp_path / "r.arrow"
    parent = subprocess.Popen([sys.executable, "-c", ALONE, path], env=fake.environment, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    child.wait(PATIENCE_S)
    assert has_ended(path), "with all that it had read"
    with Tail(path, SCHEMAS["readings"]) as tail:
        assert tail.poll().num_rows > 0


FULL = """
import json, resource, sys, time
from pathlib import Path
from harness.errors import RecordingError
from harness.telemetry import GpuReader
reader = GpuReader(Path(sys.argv[1]), time.monotonic_ns(), 0.01)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
reader.start()
reader._process.wait(60)
try:
    reader.stop()
except RecordingError as error:
    print(json.dumps([str(error), reader.notes]))
"""


def test_a_full_disk_is_the_failure_of_the_run(tmp_path: Path) -> None:
    """The limit on a file's size stands for the disk's: the write fails in the same place."""
    path = tmp_path / "r.arrow"
    assert FakeNvml.of(tmp_path, "a100", "h100").run(FULL, path) == [f"{path}: cannot be written: File too large", []]


NONE = """
import json, sys
from pathlib import Path
from harness.telemetry import GpuReader
reader = GpuReader(Path(sys.argv[1]), 0)
reader.start()
print(json.dumps([reader.pid, reader.about, reader.notes]))
reader.stop()
"""


def test_without_nvml_there_is_a_note_and_no_process(tmp_path: Path) -> None:
    fake = without_driver(tmp_path)
    task = {"path": str(tmp_path / "r.arrow"), "t0_ns": 0, "interval_s": 0.1}
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin, os.fdopen(writing, "w") as parent:
        print(json.dumps(task), file=parent, flush=True)
        # The other end stays open: once it is closed the process waits 2 s at most for what it has found out.
        done = subprocess.run(
            [sys.executable, "-m", "harness.telemetry.gpus"],
            stdin=stdin, env=fake.environment, capture_output=True, text=True, timeout=PATIENCE_S,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    (note,) = map(json.loads, done.stdout.splitlines())
    assert note["note"].startswith("NVML: ")
    assert not (tmp_path / "r.arrow").exists()
    pid, about, notes = fake.run(NONE, tmp_path / "r.arrow")
    assert (pid, about, notes) == (None, None, [note["note"]])
