"""The counts of begun requests: never fewer than what has left, whoever counts and whenever they come or go."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import RecordingError
from harness.load.begun import Begun, BegunCounter


def test_the_workers_counts_add_up_by_arm(tmp_path: Path) -> None:
    begun = Begun(tmp_path)
    assert begun.read("baseline") == 0
    first, second = BegunCounter(tmp_path, 0), BegunCounter(tmp_path, 11)
    for counter, arm in ((first, "baseline"), (second, "baseline"), (second, "candidate")):
        counter.add(arm)
    assert [begun.read(arm) for arm in ("baseline", "candidate", "stable")] == [2, 1, 0]
    first.add("stable")
    assert begun.read("stable") == 1


def test_a_worker_that_joins_is_found_and_one_that_ended_still_counts(tmp_path: Path) -> None:
    begun = Begun(tmp_path)
    first = BegunCounter(tmp_path, 0)
    first.add("baseline")
    first.close()
    first.close()
    second = BegunCounter(tmp_path, 1)
    second.add("baseline")
    assert begun.read("baseline") == 2
    second.close()
    assert begun.read("baseline") == 2


def test_a_process_counts_and_is_killed(tmp_path: Path) -> None:
    """As a reader in another process sees it: every count that it reported is there."""
    code = """
import os, sys
from pathlib import Path
from harness.load.begun import BegunCounter
counter = BegunCounter(Path(sys.argv[1]), 4)
for _ in range(1000):
    counter.add("candidate")
print("counted", flush=True)
os.kill(os.getpid(), 9)
"""
    begun = Begun(tmp_path)
    child = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert child.stdout == "counted\n"
    assert begun.read("candidate") == 1000


def test_closing_removes_the_files_and_keeps_the_last_counts(tmp_path: Path) -> None:
    begun = Begun(tmp_path)
    counter = BegunCounter(tmp_path, 0)
    counter.add("baseline")
    assert [path.name for path in tmp_path.iterdir()] == [".begun-0"]
    begun.close()
    begun.close()
    assert list(tmp_path.iterdir()) == []
    assert begun.read("baseline") == 1
    counter.close()


def test_what_cannot_be_made_or_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"\.begun-0: the counters of requests: "):
        BegunCounter(tmp_path / "none", 0)
    (tmp_path / ".begun-5").touch()
    with pytest.raises(RecordingError, match="the counters of requests: "):
        Begun(tmp_path).read("baseline")
