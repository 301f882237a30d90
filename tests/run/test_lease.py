"""Two runs never have the same target, and one that died or hangs does not keep it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import RecordingError, UsageError, WorldError
from harness.run import holder, lease
from harness.run.folder import RunFolder
from harness.run.holder import Holder, read_record, record_file
from harness.run.journal import Journal
from harness.run.lease import Lease, Lost, forget, held_by_another
from tests.waiting import until

URL, ROUTER = "grpc://127.0.0.1:8001", "haproxy+unix:///run/admin.sock?backend=canary&baseline=v1&candidate=v2"
ALONE = """
import sys, time
from pathlib import Path
from harness.errors import UsageError
from harness.run.lease import Lease
folder, ttl, *targets = sys.argv[1:]
try:
    lease = Lease.take(targets, Path(folder), float(ttl))
except UsageError as error:
    print(error, flush=True)
    sys.exit(2)
print("taken", flush=True)
for line in sys.stdin:
    try:
        lease.check()
    except Exception as error:
        print(type(error).__name__, error, flush=True)
    else:
        print("mine", flush=True)
lease.release()
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "triton-canary" / "leases"


@pytest.fixture
def start() -> Iterator[Start]:
    """Another process that takes leases."""
    started: list[subprocess.Popen[str]] = []

    def one(folder: Path, *targets: str, ttl_s: float = 30.0) -> subprocess.Popen[str]:
        arguments = [sys.executable, "-c", ALONE, str(folder), str(ttl_s), *targets]
        process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield one
    for process in started:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def asked(process: subprocess.Popen[str]) -> str:
    """Whether its lease is still its own."""
    assert process.stdin is not None
    process.stdin.write("?\n")
    process.stdin.flush()
    return said(process)


def stop(process: subprocess.Popen[str], home: Path) -> None:
    """Each of its threads; and not while one of them has the lock, which nobody could take then."""

    def states() -> set[str]:
        threads = Path(f"/proc/{process.pid}/task").iterdir()
        return {(thread / "stat").read_text().rpartition(") ")[2][0] for thread in threads}

    with lease._locked(home):
        process.send_signal(signal.SIGSTOP)
        until(lambda: states() == {"T"}, "it stands still")


def run_in(tmp_path: Path, name: str, *, changed: bool = False) -> Path:
    """The folder of a run; `changed`: with something to put back."""
    folder = tmp_path / name
    folder.mkdir()
    if changed:
        with Journal(folder).action("models.set", f"{URL}/m", before=[1], wanted=[1, 2]):
            pass
    return folder


def test_a_held_target_is_refused_in_a_line_that_says_by_whom_and_what_to_do(tmp_path: Path, start: Start) -> None:
    first = start(tmp_path / "a run", URL, ROUTER)
    assert said(first) == "taken"
    with pytest.raises(UsageError) as caught:
        Lease.take(["grpc://other:8001", ROUTER], tmp_path / "b")
    line = str(caught.value)
    assert line.startswith(f"{ROUTER}: run {tmp_path / 'a run'} has it since 20")
    assert f"(process {first.pid} on " in line
    assert f"triton-canary recover '{tmp_path / 'a run'}'" in line
    assert "\n" not in line
    with Lease.take(["grpc://other:8001"], tmp_path / "c"):
        pass  # nothing of the refused ones was taken
    assert held_by_another(ROUTER) is not None
    assert held_by_another("grpc://other:8001") is None


def test_all_are_free_again_after_the_end(tmp_path: Path, home: Path) -> None:
    with Lease.take([URL, ROUTER], run_in(tmp_path, "a")) as first:
        first.check()
        assert len(list(home.glob("*.json"))) == 2
        assert held_by_another(URL) is None, "it is our own"
    assert list(home.glob("*.json")) == []
    first.release()
    with Lease.take([URL], run_in(tmp_path, "b")) as second:
        assert second.left == ()


def test_no_targets_no_lease(tmp_path: Path, home: Path) -> None:
    with Lease.take([], tmp_path) as none:
        none.check()
    assert not home.exists()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("grpc://localhost:8001", "grpc://127.0.0.1:8001", True),
        ("http://Host:8000/", "http://host:8000", True),
        ("grpc://host:8001", "grpc://host:8002", False),
        ("haproxy+tcp://h:9?backend=a&baseline=v1", "haproxy+tcp://h:9?backend=a&baseline=v7&candidate=v8", True),
        ("haproxy+tcp://h:9?backend=a", "haproxy+tcp://h:9?backend=b", False),
        ("haproxy+unix:///run/a-b?backend=a", "haproxy+unix:///run/a/b?backend=a", False),
    ],
)
def test_what_is_one_target(tmp_path: Path, one: str, other: str, same: bool) -> None:
    assert (record_file(tmp_path, one) == record_file(tmp_path, other)) is same


