"""SIGKILL at every line of the journal: `recover` brings the traffic to v1 and the model set to what it was.

Scenario 3 through HAProxy here, 5 and 9 in test_kills_switch.py. In `make test-slow` the run is killed once for each
kind of action, after it was begun; in `make kills` (TRITON_CANARY_KILLS=all) before and after every line, also through
Envoy and with the harness's own split.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness.embedded.envoy import EmbeddedEnvoy
from harness.embedded.haproxy import EmbeddedHaproxy
from harness.run.journal import read
from harness.run.owed import owes, pending, targets
from harness.run.recover import put_back_only
from tests.run.conftest import Done, canary, journal, only_folder, processes_of
from tests.run.front import needs
from tests.run.kills import EMERGENCY, Place, blue_green, canary_through, own
from tests.waiting import until

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
TESTED: dict[str, tuple[str, ...]] = {
    "test_at_every_step": ("haproxy", "emergency", "blue-green"),
    "test_with_something_dead_at_that_moment": ("haproxy", "blue-green"),
    "test_recover_itself_may_be_killed_anywhere": ("emergency",),
    "test_the_next_run_puts_it_back_first": ("haproxy",),
}
"""Where, in `make test-slow`."""


class Course:
    """A place, the journal lines of a run there that came to its end, and how things were before and after it."""

    def __init__(self, name: str, place: Place, folder: Path) -> None:
        self.name, self.place, self.folder, self.count = name, place, folder, 0
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
            done = command(line, when, "run", self.place.scenario(out), "--out", out)
            if done.returncode == -signal.SIGKILL:
                return only_folder(out)
            # It may also decide in another way, after fewer lines.
            assert done.returncode in (1, 3), done.stderr
            self.place.reset()
        raise AssertionError(done.stderr)

    def moments(self) -> list[tuple[int, str]]:
        """Where to kill: a line of the journal, from 1, and when."""
        if ALL:
            return [(line, when) for line in range(1, len(self.lines) + 1) for when in ("before", "after")]
        begun = {line["action"]: n for n, line in enumerate(self.lines, 1) if line["state"] == "begun"}
        begun.pop("models.cost", None)  # a note of what was just done
        return [(line, "after") for line in sorted(begun.values())]

    def last(self, *actions: str) -> int:
        """The last line of such an action."""
        return max(number for number, line in enumerate(self.lines, 1) if line["action"] in actions)

    def kinds(self) -> list[int]:
        """The line in which the last action of each kind that changes something is confirmed."""
        known = {line["action"] for line in self.lines}
        wanted = ["models.set", "route.set", "route.header", "config.write", "hook.run"]
        if not ALL:
            wanted = ["hook.run"] if self.name == "blue-green" else ["models.set", "route.set"]
        return [self.last(action) for action in wanted if action in known]


@pytest.fixture(scope="module", params=["own", "haproxy", "envoy"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def whole(name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Course]:
    if name != "own":
        needs("envoy" if name == "envoy" else "haproxy")
    folder = tmp_path_factory.mktemp(name)
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        yield Course(name, stack.enter_context(PLACES[name](folder)), folder)


@pytest.fixture
def course(name: str, request: pytest.FixtureRequest) -> Course:
    if not ALL and name not in TESTED[request.node.originalname]:
        pytest.skip("in `make kills`")
    found = request.getfixturevalue("whole")
    assert isinstance(found, Course)
    return found


def command(line: int, when: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command, killed at that line of a journal."""
    killed = [sys.executable, "-m", "tests.run.killed", str(line), when, "--", *map(str, arguments)]
    return subprocess.run(killed, cwd=ROOT, capture_output=True, text=True, timeout=560, check=False)


def as_it_should_be(course: Course, folder: Path) -> None:
    """As before the run; or as the run wanted, if it had said in its journal that it had come to its end."""
    lines = journal(folder)
    ended = any(line["action"] == "run.end" and line["state"] == "done" for line in lines)
    assert course.place.state() == (course.after if ended else course.before), lines[-1]
    promoted = ended and course.code == 0
    if course.place.router is None:
        split = folder / "split.json"
        share = json.loads(split.read_text())["candidate_share"] if split.exists() else 0.0
        assert share == (1.0 if promoted else 0.0)
    else:
        assert course.place.answers() == {"2" if promoted else "1"}, lines[-1]


@pytest.mark.parametrize("part", range(PARTS))
def test_at_every_step(course: Course, part: int) -> None:
    for line, when in course.moments()[part::PARTS]:
        folder = course.killed(line, when)
        recovered = canary("recover", folder)
        assert recovered.code == 0, (line, when, recovered.stderr)
        as_it_should_be(course, folder)
        until(lambda folder=folder: not processes_of(folder), "no process is left")
        state, written = course.place.state(), len(journal(folder))
        assert put_back_only(folder, lambda _: None, ()) == []
        assert course.place.state() == state
        assert len(journal(folder)) == written, "again it did nothing"
        course.place.reset()


@pytest.mark.parametrize("dead", ["router", "triton"])
def test_with_something_dead_at_that_moment(course: Course, dead: str) -> None:
    """It says what it could not put back, and the command that finishes it does so once the dead thing is there."""
    place, router = course.place, course.place.router
    if dead == "router" and router is None:
        pytest.skip("the harness's own split is a file")
    for line in course.kinds():
        folder = course.killed(line, "before")
        until(lambda folder=folder: not processes_of(folder), "no process is left")
        changed = targets(pending(read(folder)))
        if dead == "router":
            assert router is not None
            router.stop()
            named = router.control
            hit = any(not target.startswith("grpc://") for target in changed)
        else:
            for triton in place.tritons.values():
                triton.stop()
            named = place.tritons["blue"].grpc_url
            hit = named in changed
        recovered = canary("recover", folder)
        assert recovered.code == (4 if hit else 0), (course.lines[line - 1], recovered.stderr)
        said = [text for text in recovered.stderr.splitlines() if text.startswith("NOT PUT BACK: ")]
        assert any(named in text for text in said) is hit, said
        assert all(f"triton-canary recover {shlex.quote(str(folder))}" in text for text in said), said
        if dead == "router":
            assert router is not None
            router.start()
        else:
            # Green did not run before: it is blue that comes back, as after a crash with nothing loaded.
            place.tritons["blue"].up(bare=hit)
        finished = canary("recover", folder)
        assert finished.code == 0, (course.lines[line - 1], finished.stderr)
        as_it_should_be(course, folder)
        course.place.reset()


def test_recover_itself_may_be_killed_anywhere(course: Course) -> None:
    """From the last moment of the run at which there is most to be put back, at each line that its recovery writes."""
    at = course.last("models.set", "route.set", "config.write", "hook.run")
    line = 1
    while True:
        folder = course.killed(at, "before")
        killed = command(line, "before", "recover", folder)
        recovered = canary("recover", folder)
        assert recovered.code == 0, recovered.stderr
        as_it_should_be(course, folder)
        course.place.reset()
        if killed.returncode != -signal.SIGKILL:
            return
        line += 1 if ALL else 4


def test_the_next_run_puts_it_back_first(course: Course) -> None:
    folder = course.killed(course.last("route.set"), "after")
    done = course.place.run(course.folder / "next")
    assert f"{folder}: this earlier run had left changes, put back now: " in done.stderr
    assert not owes(read(folder))
    assert done.code in (course.code, 3), done.stderr
    assert course.place.state() == (course.after if done.code == course.code else course.before)
    course.place.reset()
