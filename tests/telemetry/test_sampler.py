"""The sampler's schedule on a clock of its own; sources that fail, a disk that is full."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import RecordingError
from harness.recording.schema import READINGS
from harness.recording.stream import Tail
from harness.telemetry import Sampler, SourceUnavailable, Value
from harness.telemetry.sampler import RETRY_S, next_poll

SECOND = 1_000_000_000


class FakeTime:
    """A clock that only moves when told; after `polls` waits it lets nobody go on."""

    def __init__(self, polls: int) -> None:
        self.now_ns = 7 * SECOND
        self.left = polls
        self.done = threading.Event()
        self.go = threading.Event()

    def clock(self) -> int:
        return self.now_ns

    def wait(self, seconds: float) -> bool:
        self.left -= 1
        if self.left == 0:
            self.done.set()
            self.go.wait(30)
        self.now_ns += max(0, round(seconds * 1e9))
        return False


class Scripted:
    """A source whose reads take the given times; None: it has nothing to say."""

    name = "scripted"

    def __init__(self, time: FakeTime, takes_s: Iterator[float | None]) -> None:
        self.time, self.takes_s = time, takes_s
        self.reads_ns: list[int] = []
        self.closed = False

    def read(self) -> list[Value]:
        self.reads_ns.append(self.time.now_ns)
        takes_s = next(self.takes_s)
        if takes_s is None:
            raise SourceUnavailable("scripted: is away")
        self.time.now_ns += round(takes_s * 1e9)
        return [Value(self.name, "host", "reads", float(len(self.reads_ns)), "1")]

    def close(self) -> None:
        self.closed = True


def test_what_another_thread_measured_is_on_disk_when_it_is_told(tmp_path: Path) -> None:
    time = FakeTime(1)
    path = tmp_path / "readings.arrow"
    sampler = Sampler([], path, 6 * SECOND, 1.0, clock=time.clock, wait=time.wait)
    sampler.start()
    assert time.done.wait(30)
    t_ns = sampler.record(Value("triton", "m/2", "requests.stray", 3.0, "1"))
    with Tail(path, READINGS) as tail:
        (row,) = tail.poll().to_pylist()
    assert (row["t_ns"], row["device"], row["metric"], row["value"]) == (t_ns, "m/2", "requests.stray", 3.0)
    assert t_ns == SECOND
    time.go.set()
    sampler.stop()


def run(path: Path, takes_s: list[float | None], *others: object) -> tuple[Sampler, Scripted]:
    time = FakeTime(len(takes_s))
    source = Scripted(time, iter(takes_s))
    sampler = Sampler([*others, source], path, 6 * SECOND, 1.0, clock=time.clock, wait=time.wait)  # type: ignore[list-item]
    sampler.start()
    assert time.done.wait(30)
    stopper = threading.Thread(target=sampler.stop)
    stopper.start()
    assert sampler._stopping.wait(30)
    time.go.set()
    stopper.join()
    return sampler, source


def test_polls_do_not_drift_and_missed_ones_are_not_bunched(tmp_path: Path) -> None:
    sampler, source = run(tmp_path / "r.arrow", [0.3, 0.9, 0.0, 2.5, 0.1, 0.1])
    assert [ns / SECOND for ns in source.reads_ns] == [7, 8, 9, 10, 13, 14]
    assert sampler.missed == 2
    with Tail(tmp_path / "r.arrow", READINGS) as tail:
        rows = tail.poll().to_pydict()
    assert rows["t_ns"] == [SECOND * t for t in (1, 2, 3, 4, 7, 8)]
    assert rows["value"] == [1, 2, 3, 4, 5, 6]
    assert source.closed


@pytest.mark.parametrize(("now", "number"), [(0, 1), (9, 1), (10, 2), (11, 2), (99, 10)])
def test_next_poll(now: int, number: int) -> None:
    assert next_poll(100, 10, 100 + now) == number


class Broken:
    name = "broken"

    def read(self) -> list[Value]:
        raise KeyError("a mistake")

    def close(self) -> None:
        pass


def test_a_source_that_fails_is_noted_once_and_asked_again_later(tmp_path: Path) -> None:
    sampler, source = run(tmp_path / "r.arrow", [0.0, None, None, *[0.0] * 12], Broken())
    assert sampler.notes == ("broken: KeyError: 'a mistake'", "scripted: is away")
    times = [ns / SECOND - 7 for ns in source.reads_ns]
    assert times == [0, 1, 1 + RETRY_S, 1 + 2 * RETRY_S, 12, 13, 14]
    with Tail(tmp_path / "r.arrow", READINGS) as tail:
        assert tail.poll().num_rows == len(times) - 2


class Halfway:
    name = "halfway"

    def read(self) -> Iterator[Value]:
        yield Value(self.name, "host", "first", 1.0, "1")
        raise KeyError("a mistake")

    def close(self) -> None:
        pass


def test_readings_that_fail_only_when_they_are_gone_through_take_nothing_with_them(tmp_path: Path) -> None:
    sampler, source = run(tmp_path / "r.arrow", [0.0] * 4, Halfway())
    assert sampler.notes == ("halfway: KeyError: 'a mistake'",)
    with Tail(tmp_path / "r.arrow", READINGS) as tail:
        assert sorted(tail.poll()["metric"].to_pylist()) == ["first", *["reads"] * len(source.reads_ns)]


def test_each_poll_is_readable_at_once(tmp_path: Path) -> None:
    time = FakeTime(3)
    sampler = Sampler([Scripted(time, iter([0.0] * 3))], tmp_path / "r.arrow", 0, 1.0, clock=time.clock, wait=time.wait)
    sampler.start()
    assert time.done.wait(30)
    with Tail(tmp_path / "r.arrow", READINGS) as tail:
        assert tail.poll().num_rows == 3
    time.go.set()
    sampler._stopping.set()
    sampler.stop()
    sampler.stop()


FULL = """
import resource, sys
from pathlib import Path
from harness.errors import RecordingError
from harness.telemetry import Host, Sampler
sampler = Sampler([Host()], Path(sys.argv[1]), 0, 0.001)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
sampler.start()
sampler._thread.join(60)
assert sampler.failure is not None
try:
    sampler.stop()
except RecordingError as error:
    print(error)
sampler.stop()
"""


def test_a_full_disk_ends_the_recording_and_is_raised(tmp_path: Path) -> None:
    """The limit on a file's size stands for the disk's: the write fails in the same place."""
    path = tmp_path / "r.arrow"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FULL, path], capture_output=True, text=True, timeout=120
    )
    assert done.stdout == f"{path}: cannot be written: File too large\n", done.stderr
    with Tail(path, READINGS) as tail:
        assert tail.poll().num_rows > 0


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecordingError):
        Sampler([], tmp_path / "nosuch" / "r.arrow", 0).start()