MANY = """
import os, sys, time
from pathlib import Path
from harness.errors import UsageError
from harness.run.lease import Lease

def win(number, folder):
    targets = [f"grpc://h{i % 3}:1" for i in (number, number + 1)]
    won, deadline = 0, time.monotonic() + 240
    while won < 5 and time.monotonic() < deadline:
        try:
            lease = Lease.take(targets[::-1] if number % 2 else targets, folder / str(number))
        except UsageError:
            time.sleep(0.002)
            continue
        mark = os.open(folder / "mark", os.O_CREAT | os.O_EXCL)
        lease.check()
        time.sleep(0.002)
        os.close(mark)
        (folder / "mark").unlink()
        lease.release()
        won += 1
    return won

children = []
for number in range(8):
    child = os.fork()
    if not child:
        os._exit(win(number, Path(sys.argv[1])))
    children.append(child)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""


def test_of_many_at_once_one_has_them_all(tmp_path: Path) -> None:
    """Each takes two of three targets, so that any two collide; what only one may do is seen in a file."""
    done = subprocess.run([sys.executable, "-c", MANY, str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == str([5] * 8), done.stderr


def test_of_a_dead_process_it_is_free_at_once(tmp_path: Path, start: Start) -> None:
    first = start(run_in(tmp_path, "a"), URL, ttl_s=3600)
    assert said(first) == "taken"
    first.kill()
    first.wait()
    with Lease.take([URL], run_in(tmp_path, "b")) as second:
        assert second.left == (), "it had changed nothing"


def test_a_process_of_the_same_number_is_another(tmp_path: Path, home: Path) -> None:
    """Numbers of processes come again, after a restart of the machine at once."""
    with Lease.take([URL], run_in(tmp_path, "a"), ttl_s=3600):
        path = record_file(home, URL)
        told = json.loads(path.read_text())
        told["holder"] |= {"began": told["holder"]["began"] - 1, "token": "another"}
        path.write_text(json.dumps(told))
        with Lease.take([URL], run_in(tmp_path, "b")) as second:
            second.check()


def test_a_killed_run_with_changes_is_named_until_it_is_put_back(tmp_path: Path, start: Start) -> None:
    folder = run_in(tmp_path, "a", changed=True)
    first = start(folder, URL, ROUTER)
    assert said(first) == "taken"
    first.kill()
    first.wait()
    with Lease.take([ROUTER, URL], run_in(tmp_path, "b")) as second:
        (left,) = second.left
        assert left.folder == str(folder)
    with Lease.take([URL], run_in(tmp_path, "c")) as third:
        assert third.left == (left,), "b put nothing back"
        third.settled(left)
    with Lease.take([URL], run_in(tmp_path, "d")) as fourth:
        assert fourth.left == ()
    with Lease.take([ROUTER], run_in(tmp_path, "e")) as fifth:
        assert fifth.left == (left,)
    forget(folder)
    with Lease.take([ROUTER], run_in(tmp_path, "f")) as sixth:
        assert sixth.left == ()


def test_a_run_that_ends_with_changes_left_says_so_itself(tmp_path: Path) -> None:
    folder = run_in(tmp_path, "a", changed=True)
    with Lease.take([URL], folder):
        pass
    with Lease.take([URL], run_in(tmp_path, "b")) as second:
        assert [left.folder for left in second.left] == [str(folder)]


def test_it_is_renewed_for_as_long_as_it_is_needed(tmp_path: Path, start: Start, home: Path) -> None:
    first = start(run_in(tmp_path, "a"), URL, ttl_s=2.0)
    assert said(first) == "taken"
    path = record_file(home, URL)
    times = {read_record(path, URL).holder.until_ns}  # type: ignore[union-attr]

    def renewed() -> bool:
        times.add(read_record(path, URL).holder.until_ns)  # type: ignore[union-attr]
        return len(times) > 4

    until(renewed, "four renewals")
    assert asked(first) == "mine"


def test_a_stopped_process_loses_it_and_finds_out(tmp_path: Path, start: Start, home: Path) -> None:
    first = start(run_in(tmp_path, "a"), URL, ttl_s=1.0)
    assert said(first) == "taken"
    stop(first, home)
    folder = run_in(tmp_path, "b")

    def taken() -> bool:
        try:
            second.append(Lease.take([URL], folder))
        except UsageError:
            return False
        return True

    second: list[Lease] = []
    until(taken, "the lease is over")
    first.send_signal(signal.SIGCONT)
    assert asked(first).startswith(f"Lost {URL}: lost to run {folder}")
    second[0].check()
    second[0].release()
    assert asked(first).startswith(f"Lost {URL}: lost to run {folder}"), "once lost it stays so"


def test_a_stopped_process_that_nobody_noticed_goes_on(tmp_path: Path, start: Start, home: Path) -> None:
    first = start(run_in(tmp_path, "a", changed=True), URL, ttl_s=1.0)
    assert said(first) == "taken"
    stop(first, home)
    time.sleep(1.5)
    first.send_signal(signal.SIGCONT)
    assert asked(first) == "mine"


def test_a_stopped_process_with_changes_keeps_everybody_away(tmp_path: Path, start: Start, home: Path) -> None:
    """They cannot be put back while it may go on at any moment."""
    first = start(run_in(tmp_path, "a", changed=True), URL, ttl_s=1.0)
    assert said(first) == "taken"
    stop(first, home)

    def hangs() -> bool:
        with pytest.raises(UsageError) as caught:
            Lease.take([URL], tmp_path / "b")
        return "hangs or was stopped" in str(caught.value) and f"kill -9 {first.pid}" in str(caught.value)

    until(hangs, "it is told that the process hangs")


def test_somebody_who_had_it_meanwhile_is_enough_to_lose_it(tmp_path: Path, home: Path) -> None:
    mine = Lease.take([URL], run_in(tmp_path, "a"))
    record_file(home, URL).unlink()
    with pytest.raises(Lost, match="lost to another run, which has ended"):
        mine.check()
    mine.release()


def test_no_jump_of_the_wall_clock_ends_it(tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    first = start(run_in(tmp_path, "a"), URL)
    assert said(first) == "taken"
    now = time.time
    for jump_s in (86400.0, -86400.0):
        monkeypatch.setattr(holder.time, "time", lambda jump_s=jump_s: now() + jump_s)
        with pytest.raises(UsageError, match="has it since"):
            Lease.take([URL], tmp_path / "b")
    first.kill()
    first.wait()
    with Lease.take([URL], run_in(tmp_path, "b")):
        pass


@pytest.mark.parametrize("place", [{"boot": "another"}, {"pids": "pid:[1]"}])
def test_of_another_machine_it_ends_by_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: dict) -> None:
    """Nobody sees whether its process lives."""
    me = Holder.me(tmp_path, "token").renewed(30.0)
    there = replace(me, pid=1 << 22, **place)
    assert there.alive
    later, mono = time.time() + 31, time.monotonic_ns() + 31_000_000_000
    monkeypatch.setattr(holder.time, "time", lambda: later)
    monkeypatch.setattr(holder.time, "monotonic_ns", lambda: mono)
    assert not there.alive
    assert not there.gone


def test_a_full_disk_is_the_worlds_failure_and_takes_nothing(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []

    def full(path: Path, content: bytes) -> None:
        if written:
            raise RecordingError(f"{path}: cannot be written: No space left on device")
        written.append(path)
        path.write_bytes(content)

    with monkeypatch.context() as patch:
        patch.setattr(holder, "atomic_write", full)
        with pytest.raises(WorldError, match="No space left on device"):
            Lease.take([URL, ROUTER], run_in(tmp_path, "a"))
    assert list(home.glob("*.json")) == []


def test_a_disk_that_is_full_later_ends_the_run_once_the_lease_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, _content: bytes) -> None:
        raise RecordingError(f"{path}: cannot be written: No space left on device")

    mine = Lease.take([URL], run_in(tmp_path, "a"), ttl_s=1.0)
    with monkeypatch.context() as patch:
        patch.setattr(holder, "atomic_write", full)

        def over() -> bool:
            try:
                mine.check()
            except WorldError as error:
                return "No space left" in str(error)
            return False

        until(over, "the lease is over")
    mine.check()  # there is room again, and nobody had it
    mine.release()


def test_a_place_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(WorldError, match="cannot be written"):
        Lease.take([URL], tmp_path)


@pytest.mark.parametrize("content", [b"", b"\0" * 300, b"{}", b'{"target": "x", "holder": {}, "left": []}', b"[1]"])
def test_a_damaged_file_is_nobodys_leave(tmp_path: Path, home: Path, content: bytes) -> None:
    home.mkdir(parents=True)
    record_file(home, URL).write_bytes(content)
    with pytest.raises(WorldError, match="is no lease any more: remove it, if no run is at"):
        Lease.take([URL], tmp_path)


def test_the_lock_that_somebody_keeps(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "PATIENCE_S", 0.1)
    with lease._locked(home), pytest.raises(WorldError, match="kept the leases locked"):
        Lease.take([URL], tmp_path)


def test_when_a_process_began(start: Start, tmp_path: Path) -> None:
    own = holder.began(os.getpid())
    child = start(tmp_path, URL)
    later = holder.began(child.pid)
    assert own is not None
    assert later is not None
    assert own < later
    child.kill()
    until(lambda: holder.began(child.pid) is None, "a zombie is gone")
    assert holder.began(1 << 22) is None


def test_a_folder_of_a_run_that_is_removed_is_no_debt(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "x", {"scenario": {"name": "x"}})
    mine = Lease.take([URL], folder.path)
    (folder.path / "run.json").unlink()
    folder.path.rmdir()
    mine.release()
    with Lease.take([URL], run_in(tmp_path, "b")) as second:
        assert second.left == ()
