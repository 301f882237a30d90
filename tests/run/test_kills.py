"""SIGKILL at every line of the journal: `recover` brings the traffic to v1 and the model set to what it was.

`make test-slow` kills after each action was begun and before it is confirmed; with TRITON_CANARY_KILLS=all (`make
kills`) before and after every line.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness.embedded import envoy, haproxy
from harness.embedded.envoy import EmbeddedEnvoy
from harness.embedded.haproxy import EmbeddedHaproxy
from harness.run.journal import read
from harness.run.owed import owes, pending, targets
from harness.run.recover import put_back_only
from tests.run.conftest import Done, canary, journal, only_folder, processes_of
from tests.run.kills import EMERGENCY, Place, blue_green, canary_through, own

pytestmark = [pytest.mark.triton, pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
ALL = os.environ.get("TRITON_CANARY_KILLS") == "all"
ATTEMPTS = 5
PARTS = 4
"""Tests that share the lines of one scenario."""
PLACES: dict[str, Any] = {
    "own": own,
    "haproxy": partial(canary_through, kind=EmbeddedHaproxy),
    "envoy": partial(canary_through, kind=EmbeddedEnvoy),
    "emergency": partial(canary_through, kind=EmbeddedHaproxy, text=EMERGENCY, build="fp16", candidate={"fail": 0.5}),
    "blue-green": partial(blue_green, kind=EmbeddedHaproxy),
}


class Course:
    """A place, the journal lines of a run there that came to its end, and how things were before and after it."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place, self.folder, self.count = place, folder, 0
        place.reset()
        self.before = place.state()
        whole, done = self._whole()
        self.code = done.code
        self.lines = journal(whole)
        assert self.lines[-1]["action"] == "run.end"
        self.after = place.state()
        place.reset()
        assert place.state() == self.before

    def _whole(self) -> tuple[Path, Done]:
        for number in range(ATTEMPTS):
            out = self.folder / f"whole-{number}"
            done = self.place.run(out)
            # A noisy machine may keep it from any decision.
            if done.code in (0, 1):
                return only_folder(out), done
            assert done.code == 3, done.stderr
            self.place.reset()
        raise AssertionError(done.stdout + done.stderr)

    def killed(self, line: int, when: str) -> Path:
        """The folder of a run that was killed at that line."""
        for _ in range(ATTEMPTS):
            self.count += 1
            out = self.folder / f"{self.count}-{line}-{when}"
            command = [sys.executable, "-m", "tests.run.killed", str(line), when, "--", "run"]
            command += [str(self.place.scenario(out)), "--out", str(out)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=560, check=False)
            if done.returncode == -signal.SIGKILL:
                return only_folder(out)
            # A noisy machine may make it decide in another way, after fewer lines.
            assert done.returncode in (1, 3), done.stderr
            self.place.reset()
        raise AssertionError(done.stderr)

    def moments(self) -> list[tuple[int, str]]:
        """Where to kill: a line of the journal, from 1, and when."""
        if ALL:
            return [(line, when) for line in range(1, len(self.lines) + 1) for when in ("before", "after")]
        return [(n, "after" if line["state"] == "begun" else "before") for n, line in enumerate(self.lines, 1)]


@pytest.fixture(scope="module", params=PLACES)
def course(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Course]:
    missing = {"own": None, "envoy": envoy.available()}.get(request.param, haproxy.available())
    if missing:
        pytest.skip(missing)
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        yield Course(stack.enter_context(PLACES[request.param](folder)), folder)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, f"did not happen: {what}"
        time.sleep(0.05)


def as_it_should_be(course: Course, folder: Path) -> None:
    """As before the run; or as the run wanted, if it had said in its journal that it had come to its end."""
    last = journal(folder)[-1]
    ended = [line for line in journal(folder) if line["action"] == "run.end" and line["state"] == "done"]
    assert course.place.state() == (course.after if ended else course.before), last
    if course.place.router is None:
        share = json.loads((folder / "split.json").read_text()) if (folder / "split.json").exists() else None
        assert share is None or share["candidate_share"] == (1.0 if ended and course.code == 0 else 0.0)
    else:
        assert course.place.answers() == {"2" if ended and course.code == 0 else "1"}, last


