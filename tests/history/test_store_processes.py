"""Processes that add to one folder at once, and such as are killed: nothing that was added is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.history.place import FolderPlace
from harness.history.store import MOST_FILES, History
from tests.history.test_store import files, run, there

ADDER = """
import sys
from pathlib import Path
from harness.history import store
from harness.history.place import FolderPlace
from harness.history.store import History
from tests.history.test_store import run
store.MOST_FILES = int(sys.argv[4])
history = History(FolderPlace(Path(sys.argv[1])))
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    history.add([run(number)], number)
    print(number, flush=True)
"""


@pytest.mark.parametrize(("each", "most"), [(9, 8), pytest.param(4 * MOST_FILES, MOST_FILES, marks=pytest.mark.slow)])
def test_two_processes_adding_at_once_lose_nothing(tmp_path: Path, each: int, most: int) -> None:
    """With packs on both sides: there are several times as many runs as files are kept."""
    both = [
        subprocess.Popen([sys.executable, "-c", ADDER, tmp_path / "history", str(begin), str(begin + each), str(most)])
        for begin in (0, each)
    ]
    history = History(FolderPlace(tmp_path / "history"))
    seen: set[str] = set()
    while any(process.poll() is None for process in both):
        now = set(there(history))
        assert seen <= now, "a run that was there is gone for a moment"
        seen = now
        time.sleep(0.02)
    assert [process.returncode for process in both] == [0, 0]
    assert there(history) == [run(number).run for number in range(2 * each)]
    assert len(files(tmp_path / "history")) < 2 * each


@pytest.mark.parametrize(("most", "times"), [(4, (7,)), pytest.param(8, (1, 9, 17, 25), marks=pytest.mark.slow)])
def test_killed_in_the_middle_nothing_that_was_added_is_lost(tmp_path: Path, most: int, times: tuple[int, ...]) -> None:
    begin, done = 0, 0
    for kill_after in times:
        with subprocess.Popen(
            [sys.executable, "-c", ADDER, tmp_path / "history", str(begin), "100000", str(most)],
            stdout=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            for line in process.stdout:
                done = int(line) + 1
                if done - begin >= kill_after:
                    break
            os.kill(process.pid, signal.SIGKILL)
            done = max([done, *(int(line) + 1 for line in process.stdout if line.endswith("\n"))])
        contents = History(FolderPlace(tmp_path / "history")).read()
        assert contents.damaged == ()
        assert {run(number).run for number in range(done)} <= set(contents.table["run"].to_pylist())
        begin = done