@pytest.mark.parametrize("part", range(PARTS))
def test_at_every_step(course: Course, part: int) -> None:
    for line, when in course.moments()[part::PARTS]:
        folder = course.killed(line, when)
        recovered = canary("recover", folder)
        assert recovered.code == 0, (line, when, recovered.stderr)
        as_it_should_be(course, folder)
        wait_for(lambda folder=folder: not processes_of(folder), "no process is left")
        state, written = course.place.state(), len(journal(folder))
        assert put_back_only(folder, lambda _: None, ()) == []
        assert course.place.state() == state
        assert len(journal(folder)) == written, "again it did nothing"
        course.place.reset()


def kinds(course: Course) -> dict[str, int]:
    """A line of each kind of action that changes something, the last `done` of it."""
    wanted = ("models.set", "route.set", "route.header", "config.write", "hook.run")
    found = {}
    for number, line in enumerate(course.lines, 1):
        if line["state"] == "done" and line["action"] in wanted:
            found[line["action"]] = number
    return found


@pytest.mark.parametrize("dead", ["router", "triton"])
def test_with_something_dead_at_that_moment(course: Course, dead: str) -> None:
    """It says what it could not put back, and the command that finishes it does so once the dead thing is there."""
    place = course.place
    if dead == "router" and place.router is None:
        pytest.skip("the harness's own split is a file")
    for action, line in kinds(course).items():
        folder = course.killed(line, "before")
        wait_for(lambda folder=folder: not processes_of(folder), "no process is left")
        changed = targets(pending(read(folder)))
        if dead == "router":
            assert place.router is not None
            place.router.stop()
            hit = any(not target.startswith("grpc://") for target in changed)
        else:
            running = [triton for triton in place.tritons.values() if triton.alive]
            for triton in running:
                triton.stop()
            hit = any(target.startswith("grpc://") for target in changed)
        recovered = canary("recover", folder)
        if hit:
            assert recovered.code == 4, (action, recovered.stderr)
            said = [text for text in recovered.stderr.splitlines() if text.startswith("NOT PUT BACK: ")]
            assert said, recovered.stderr
            assert all(f"triton-canary recover {shlex.quote(str(folder))}" in text for text in said), said
            named = place.router.control if dead == "router" and place.router else "grpc://"
            assert any(named in text for text in said), said
        if dead == "router":
            assert place.router is not None
            place.router.start()
        else:
            for triton in running:
                triton.up(bare=hit and triton is place.tritons["blue"] and "green" not in place.tritons)
        finished = canary("recover", folder)
        assert finished.code == 0, (action, finished.stderr)
        as_it_should_be(course, folder)
        course.place.reset()


def test_recover_itself_may_be_killed_anywhere(course: Course) -> None:
    """The worst moment of the run, and each line that its recovery writes."""
    last = max(
        number for number, line in enumerate(course.lines, 1) if line["action"] not in ("run.end", "route.drain")
    )
    line = 1
    while True:
        folder = course.killed(last, "before")
        command = [sys.executable, "-m", "tests.run.killed", str(line), "before", "--", "recover", str(folder)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=560, check=False)
        recovered = canary("recover", folder)
        assert recovered.code == 0, recovered.stderr
        as_it_should_be(course, folder)
        course.place.reset()
        if done.returncode != -signal.SIGKILL:
            return
        line += 1 if ALL else 3


def test_the_next_run_puts_it_back_first(course: Course) -> None:
    last = max(number for number, line in enumerate(course.lines, 1) if line["action"] == "route.set")
    folder = course.killed(last, "after")
    done = course.place.run(course.folder / "next")
    assert f"{folder}: this earlier run had left changes, put back now: " in done.stderr
    assert not owes(read(folder))
    assert done.code in (course.code, 3), done.stderr
    assert course.place.state() == (course.after if done.code == course.code else course.before)
    course.place.reset()
